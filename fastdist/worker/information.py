"""What a worker tells of itself when it is asked: software, stacks, records of executions, its state.

May import: `_core`, `versions`, `errors`, `rpc`.
"""

from __future__ import annotations

import asyncio
import contextlib
import linecache
import os
import sys
import threading
import time
from collections import deque
from types import FrameType
from typing import TYPE_CHECKING, Any

from fastdist import config
from fastdist._core.keys.canonical import decode_key
from fastdist._core.worker.inspect import key_of, state_counts, state_of
from fastdist._core.worker.records import all_tasks, facts
from fastdist._core.worker.story import tell_story
from fastdist.errors import CommClosedError
from fastdist.rpc.fields import flag, items, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.versions import get_versions

if TYPE_CHECKING:
    from fastdist.worker.worker import Worker

#: Executions that wait to be told; the oldest go first.
MAX_RECORDS = 100_000
#: How long they wait.
RECORDS_PAUSE = 0.1
#: Frames of a stack.
MAX_FRAMES = 1_000

Fields = dict[str, Any]


class Information:
    """Answers of one worker.

    Parameters
    ----------
    worker : Worker
        The worker.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._records: deque[tuple[Any, ...]] = deque(maxlen=MAX_RECORDS)
        self._planned = False
        self._recording = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def handlers(self) -> dict[str, Handler]:
        """Operations of the scheduler by name."""
        return {
            "versions": self.versions,
            "call-stack": self.call_stack,
            "story": self.story,
            "situation": self.situation,
            "dump-state": self.dump_state,
            "record-tasks": self.record_tasks,
            "flush-records": self.flush_records,
        }

    def versions(self, peer: Peer, fields: Fields, buffers: list[Any]) -> Fields:
        """The software of this process."""
        return {"versions": get_versions(items(fields, "packages", str, 1_000, default=[]))}

    # -- stacks ------------------------------------------------------------------------------------------------------

    def call_stack(self, peer: Peer, fields: Fields, buffers: list[Any]) -> Fields:
        """(key, frames) of the tasks that execute in threads, all or those with these keys."""
        keys = None if fields.get("keys") is None else set(items(fields, "keys", bytes))
        frames = sys._current_frames()
        stacks = []
        for task_id, thread in self._worker.execution.executing():
            key = key_of(self._worker.core, task_id)
            frame = frames.get(thread)
            if key is not None and frame is not None and (keys is None or key in keys):
                stacks.append([key, stack_of(frame)])
        return {"stacks": stacks}

    def situation(self, peer: Peer, fields: Fields, buffers: list[Any]) -> Fields:
        """Where one task is: its state, since when it executes; of a ready one how many go before it, and whether
        a thread is free.
        """
        core, task_id = self._worker.core, whole(fields, "task")
        begun = self._worker.execution.begun(task_id)
        if begun is not None:
            return {"state": "executing", "since": time.time() - (time.monotonic() - begun)}
        mine = facts(core, task_id)
        state = state_of(core, task_id).name.lower()
        if mine is None or state != "ready":
            return {"state": state}
        tasks = all_tasks(core)
        ready = (facts(core, other) for other, _, name in tasks if name == "READY")
        order = mine["priority"]
        return {
            "state": state,
            "before": sum(each is not None and each["priority"] < order for each in ready),
            "free": sum(name == "EXECUTING" for _, _, name in tasks) < core.slots,
        }

    # -- executions --------------------------------------------------------------------------------------------------

    def record_tasks(self, peer: Peer, fields: Fields, buffers: list[Any]) -> None:
        """Write executions down from now on, or no more."""
        self._loop = asyncio.get_running_loop()
        self._recording = flag(fields, "on")
        # The message may follow the answer to the registration so closely that it comes before that was read.
        if hasattr(self._worker, "execution"):
            self.set_recorder()

    def set_recorder(self) -> None:
        """Have the execution write down what it executes, if that is wanted."""
        self._worker.execution.recorder = self._note if self._recording else None

    def _note(self, task_id: int, start: float, stop: float, nbytes: int, kind: type | None) -> None:
        # In an execution thread, after each task; a deque needs no lock.
        key = key_of(self._worker.core, task_id)
        if key is None:
            return
        shift = time.time() - time.monotonic()
        status, name = ("error", "") if kind is None else ("OK", name_of(kind))
        self._records.append((key, threading.get_ident(), status, nbytes, name, start + shift, stop + shift))
        if not self._planned and self._loop is not None:
            self._planned = True
            # A loop that is closed belongs to a worker that is gone.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._loop.call_later, RECORDS_PAUSE, self._flush)

    def flush_records(self, peer: Peer, fields: Fields, buffers: list[Any]) -> Fields:
        """Tell at once what waits; the answer comes after it."""
        self._flush()
        return {}

    def _flush(self) -> None:
        self._planned = False
        rows = []
        while self._records:
            rows.append(self._records.popleft())
        if rows:
            try:
                self._worker.scheduler.notify("task-records", rows=rows)
            except CommClosedError:
                # Whoever asked is gone, too.
                return

    # -- state -------------------------------------------------------------------------------------------------------

    def story(self, peer: Peer, fields: Fields, buffers: list[Any]) -> Fields:
        """What happened to tasks here, as far as it is remembered."""
        keys = {id: key for key, id in items(fields, "tasks", (list, tuple))}
        return {"story": self._story(keys)}

    def _story(self, keys: dict[int, Any]) -> list[tuple[Any, ...]]:
        # The core counts on another clock than people.
        shift = time.time() - time.monotonic()
        return [
            (keys[id], start, finish, {}, batch, when + shift)
            for id, start, finish, batch, when in tell_story(self._worker.core, list(keys))
        ]

    def dump_state(self, peer: Peer, fields: Fields, buffers: list[Any]) -> Fields:
        """All that is known here, in plain values, keys as text."""
        worker = self._worker
        tasks = {}
        names = {}
        for task_id, key, state in all_tasks(worker.core):
            name = names[task_id] = str(decode_key(key)) if key else f"task {task_id}"
            known = facts(worker.core, task_id) or {}
            tasks[name] = {**known, "key": name, "state": state.lower(), "priority": list(known.get("priority", ()))}
        known_here: Fields = {
            **worker.identity(),
            "pid": os.getpid(),
            "config": {name: plain(config.get(name)) for name in config.SETTINGS},
            "counts": state_counts(worker.core),
            "metrics": worker.get_metrics(),
            "tasks": tasks,
            "log": [list(row) for row in self._story(names)],
        }
        return {"state": known_here}


def plain(value: Any) -> Any:
    """A value that can be written into a file: itself if it is plain, else its text."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def name_of(kind: type) -> str:
    """The name of a type, with its module unless it is builtin."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def stack_of(frame: FrameType | None) -> list[str]:
    """The frames of a task, outermost first, as a traceback shows them; without those that every thread has."""
    lines: list[str] = []
    while frame is not None and len(lines) < MAX_FRAMES:
        code = frame.f_code
        if code.co_filename != threading.__file__:
            source = linecache.getline(code.co_filename, frame.f_lineno, frame.f_globals).strip()
            lines.append(f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}\n\t{source}')
        frame = frame.f_back
    return lines[::-1]
