"""Start `python -m module` as a child that inherits nothing but one private socket, and learn how it ended.

Configuration and secrets travel over the socket, never through arguments or the environment.

May import: `fastdist.errors`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastdist.system.memory import from_maximum


@dataclass(frozen=True)
class ExitStatus:
    """How a process ended: with an exit code, or by a signal (the other one is None)."""

    code: int | None
    signal: int | None

    @classmethod
    def from_return_code(cls, return_code: int) -> ExitStatus:
        """From the convention of `subprocess`: negative numbers are signals."""
        return cls(None, -return_code) if return_code < 0 else cls(return_code, None)

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit code {self.code}"
        try:
            name = signal.Signals(self.signal).name
        except ValueError:
            name = "an unnamed signal"
        return f"signal {self.signal} ({name})"


class ChildProcess:
    """A running child: its process id, its private socket, and its end.

    The child gets two arguments before those of the caller: the descriptor of its end of the socket, and the
    process id of its parent. It leads a process group of its own, so that Ctrl-C in a terminal reaches only
    the parent.

    Parameters
    ----------
    module:
        Name of the module that is run.
    arguments:
        Further arguments; they can be read by every user of the machine.
    environ:
        The child's environment.
    descriptors:
        Further descriptors that the child inherits, under the same numbers.
    capture_errors:
        Whether `errors` gets what the child writes to its error output; somebody has to read it.
    """

    def __init__(
        self,
        module: str,
        *,
        arguments: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        descriptors: tuple[int, ...] = (),
        capture_errors: bool = False,
    ) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.control.setblocking(False)
        program = [sys.executable, *_interpreter_flags(), "-m", module]
        try:
            self._process = subprocess.Popen(
                [*program, str(theirs.fileno()), str(os.getpid()), *arguments],
                stdin=subprocess.DEVNULL,
                env=dict(environ) if environ is not None else None,
                pass_fds=(theirs.fileno(), *descriptors),
                start_new_session=True,
                stderr=subprocess.PIPE if capture_errors else None,
                bufsize=0,
            )
        except BaseException:
            self.control.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        #: The reading end of its error output, if that is captured.
        self.errors = self._process.stderr
        #: The most resident bytes that it had, where the system tells, once it is reaped.
        self.peak_memory: int | None = None
        self._watcher: Callable[[], None] | None = None

    @property
    def exit_status(self) -> ExitStatus | None:
        """How the child ended; None until `reap` or `watch` has seen it."""
        return_code = self._process.returncode
        return None if return_code is None else ExitStatus.from_return_code(return_code)

    def kill(self) -> None:
        """End the child at once, with SIGKILL."""
        self._process.kill()

    def terminate(self) -> None:
        """Ask the child to end, with SIGTERM."""
        self._process.terminate()

    def watch(self, loop: asyncio.AbstractEventLoop, callback: Callable[[ExitStatus], None]) -> None:
        """Call `callback(exit status)` in `loop`, once, when the child has ended.

        What the child left running in its process group is asked to end first.
        """

        def ended() -> None:
            self.stop_watching()
            callback(self.reap())

        descriptor = _open_process(self.pid)
        if descriptor < 0:
            threading.Thread(
                target=_wait_in_thread,
                args=(self.pid, loop, ended),
                name=f"fastdist-wait-{self.pid}",
                daemon=True,
            ).start()
            return

        def stop() -> None:
            if not loop.is_closed():
                loop.remove_reader(descriptor)
            os.close(descriptor)

        loop.add_reader(descriptor, ended)
        self._watcher = stop

    def stop_watching(self) -> None:
        """Forget the callback of `watch`."""
        stop, self._watcher = self._watcher, None
        if stop is not None:
            stop()

    def reap(self, timeout: float | None = None) -> ExitStatus:
        """Wait for the end of the child, end its process group, and return the exit status.

        Raises
        ------
        TimeoutError
            The child still runs after `timeout` seconds.
        """
        if self._process.returncode is None:
            self._wait_unreaped(timeout)
            # Before the child is reaped: until then its process group cannot belong to anybody else.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGTERM)
            self._collect()
        return_code = self._process.wait()
        return ExitStatus.from_return_code(return_code)

    def _collect(self) -> None:
        """Reap the child, and learn how much memory it took."""
        with contextlib.suppress(ChildProcessError):
            _, status, usage = os.wait4(self.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self.peak_memory = from_maximum(usage.ru_maxrss)

    def _wait_unreaped(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        flags = os.WEXITED | os.WNOWAIT | (0 if deadline is None else os.WNOHANG)
        with contextlib.suppress(ChildProcessError):
            while os.waitid(os.P_PID, self.pid, flags) is None:
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
                time.sleep(0.002)

    def __repr__(self) -> str:
        return f"<ChildProcess {self.pid}: {self.exit_status or 'running'}>"


def child_environ(defaults: Mapping[str, str], overrides: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child: `defaults`, then the environment of this process, then `overrides`.

    `PYTHONPATH` is this process's whole import path, so that the child finds the same modules.
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**defaults, **os.environ, **overrides, "PYTHONPATH": path}


def _interpreter_flags() -> list[str]:
    """The options of this interpreter, and no folder of the moment in front of the import path."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    if sys.version_info >= (3, 11) and "-P" not in flags:
        flags = ["-P", *flags]
    return flags


def _open_process(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def _wait_in_thread(pid: int, loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    # The loop may have been closed meanwhile: then nobody asks any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(ended)
