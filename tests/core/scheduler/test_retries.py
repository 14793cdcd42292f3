"""The core alone: waits for another attempt, and workers that are avoided."""

from __future__ import annotations

from typing import Any

from fastdist._core.codec.frames import DoneStatus
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.core import SchedulerCore
from fastdist._core.scheduler.inspect import attempts
from fastdist.retries import AGAIN, ELSEWHERE, FINAL
from tests.core.scheduler.frames import EPOCH, DoneRow, TaskRow, done_frame, read_run, tasks_frame

KEY = encode_key("x")


class OneTask:
    """A core with some workers and one task that may be tried again."""

    def __init__(self, workers: int = 2, retries: int = 3) -> None:
        self.core = SchedulerCore(EPOCH, (1, 2), {})
        for number in range(workers):
            self.core.on_worker(f"tcp://10.0.0.{number}:1", 1, False, {})
        client = self.core.on_client("client")
        option = self.core.on_options(0.0, retries, False, False, {}, b"", None)
        self.core.on_tasks(client, tasks_frame(1, [TaskRow(KEY, option=1)]), [option], 0.0)
        self.client = client
        self.runs: list[tuple[int, Any]] = []
        self.act()

    def act(self) -> list[tuple[int, Any]]:
        """Decide; the new assignments as (worker, row)."""
        new = [
            (number, row)
            for target, number, kind, body in self.core.act()
            if target == 0 and kind == 5
            for row in read_run(number, body).rows
        ]
        self.runs += new
        self.core.validate()
        return new

    def fail(self, verdict: int, now: float) -> list[tuple[int, Any]]:
        """The newest attempt raises; what is assigned at once."""
        worker, row = self.runs[-1]
        body = done_frame([DoneRow(row.id, row.attempt, DoneStatus.DONE_ERRED, verdict, 0.1, 0, b"error")])
        self.core.on_done(worker, body, now)
        return self.act()

    @property
    def view(self) -> Any:
        """What the core knows of the task."""
        return self.core.task_view(KEY)


def test_a_task_waits_until_its_time() -> None:
    one = OneTask()
    assert one.fail(AGAIN | 2_500_000, now=10.0) == []
    assert (one.view["state"], one.view["retry_at"]) == ("no_worker", 12.5)
    assert one.core.next_deadline() == 12.5
    one.core.on_tick(12.4)
    assert one.act() == []
    one.core.on_tick(12.5)
    assert len(one.act()) == 1
    assert one.core.next_deadline() is None
    assert (one.view["state"], one.view["retry_at"], one.view["attempts"]) == ("processing", None, 2)


def test_a_worker_that_comes_does_not_end_the_wait() -> None:
    one = OneTask()
    one.fail(AGAIN | 1_000_000, now=0.0)
    one.core.on_worker("tcp://10.0.0.9:1", 1, False, {})
    assert one.act() == []


def test_a_cancelled_task_does_not_wait() -> None:
    one = OneTask()
    one.fail(AGAIN | 1_000_000, now=0.0)
    one.core.on_cancel(one.client, [KEY], False, b"")
    one.act()
    assert one.view is None
    assert one.core.next_deadline() is None
    one.core.on_tick(5.0)
    assert one.act() == []


def test_the_worker_of_the_failure_is_avoided() -> None:
    one = OneTask(workers=3)
    for _ in range(3):
        before = one.runs[-1][0]
        ((worker, _),) = one.fail(AGAIN | ELSEWHERE, now=0.0)
        assert worker != before


def test_an_only_worker_is_not_avoided() -> None:
    one = OneTask(workers=1)
    assert len(one.fail(AGAIN | ELSEWHERE, now=0.0)) == 1


def test_the_worker_hears_how_often_it_failed() -> None:
    one = OneTask(retries=2)
    one.fail(AGAIN, now=0.0)
    one.fail(0, now=0.0)
    assert [row.failures for _, row in one.runs] == [0, 1, 2]
    assert one.fail(AGAIN, now=0.0) == []
    assert (one.view["state"], one.view["attempts"]) == ("erred", 3)


def test_a_final_failure_ends_it() -> None:
    one = OneTask()
    assert one.fail(FINAL, now=0.0) == []
    assert (one.view["state"], one.view["attempts"]) == ("erred", 1)


def test_attempts_by_client_ids() -> None:
    one = OneTask()
    assert attempts(one.core.model, one.client, [1, 2]) == [1, None]
