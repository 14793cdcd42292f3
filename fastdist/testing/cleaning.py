"""What a test must give back: threads, processes, connections, default clients. May import: every layer below."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastdist.client.current import default_client
from fastdist.loop import LoopThread

#: Seconds that threads and processes get to end after their test.
PATIENCE = 5.0
#: Threads that live as long as the process by design of somebody else.
HARMLESS_THREADS = ("pydevd", "OpenBLAS", "loky", "fastdist-loop", "Dask-Callback-Thread")


def _threads() -> dict[int | None, str]:
    return {
        thread.ident: thread.name
        for thread in threading.enumerate()
        if thread.is_alive() and not thread.name.startswith(HARMLESS_THREADS)
    }


def _children() -> dict[int, str]:
    found = {}
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            for pid in Path(f"/proc/self/task/{thread}/children").read_text().split():
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
                # multiprocessing keeps helpers of its own.
                if command and b"resource_tracker" not in command and b"forkserver" not in command:
                    found[int(pid)] = command.decode(errors="replace")
    return found


def _wait_until_gone(left: Callable[[], list[str]], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while leaked := left():
        if time.monotonic() > deadline:
            raise AssertionError(f"the test left {what} behind: {', '.join(leaked)}")
        time.sleep(0.01)


@contextlib.contextmanager
def check_thread_leak() -> Iterator[None]:
    """Every thread that is started meanwhile ends soon after."""
    before = _threads()
    yield
    _wait_until_gone(lambda: [name for ident, name in _threads().items() if ident not in before], "threads")


@contextlib.contextmanager
def check_process_leak(check: bool = True) -> Iterator[None]:
    """Every child process that is started meanwhile ends soon after."""
    before = _children() if check else {}
    yield
    if check:
        _wait_until_gone(
            lambda: [f"{pid} ({text})" for pid, text in _children().items() if pid not in before], "processes"
        )


@contextlib.contextmanager
def check_instances() -> Iterator[None]:
    """No default client is left behind that was none before."""
    before = _default()
    yield
    left = _default()
    if left is None or left is before:
        return
    text = repr(left)
    if not left.asynchronous:
        left.close()
    raise AssertionError(f"the test left {text} behind as default client")


def _default() -> Any:
    try:
        return default_client()
    except ValueError:
        return None


@contextlib.contextmanager
def clean(threads: bool = True, instances: bool = True, processes: bool = True) -> Iterator[None]:
    """Threads, processes and default clients that come meanwhile are gone soon after."""
    with contextlib.ExitStack() as stack:
        if threads:
            stack.enter_context(check_thread_leak())
        stack.enter_context(check_process_leak(check=processes))
        if instances:
            stack.enter_context(check_instances())
        yield


@contextlib.contextmanager
def held_loop() -> Iterator[LoopThread]:
    """The loop thread of this process, alive meanwhile."""
    thread = LoopThread.acquire()
    try:
        yield thread
    finally:
        thread.release()
