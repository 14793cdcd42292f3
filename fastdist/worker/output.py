"""What tasks print and log, on its way to the scheduler.

`sys.stdout` and `sys.stderr` are replaced by streams that also note, for what a task writes, which task it was; in a
process that holds only workers, a handler of the root logger does the same for what is logged. A line is sent at once
if none was sent a moment ago, and soon otherwise. May import: `_core`, `context`, `errors`.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgpack

from fastdist._core.worker.inspect import key_of, submission_of
from fastdist.context import current_task
from fastdist.errors import CommClosedError

if TYPE_CHECKING:
    from fastdist.worker.worker import Worker

#: Lines that one worker sends in a second, and that it may send at once after a pause; more are dropped and counted.
LINES_PER_SECOND = 1_000
BURST = 2_000
#: Characters of one line.
MAX_LINE = 8_192
#: Seconds between two messages, and after which the beginning of a line is sent without its end.
PAUSE = 0.05
PARTIAL_AGE = 0.2

#: time, stream ("stdout", "stderr", "log" or "note"), text
Line = tuple[float, str, str]


class TaskOutput:
    """What the tasks of one worker wrote.

    Parameters
    ----------
    worker : Worker
        Where they execute.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        # A line can be written while another one is: by a finaliser, in the same thread.
        self._lock = threading.RLock()
        self._partial: dict[tuple[bytes, str], tuple[float, str]] = {}
        self._lines: dict[bytes, list[Line]] = {}
        self._dropped: dict[bytes, int] = {}
        self._submissions: dict[bytes, int] = {}
        self._room = float(BURST)
        self._room_at = self._sent_at = time.monotonic()
        self._planned = False

    def add(self, task_id: int, stream: str, text: str) -> None:
        """A task wrote a text; in any thread."""
        key = key_of(self._worker.core, task_id)
        if not key or not text:
            return
        with self._lock:
            # Asked now: the task may be gone when its lines are sent.
            if key not in self._submissions:
                self._submissions[key] = submission_of(self._worker.core, task_id)
            _, before = self._partial.pop((key, stream), (0.0, ""))
            *whole, rest = (before + text).split("\n")
            for line in whole:
                self._add_line(key, stream, line)
            if len(rest) > MAX_LINE:
                self._add_line(key, stream, rest)
            elif rest:
                self._partial[key, stream] = (time.monotonic(), rest)
            if self._lines and time.monotonic() - self._sent_at > PAUSE:
                self._send()
            if (self._lines or self._partial or self._dropped) and not self._planned:
                self._plan()

    def _add_line(self, key: bytes, stream: str, line: str) -> None:
        now = time.monotonic()
        self._room = min(float(BURST), self._room + (now - self._room_at) * LINES_PER_SECOND)
        self._room_at = now
        # Once one was dropped, all are until that has been said: so the count stands where they are missing.
        if self._room < 1 or self._dropped:
            self._dropped[key] = self._dropped.get(key, 0) + 1
            return
        self._room -= 1
        if len(line) > MAX_LINE:
            line = f"{line[:MAX_LINE]}... ({len(line) - MAX_LINE} more characters)"
        self._lines.setdefault(key, []).append((time.time(), stream, line))

    def _note_dropped(self) -> None:
        for key, count in self._dropped.items():
            text = f"... {count} lines dropped: this worker may send {LINES_PER_SECOND} a second"
            self._lines.setdefault(key, []).append((time.time(), "note", text))
        self._dropped.clear()

    def _plan(self) -> None:
        self._planned = True
        loop = self._worker.event_loop
        # A loop that is closed belongs to a worker that is gone.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: loop.call_later(PAUSE, self.flush))

    def flush(self, *, last: bool = False) -> None:
        """Send what waits; the `last` time also what waits for the end of its line."""
        with self._lock:
            self._planned = False
            now = time.monotonic()
            for (key, stream), (since, text) in list(self._partial.items()):
                if last or now - since >= PARTIAL_AGE:
                    del self._partial[key, stream]
                    self._add_line(key, stream, text)
            self._note_dropped()
            self._send()
            if self._partial and not last:
                self._plan()

    def _send(self) -> None:
        if not self._lines:
            return
        lines, self._lines = self._lines, {}
        submissions = [self._submissions.get(key, 0) for key in lines]
        waiting = {key for key, _ in self._partial} | self._dropped.keys()
        self._submissions = {key: number for key, number in self._submissions.items() if key in waiting}
        self._sent_at = time.monotonic()
        name = str(self._worker.name)
        try:
            # Under the lock: what comes later is sent later.
            self._worker.scheduler.notify(
                "task-output",
                keys=list(lines),
                submissions=submissions,
                counts=[len(each) for each in lines.values()],
                buffers=[msgpack.packb((name, each), unicode_errors="replace") for each in lines.values()],
            )
        except CommClosedError:
            # Nobody is left to read it; it was written to the streams of this process, too.
            return


def note_output(stream: str, text: str) -> None:
    """Note what the running code wrote, if it is a task."""
    task = current_task.get()
    if task is not None and task.task_id:
        output = getattr(task.worker, "task_output", None)
        if output is not None:
            output.add(task.task_id, stream, text)


class TaskStream:
    """A text stream that notes what tasks write to it.

    Parameters
    ----------
    stream : file
        Where all that is written goes, from tasks or not.
    name : str
        "stdout" or "stderr".
    """

    def __init__(self, stream: Any, name: str) -> None:
        self._stream = stream
        self._name = name

    def write(self, text: str) -> int:
        """Write a text."""
        written: int = self._stream.write(text)
        note_output(self._name, text)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    @property
    def wrapped(self) -> Any:
        """The stream where all that is written goes."""
        return self._stream

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class TaskLogHandler(logging.Handler):
    """Notes what tasks log, unless it is noted already because it goes to a TaskStream."""

    def emit(self, record: logging.LogRecord) -> None:
        """Note one record."""
        try:
            if current_task.get() is not None and not _is_shown(record.name):
                note_output("log", f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)


def _is_shown(name: str) -> bool:
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(isinstance(getattr(each, "stream", None), TaskStream) for each in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def capture_output() -> None:
    """Note what tasks write from now on; for processes that hold only workers."""
    if isinstance(sys.stdout, TaskStream):
        return
    sys.stdout = TaskStream(sys.stdout, "stdout")
    sys.stderr = TaskStream(sys.stderr, "stderr")
    handler = TaskLogHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s - %(name)s - %(message)s"))
    logging.getLogger().addHandler(handler)


class SharedStreams:
    """The standard streams of a process that holds workers and other code: they note what tasks write meanwhile.

    Handlers of logging are left alone there; what they write to the standard streams is noted, too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._ours: dict[str, TaskStream] = {}

    def take(self) -> None:
        """A worker begins; the first one changes the streams, if they do not note already what tasks write."""
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if stream is not None and not isinstance(stream, TaskStream):
                    self._ours[name] = TaskStream(stream, name)
                    setattr(sys, name, self._ours[name])

    def give_back(self) -> None:
        """A worker has ended; after the last one the streams are what they were, if nobody else changed them."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            for name, stream in self._ours.items():
                if getattr(sys, name) is stream:
                    setattr(sys, name, stream.wrapped)
            self._ours.clear()


shared_streams = SharedStreams()
