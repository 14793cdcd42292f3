"""A worker core without threads or event loop, and how its tests talk to it."""

from __future__ import annotations

import json

from fastdist._core.codec.frames import DoneStatus
from fastdist._core.worker import inspect, manual
from fastdist._core.worker.core import WorkerCore
from tests.core.worker.frames import EPOCH, Row, free_frame, read_done, retract_frame, run_frame

ME = 1
FINISHED, ERRED, RESCHEDULE = DoneStatus.DONE_FINISHED, DoneStatus.DONE_ERRED, DoneStatus.DONE_RESCHEDULE
RETRACTED, REFUSED = DoneStatus.DONE_RETRACTED, DoneStatus.DONE_RETRACT_REFUSED
REPLICA, MISSING, STARTED = DoneStatus.DONE_REPLICA, DoneStatus.DONE_MISSING, DoneStatus.DONE_STARTED


class Driver:
    """A core whose invariants are checked after every event."""

    def __init__(self, **options) -> None:
        options.setdefault("slots", 100)
        self.core = WorkerCore(EPOCH, ME, read_option=json.loads, **options)
        self.now = 1.0

    def check(self) -> None:
        self.now += 1
        inspect.validate(self.core)

    def run(self, *rows: Row, **extras) -> None:
        self.core.on_run(run_frame(rows, **extras), self.now)
        self.check()

    def free(self, *task_ids: int, functions=()) -> list[int]:
        dropped = self.core.on_free(free_frame(task_ids, functions), self.now)
        self.check()
        return dropped

    def retract(self, *tasks: tuple[int, int]) -> None:
        self.core.on_retract(retract_frame(tasks), self.now)
        self.check()

    def pop(self) -> int | None:
        task = manual.pop(self.core)
        self.check()
        return None if task is None else task["task_id"]

    def finish(self, task_id: int, **fields) -> bool:
        wanted = manual.finished(self.core, task_id, now=self.now, **fields)
        self.check()
        return wanted

    def fail(self, task_id: int, failure: bytes = b"no") -> None:
        manual.failed(self.core, task_id, failure, now=self.now)
        self.check()

    def fetched(self, peer: int, asked: list[int], found: dict[int, tuple[int, int]]) -> None:
        self.core.on_fetched(peer, asked, found, self.now)
        self.check()

    def rows(self) -> list[tuple[int, int, DoneStatus]]:
        return [row[:3] for row in read_done(self.core.take_done())]

    def states(self) -> dict[str, int]:
        return {name: count for name, count in inspect.state_counts(self.core).items() if count}

    def state(self, task_id: int) -> str:
        return inspect.state_of(self.core, task_id).name
