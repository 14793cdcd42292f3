"""What a nanny sees of its worker's process: its last words, how much memory it took, whether the system killed it.

The error output of the process comes through a pipe and goes on to that of the nanny, line by line; the last lines are
kept for the report of its end. May import: `fastdist.system`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import deque
from typing import Any

from fastdist.system.memory import out_of_memory_kills, own_peak_memory, peak_memory
from fastdist.system.processes import ChildProcess, ExitStatus

#: Lines of the error output, and of the stack of a crash, that are kept, and their length.
MAX_LINES = 100
MAX_LINE = 500
READ_BYTES = 65536
#: What the interpreter writes when it crashes, and before the stack of the thread that did it.
CRASH = "Fatal Python error"
CULPRIT = ("Current thread", "Stack (most recent call first)")


class LastWords:
    """The last lines of what was written, and the stack of a crash in it.

    Examples
    --------
    >>> words = LastWords()
    >>> words.add(b"one\\ntw")
    >>> words.add(b"o\\n")
    >>> list(words.lines)
    ['one', 'two']
    """

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=MAX_LINES)
        #: The line that names the crash and the stack of the thread that did it; innermost call first.
        self.stack: list[str] = []
        self._rest = b""
        self._in_stack = False

    def add(self, content: bytes) -> None:
        """Take what was written."""
        *lines, rest = (self._rest + content).split(b"\n")
        # A line that never ends must not be kept whole.
        self._rest = rest[-4 * MAX_LINE :]
        for line in lines:
            self._take(line.decode(errors="replace")[:MAX_LINE])

    def end(self) -> None:
        """Nothing more comes: what has no end of line is a line."""
        if self._rest:
            self.add(b"\n")

    def _take(self, line: str) -> None:
        self.lines.append(line)
        if line.startswith(CRASH):
            self.stack, self._in_stack = [line], False
        elif self.stack and line.startswith(CULPRIT):
            self._in_stack = True
        elif not line.strip():
            self._in_stack = False
        elif self._in_stack and len(self.stack) < MAX_LINES:
            self.stack.append(line)


class Observation:
    """Looks at one process from its start to its end.

    Parameters
    ----------
    process : ChildProcess
        Started with `capture_errors`.
    loop : event loop
        Reads its error output.
    memory_limit : int, optional
        Bytes that it may use, for the report.
    """

    def __init__(
        self, process: ChildProcess, loop: asyncio.AbstractEventLoop, memory_limit: int | None = None
    ) -> None:
        self._process = process
        self._loop = loop
        self._memory_limit = memory_limit
        self._words = LastWords()
        self._peak = 0
        # The peak of a process that starts includes that of the one that it was forked from.
        self._inherited_peak = own_peak_memory()
        self._kills = out_of_memory_kills()
        self._descriptor = -1 if process.errors is None else process.errors.fileno()
        if self._descriptor >= 0:
            os.set_blocking(self._descriptor, False)
            loop.add_reader(self._descriptor, self._read)

    def look(self) -> None:
        """Note how much memory it has taken so far."""
        with contextlib.suppress(ProcessLookupError):
            self._peak = max(self._peak, peak_memory(self._process.pid))

    def end(self, status: ExitStatus) -> dict[str, Any]:
        """What is known of the process now that it has ended, in plain values."""
        while self._descriptor >= 0 and self._read():
            pass
        self.stop()
        self._words.end()
        reaped = self._process.peak_memory or 0
        if reaped > self._inherited_peak:
            self._peak = max(self._peak, reaped)
        return {
            "exit_code": status.code,
            "signal": status.signal,
            "out_of_memory": self._out_of_memory(status),
            "peak_memory": self._peak or None,
            "memory_limit": self._memory_limit,
            "stderr": list(self._words.lines),
            "stack": list(self._words.stack),
        }

    def stop(self) -> None:
        """Read no more."""
        if self._descriptor >= 0:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._descriptor)
            self._descriptor = -1
            assert self._process.errors is not None
            self._process.errors.close()

    def _out_of_memory(self, status: ExitStatus) -> str | None:
        if status.signal != signal.SIGKILL:
            return None
        now = out_of_memory_kills()
        return next((place for place, count in now.items() if count > self._kills.get(place, count)), None)

    def _read(self) -> bool:
        """Pass on what one look at the pipe gives; False if that is nothing."""
        try:
            content = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            content = b""
        if not content:
            self.stop()
            return False
        self._words.add(content)
        # The nanny may have no error output itself.
        with contextlib.suppress(OSError):
            os.write(2, content)
        return True
