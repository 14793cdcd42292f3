"""Interrupts of execution threads, without a cluster: they hit the task that they are for, or nothing.

May import: fastdist, pytest, the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastdist._core.codec.frames import DoneStatus
from fastdist._core.keys.canonical import encode_key
from fastdist._core.worker import inspect
from fastdist._core.worker.core import WorkerCore
from fastdist.context import get_current_task
from fastdist.errors import TaskInterrupted, TaskTimeout
from fastdist.protocol.arguments import serialize_arguments
from fastdist.protocol.failures import load_failure
from fastdist.protocol.functions import FunctionCache
from fastdist.worker.execution import Execution
from fastdist.worker.interrupting import timeout_of
from fastdist.worker.store import DictStore
from tests.core.worker.frames import EPOCH, Done, Row, free_frame, read_done, run_frame

started = threading.Semaphore(0)
go_on = threading.Event()
seen: list[Any] = []


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    go_on.clear()
    seen.clear()
    while started.acquire(blocking=False):
        pass
    yield
    go_on.set()


class Harness:
    """A core and its execution, on a loop in another thread."""

    def __init__(self, options: bytes = b"") -> None:
        self.loop = asyncio.new_event_loop()
        self.loop_thread = threading.Thread(target=self.loop.run_forever)
        self.loop_thread.start()
        self.core = WorkerCore(EPOCH, 1, slots=1)
        self.options = {1: options} if options else {}
        self.rows: list[Done] = []
        self.started: list[Done] = []
        self.changed = threading.Condition()
        self.execution = Execution(
            self.core, DictStore(), send=self.send, loop=self.loop, measure=sys.getsizeof, worker=None
        )
        self.execution.start_threads(1)

    def send(self, body: bytes) -> None:
        with self.changed:
            for row in read_done(body):
                ended = row.status != DoneStatus.DONE_STARTED
                (self.rows if ended else self.started).append(row)
            self.changed.notify_all()

    def submit(self, function: Callable[..., Any], *task_ids: int, attempt: int = 1) -> None:
        arguments, _ = serialize_arguments((), None, type(None))
        rows = [
            Row(
                task_id,
                function=1,
                key=encode_key(f"task-{task_id}"),
                arguments=arguments,
                inputs={},
                order=task_id,
                option=1 if self.options else 0,
                attempt=attempt,
            )
            for task_id in task_ids
        ]
        pickled = FunctionCache().serialize_function(function).payload
        self.core.on_run(run_frame(rows, {1: pickled}, options=self.options), time.monotonic())

    def free(self, *task_ids: int) -> None:
        self.core.on_free(free_frame(task_ids), time.monotonic())

    def wait(self, n: int) -> list[Done]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.rows) >= n, 20), f"{self.rows} instead of {n} rows"
            return list(self.rows)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.execution.close)
        assert self.execution.join(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.loop_thread.join()
        self.loop.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Harness]]:
    with contextlib.ExitStack() as stack:

        def make_harness(**options: Any) -> Harness:
            return stack.enter_context(contextlib.closing(Harness(**options)))

        yield make_harness


def spins() -> None:
    started.release()
    try:
        while not go_on.is_set():
            pass
    except BaseException as error:
        seen.append(error)
        raise


def swallows() -> str:
    started.release()
    try:
        while not go_on.is_set():
            pass
    except TaskInterrupted:
        seen.append("cleaned up")
    return "done all the same"


def notes_its_task() -> None:
    # Long enough to be hit now and then, short enough to end by itself.
    number = get_current_task().task_id
    try:
        for _ in range(random.randrange(4000)):
            pass
    except TaskInterrupted:
        seen.append(number)
        raise


def test_a_task_that_is_not_wanted_any_more_is_interrupted(make) -> None:
    harness = make()
    harness.submit(spins, 1)
    assert started.acquire(timeout=20)
    harness.free(1)
    assert harness.execution.stopper.stop([(1, 1)], []) == [(1, 1)]
    harness.submit(notes_its_task, 2)
    ended, row = harness.wait(2)
    assert (ended.task_id, ended.status) == (1, DoneStatus.DONE_RESCHEDULE), "its thread is free"
    assert (row.task_id, row.status) == (2, DoneStatus.DONE_FINISHED)
    assert [type(error) for error in seen] == [TaskInterrupted]
    assert inspect.state_of(harness.core, 1).name == "RELEASED"


def test_another_attempt_of_the_same_task_is_not_interrupted(make) -> None:
    harness = make()
    harness.submit(spins, 1, attempt=2)
    assert started.acquire(timeout=20)
    assert harness.execution.stopper.stop([(1, 1)], []) == []
    go_on.set()
    (row,) = harness.wait(1)
    assert row.status == DoneStatus.DONE_FINISHED
    assert not seen


def test_a_task_that_was_let_go_of_is_found_by_its_key(make) -> None:
    harness = make()
    harness.submit(spins, 1)
    assert started.acquire(timeout=20)
    key = encode_key("task-1")
    assert harness.execution.stopper.stop([], [key]) == [], "somebody wants it still"
    harness.free(1)
    assert harness.execution.stopper.executing([], [key]) == [(1, 1)]
    assert not seen
    assert harness.execution.stopper.stop([], [key]) == [(1, 1)]


def test_a_task_that_is_wanted_again_while_it_is_interrupted_starts_over(make) -> None:
    harness = make()
    harness.submit(swallows, 1)
    assert started.acquire(timeout=20)
    harness.free(1)
    harness.execution.stopper.stop([(1, 1)], [])
    harness.submit(swallows, 1, attempt=2)
    (row,) = harness.wait(1)
    assert row.status in (DoneStatus.DONE_RESCHEDULE, DoneStatus.DONE_FINISHED)
    if row.status == DoneStatus.DONE_RESCHEDULE:
        assert (row.attempt, seen) == (2, ["cleaned up"])


def test_ten_thousand_interrupts_at_random_moments_hit_no_other_task(make) -> None:
    harness = make()
    stopped: list[int] = []
    first = 1
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        while len(stopped) < 10_000:
            ids = range(first, first + 100)
            first += 100
            harness.submit(notes_its_task, *ids)
            while len(harness.rows) < first - 1:
                # Mostly the one that executes now, sometimes one that has ended or has not begun.
                for number, _ in harness.execution.executing() or [(random.choice(ids), 0)]:
                    stopped.append(number)
                    harness.execution.stopper.stop([(number, 1)], [])
                time.sleep(random.random() * 5e-5)
                if inspect.state_counts(harness.core)["ready"] == 0:
                    harness.wait(first - 1)
    finally:
        sys.setswitchinterval(interval)
    rescheduled = {row.task_id for row in harness.rows if row.status == DoneStatus.DONE_RESCHEDULE}
    assert {row.status for row in harness.rows} == {DoneStatus.DONE_RESCHEDULE, DoneStatus.DONE_FINISHED}
    assert set(seen) <= rescheduled <= set(stopped)
    assert len(seen) > 100, "most of them came at the right time"
    assert len(harness.rows) == first - 1


def test_a_task_over_its_timeout_fails_with_the_place_where_it_was(make) -> None:
    harness = make(options=b"\x81\xa7timeout\xcb?\xa9\x99\x99\x99\x99\x99\x9a")
    assert timeout_of(harness.options[1]) == 0.05
    harness.submit(spins, 1)
    (row,) = harness.wait(1)
    error = load_failure(row.payload)
    assert (row.status, type(error)) == (DoneStatus.DONE_ERRED, TaskTimeout)
    assert (error.key, error.timeout) == ("task-1", 0.05)
    assert "in spins" in error.stack
    assert str(error).startswith("the task 'task-1' executed for longer than its timeout of 0.05 s; it was here:\n")
    assert [type(each) for each in seen] == [TaskInterrupted]


def test_a_task_that_ends_in_time_knows_nothing_of_its_timeout(make) -> None:
    harness = make(options=b"\x81\xa7timeout\x14")
    harness.submit(notes_its_task, 1, 2, 3)
    assert {row.status for row in harness.wait(3)} == {DoneStatus.DONE_FINISHED}
    assert not seen


def ignores() -> str:
    started.release()
    while not go_on.is_set():
        with contextlib.suppress(TaskInterrupted):
            go_on.wait(0.01)
    return "late"


def test_a_task_that_does_not_listen_fails_in_time_and_keeps_its_slot(make) -> None:
    harness = make(options=b"\x81\xa7timeout\xcb?\xa9\x99\x99\x99\x99\x99\x9a")
    harness.submit(ignores, 1)
    (row,) = harness.wait(1)
    assert (row.status, type(load_failure(row.payload))) == (DoneStatus.DONE_ERRED, TaskTimeout)
    assert inspect.state_counts(harness.core)["executing"] == 1
    harness.options = {}
    harness.submit(notes_its_task, 2)
    assert inspect.state_counts(harness.core)["ready"] == 1, "the slot is not free"
    go_on.set()
    ended = [(row.task_id, row.status) for row in harness.wait(3)[1:]]
    assert ended == [(1, DoneStatus.DONE_RESCHEDULE), (2, DoneStatus.DONE_FINISHED)]


async def sleeps() -> None:
    started.release()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise


def test_a_coroutine_is_cancelled(make) -> None:
    harness = make()
    harness.submit(sleeps, 1)
    assert started.acquire(timeout=20)
    harness.free(1)
    stop = harness.execution.stopper.stop
    harness.loop.call_soon_threadsafe(stop, [(1, 1)], [])
    harness.submit(notes_its_task, 2)
    assert [row.task_id for row in harness.wait(2)] == [1, 2]
    assert seen == ["cancelled"]


def test_a_coroutine_over_its_timeout_fails_with_the_place_where_it_was(make) -> None:
    harness = make(options=b"\x81\xa7timeout\xcb?\xa9\x99\x99\x99\x99\x99\x9a")
    harness.submit(sleeps, 1)
    (row,) = harness.wait(1)
    error = load_failure(row.payload)
    assert type(error) is TaskTimeout
    assert "in sleeps" in error.stack
    assert "in sleep\n" in error.stack, "what it waits for is part of it"
    assert seen == ["cancelled"]
