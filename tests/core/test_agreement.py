"""A scheduler core and worker cores that speak with each other: digests, declarations, adoption by another scheduler.

May import: fastdist._core, its siblings.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from fastdist._core.codec.frames import FrameKind
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.core import TO_WORKER, SchedulerCore
from fastdist._core.worker import declaring, inspect, manual
from fastdist._core.worker.core import WorkerCore
from tests.core.scheduler.frames import TaskRow, release_frame, tasks_frame
from tests.core.worker.frames import free_frame

FIRST_LIFE, SECOND_LIFE = 5 << 40, 9 << 40


class Pair:
    """One scheduler, one worker, and nothing between them but frames."""

    def __init__(self, slots: int = 2) -> None:
        self.scheduler = SchedulerCore(FIRST_LIFE, (1, 2), {})
        self.epoch = FIRST_LIFE
        self.number = self.scheduler.on_worker("tcp://10.0.0.1:1", slots, False, {})
        self.client = self.scheduler.on_client("client")
        self.worker = WorkerCore(FIRST_LIFE, self.number, slots=slots)
        self.next_id, self.submission = 1, 0
        self.ids: dict[str, int] = {}
        self.executing: list[int] = []
        self.sent = self.applied = 0

    def submit(self, *keys: str, needs: Sequence[str] = ()) -> None:
        """Submit tasks by key; a key that was named before is the same task."""
        self.submission += 1
        wanted = tuple(self.ids[need] for need in needs)
        rows = [TaskRow(encode_key(key), b"inc", needs=wanted) for key in keys]
        body = tasks_frame(self.next_id, rows, submission=self.submission)
        for key in keys:
            self.ids[key] = self.next_id
            self.next_id += 1
        self.scheduler.on_tasks(self.client, body, [], 0.0)

    def release(self, key: str) -> None:
        self.scheduler.on_release(self.client, release_frame([self.ids[key]]))

    def deliver(self) -> None:
        """Have everything arrive that was sent, on both sides, until nothing is sent any more."""
        for _ in range(100):
            commands = [command for command in self.scheduler.act() if command[0] == TO_WORKER]
            for _, _, kind, body in commands:
                apply = {
                    FrameKind.RUN: self.worker.on_run,
                    FrameKind.FREE: self.worker.on_free,
                    FrameKind.RETRACT: self.worker.on_retract,
                }[kind]
                apply(body, 1.0)
            body = self.worker.take_done()
            if body is not None:
                self.scheduler.on_done(self.number, body)
            if not commands and body is None:
                break
        self.check()

    def check(self) -> None:
        self.scheduler.validate()
        inspect.validate(self.worker)

    def step(self) -> None:
        """The worker starts what it can."""
        while (task := manual.pop(self.worker)) is not None:
            self.executing.append(task["task_id"])

    def end(self, dice: random.Random, fail: float = 0.0) -> None:
        """One execution ends."""
        self.step()
        if not self.executing:
            return
        task_id = self.executing.pop(dice.randrange(len(self.executing)))
        if dice.random() < fail:
            manual.failed(self.worker, task_id, b"no")
        else:
            manual.finished(self.worker, task_id, nbytes=8)

    def work_off(self) -> None:
        """Do everything that there is to do."""
        for _ in range(200):
            self.deliver()
            self.step()
            if not self.executing:
                return
            self.end(random.Random(0))
        raise AssertionError("it never ends")

    def agree(self) -> bool | None:
        body, held, given, received = declaring.digests(self.worker)
        assert body is None
        return self.scheduler.agrees(self.number, held, given, received)

    def heal(self) -> None:
        """The exchange that follows a disagreement."""
        self.scheduler.on_asked(self.number)
        body, declared = declaring.declare(self.worker)
        if body is not None:
            self.scheduler.on_done(self.number, body)
        self.scheduler.on_declared(self.number, declared, False, False)
        self.deliver()

    def state(self, key: str) -> str:
        view = self.scheduler.task_view(encode_key(key))
        return "forgotten" if view is None else view["state"]

    def id_of(self, key: str) -> int:
        return self.scheduler.task_view(encode_key(key))["id"]


@pytest.mark.parametrize("seed", range(20))
def test_both_sides_keep_the_same_digests_whatever_happens(seed: int) -> None:
    dice = random.Random(seed)
    pair = Pair()
    names: list[str] = []
    for number in range(60):
        move = dice.random()
        if move < 0.4:
            needs = [name for name in dice.sample(names, min(len(names), 2)) if pair.state(name) != "forgotten"]
            pair.submit(f"t{number}", needs=needs)
            names.append(f"t{number}")
        elif move < 0.55 and names:
            pair.release(names.pop(dice.randrange(len(names))))
        elif move < 0.6:
            pair.scheduler.on_worker_status(pair.number, dice.random() < 0.6)
        else:
            pair.end(dice, fail=0.1)
        if dice.random() < 0.5:
            pair.deliver()
            assert pair.agree() is True
    pair.scheduler.on_worker_status(pair.number, True)
    pair.work_off()
    assert pair.agree() is True


def with_one_of_each() -> Pair:
    """One task is in memory, one executes, one is queued, in one worker with one slot."""
    pair = Pair(slots=1)
    pair.submit("done")
    pair.work_off()
    pair.submit("running")
    pair.deliver()
    pair.step()
    pair.submit("queued")
    pair.deliver()
    assert inspect.key_of(pair.worker, pair.id_of("queued")) is not None
    assert pair.agree() is True
    return pair


@pytest.mark.parametrize("key", ["done", "running", "queued"])
def test_what_a_worker_forgot_is_found_and_healed(key: str) -> None:
    pair = with_one_of_each()
    body = free_frame([pair.id_of(key)], epoch=FIRST_LIFE)
    pair.worker.on_free(body, 1.0)
    pair.worker.take_done()
    # As if nothing had come: the scheduler has sent nothing.
    _, held, given, received = declaring.digests(pair.worker)
    assert pair.scheduler.agrees(pair.number, held, given, received - 1) is False
    pair.executing = [task for task in pair.executing if inspect.key_of(pair.worker, task) is not None]
    pair.heal()
    pair.work_off()
    assert [pair.state(each) for each in ("done", "running", "queued")] == ["memory"] * 3


def test_data_that_nobody_knows_is_found_and_freed() -> None:
    pair = with_one_of_each()
    pair.worker.on_put(FIRST_LIFE + 77, encode_key("stray"), 8, 0, 1.0)
    pair.worker.take_done()
    assert pair.agree() is False
    pair.heal()
    assert pair.agree() is True
    assert inspect.key_of(pair.worker, FIRST_LIFE + 77) is None


def test_what_the_scheduler_believes_and_was_never_given_is_found_and_healed() -> None:
    pair = with_one_of_each()
    pair.submit("lost on the way")
    pair.scheduler.on_worker_status(pair.number, True)
    commands = [command for command in pair.scheduler.act() if command[2] == FrameKind.RUN]
    pair.heal()
    pair.work_off()
    assert pair.state("lost on the way") == "memory"
    assert len(commands) <= 1


def test_a_recovered_scheduler_takes_data_and_running_tasks_over_by_key() -> None:
    pair = with_one_of_each()
    worker = pair.worker
    old = {key: pair.id_of(key) for key in ("done", "running", "queued")}
    declaring.forget_unstarted(worker, 1.0)
    body, declared = declaring.declare(worker, True)
    assert body is None
    # What ends meanwhile counts, too.
    manual.finished(worker, old["running"], nbytes=8)
    pair.scheduler = SchedulerCore(SECOND_LIFE, (1, 2), {})
    pair.client = pair.scheduler.on_client("client")
    pair.next_id = 1
    pair.submit("done")
    pair.submit("running")
    pair.submit("queued", needs=["running"])
    pair.number = pair.scheduler.on_worker("tcp://10.0.0.1:1", 1, False, {})
    pair.scheduler.on_worker_away(pair.number)
    answer = pair.scheduler.on_declared(pair.number, declared, True, True)
    pair.scheduler.on_worker_status(pair.number, True)
    renamed, dropped = declaring.adopt(worker, SECOND_LIFE, pair.number, declared, answer, 1.0)
    declaring.begin_connection(worker)
    assert dropped == []
    assert sorted(renamed) == sorted((old[key], pair.id_of(key)) for key in ("done", "running"))
    assert not set(old.values()) & {pair.id_of(key) for key in old}
    pair.executing.clear()
    pair.deliver()
    assert (pair.state("done"), pair.state("running"), pair.state("queued")) == ("memory", "memory", "processing")
    assert pair.agree() is True
    pair.work_off()
    assert pair.state("queued") == "memory"
    assert pair.agree() is True


def test_what_a_recovered_scheduler_does_not_know_is_dropped_and_its_end_is_not_heard() -> None:
    pair = with_one_of_each()
    worker = pair.worker
    done, running = pair.id_of("done"), pair.id_of("running")
    declaring.forget_unstarted(worker, 1.0)
    _, declared = declaring.declare(worker, True)
    pair.scheduler = SchedulerCore(SECOND_LIFE, (1, 2), {})
    pair.client = pair.scheduler.on_client("client")
    pair.number = pair.scheduler.on_worker("tcp://10.0.0.1:1", 1, False, {})
    pair.scheduler.on_worker_away(pair.number)
    answer = pair.scheduler.on_declared(pair.number, declared, True, True)
    pair.scheduler.on_worker_status(pair.number, True)
    renamed, dropped = declaring.adopt(worker, SECOND_LIFE, pair.number, declared, answer, 1.0)
    declaring.begin_connection(worker)
    assert (renamed, dropped) == ([], [done])
    assert manual.finished(worker, running) is False
    pair.executing.clear()
    pair.deliver()
    assert pair.agree() is True
    pair.next_id = 1
    pair.submit("new")
    pair.work_off()
    assert pair.state("new") == "memory"
