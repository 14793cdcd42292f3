"""Bad frames, memory, reproducibility.

May import: fastdist._core, its siblings.
"""

from __future__ import annotations

import random
import struct

import pytest

from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.core import SchedulerCore
from fastdist._core.scheduler.model import task_record_bytes
from fastdist.errors import FrameError
from tests.core.scheduler.builders import SEEDS, Cluster
from tests.core.scheduler.frames import EPOCH, DoneRow, TaskRow, done_frame, frame, release_frame, tasks_frame


def busy_cluster() -> Cluster:
    """Something in most states."""
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit_rows([client.row("a"), client.row("b", "a"), client.row("c", "a", "b")])
    cluster.act()
    cluster.done(cluster.where("a"), "a")
    client.submit("nowhere", options=cluster.options(workers=[]))
    client.map([f"k-{i}" for i in range(20)])
    cluster.act()
    return cluster


def row(name: str, **more) -> TaskRow:
    """A row with no inputs."""
    return TaskRow(encode_key(name), **more)


BAD_TASKS = {
    "ids used before": lambda: tasks_frame(1, [row("x")]),
    "id zero": lambda: tasks_frame(0, [row("x")]),
    "id beyond all": lambda: tasks_frame(2**64 - 2, [row("x"), row("y"), row("z")]),
    "gap in the ids": lambda: tasks_frame(2**40, [row("x")]),
    "needs itself": lambda: tasks_frame(1000, [row("x", needs=(1000,))]),
    "needs a later one": lambda: tasks_frame(1000, [row("x", needs=(1001,)), row("y")]),
    "unknown options": lambda: tasks_frame(1000, [row("x", option=3)]),
    "function never sent": lambda: tasks_frame(1000, [row("x"), row("y", function=b"?")], known_functions=[b"?"]),
    "empty key": lambda: tasks_frame(1000, [row("x"), TaskRow(b"")]),
    "key too long": lambda: tasks_frame(1000, [TaskRow(b"s" * 70_000)]),
    "too many tasks": lambda: tasks_frame(1000, [row("x")] * 100_001),
    "nothing": lambda: b"",
    "columns of another frame": lambda: release_frame([1]),
    "rows that are not there": lambda: frame(5, [b""] * 14),
}


@pytest.mark.parametrize("name", BAD_TASKS)
def test_a_bad_tasks_frame_is_refused_and_changes_nothing(name: str) -> None:
    cluster = busy_cluster()
    client = cluster.clients[0]
    with cluster.unchanged(), pytest.raises(FrameError):
        cluster.core.on_tasks(client.number, BAD_TASKS[name](), [], 0.0)
    client.submit("still works")
    cluster.work_off()
    cluster.finish()


def test_a_bad_done_frame_is_refused_and_changes_nothing() -> None:
    cluster = busy_cluster()
    good = cluster.run_row(next(iter(cluster.workers[0].assigned)))
    rows = [DoneRow(good.id, good.attempt), DoneRow(good.id, good.attempt)]
    for bad in ({"status": 99}, {"type": 77}):
        for name, value in bad.items():
            setattr(rows[1], name, value)
        with cluster.unchanged(), pytest.raises(FrameError):
            cluster.core.on_done(0, done_frame(rows, ["new"]))
        rows[1] = DoneRow(good.id, good.attempt)
    for body in (b"", done_frame(rows)[:-8], release_frame([1])):
        with cluster.unchanged(), pytest.raises(FrameError):
            cluster.core.on_done(0, body)


def test_a_bad_release_frame_is_refused_and_changes_nothing() -> None:
    cluster = busy_cluster()
    odd_hash = frame(1, [struct.pack("<Q", 1), b"x" * 15])
    for body in (b"", odd_hash, release_frame([1, 2])[:-8]):
        with cluster.unchanged(), pytest.raises(FrameError):
            cluster.core.on_release(0, body)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_frames_are_refused_whole_or_mean_something_else(seed: int) -> None:
    """No damage makes the core break its own rules, and a frame that is refused leaves no trace."""
    draw = random.Random(seed)
    cluster = busy_cluster()
    refused = 0
    for _ in range(150):
        client = cluster.clients[0]
        first = draw.choice([client.next_id, 1000, 50_000])
        rows = [row(f"n-{draw.randrange(1000)}", needs=(draw.randrange(1, first),)) for _ in range(4)]
        body = bytearray(tasks_frame(first, rows))
        if draw.random() < 0.5:
            assigned = [run for worker in cluster.workers for run in worker.assigned.values()]
            body = bytearray(done_frame([DoneRow(run.id, run.attempt) for run in assigned[:3]]))
        for _ in range(draw.randint(1, 3)):
            body[draw.randrange(len(body))] = draw.randrange(256)
        before = cluster.core.counts(), cluster.core.tasks()
        try:
            if draw.random() < 0.5:
                cluster.core.on_done(0, bytes(body))
            else:
                cluster.core.on_tasks(client.number, bytes(body), [], 0.0)
        except FrameError:
            refused += 1
            assert (cluster.core.counts(), cluster.core.tasks()) == before
        cluster.core.validate()
    assert refused > 50
    cluster.core.act()
    cluster.core.on_client_closed(0)
    cluster.core.act()
    assert cluster.core.n_tasks() == 0


def test_a_key_that_is_not_canonical_is_shown_as_its_bytes() -> None:
    cluster = Cluster()
    client = cluster.client()
    cluster.core.on_tasks(client.number, tasks_frame(1, [TaskRow(b"\xffodd"), TaskRow(b"?", None)]), [], 0.0)
    assert [view["key"] for view in cluster.core.tasks()] == [b"\xffodd"]
    cluster.core.act()


def test_a_task_record_is_two_cache_lines() -> None:
    assert task_record_bytes() == 128


def test_slots_are_used_again_oldest_first_with_a_new_generation() -> None:
    cluster = Cluster([])
    client = cluster.client()
    client.map([f"k-{i}" for i in range(321)])
    old = {view["id"] for view in cluster.core.tasks()}
    client.release(*(f"k-{i}" for i in range(64, 96)))
    client.release(*(f"k-{i}" for i in range(32)))
    client.map([f"n-{i}" for i in range(31 + 64)])
    slots = [cluster.view(f"n-{i}")["id"] & 0xFFFFFFFF for i in range(31 + 64)]
    assert slots == [*range(321, 352), *range(64, 96), *range(32)]
    assert old.isdisjoint(cluster.view(f"n-{i}")["id"] for i in range(31 + 64))


def test_survivors_keep_their_keys_and_arguments_when_payloads_are_compacted() -> None:
    cluster = Cluster([])
    client = cluster.client()
    for part in range(20):
        rows = [client.row(f"k-{part}-{i}") for i in range(200)]
        for i, one in enumerate(rows):
            one.arguments = f"arguments of {part} {i} ".encode() * 20
        client.submit_rows(rows)
    survivors = [f"k-{part}-{i}" for part in range(20) for i in range(0, 200, 50)]
    client.release(*(key for key in client.ids if key not in survivors))
    cluster.core.validate()
    assert cluster.core.n_tasks() == len(survivors)
    cluster.worker(nthreads=1000)
    cluster.act()
    for key, run in cluster.workers[0].assigned.items():
        _, part, i = key.split("-")
        assert run.arguments == f"arguments of {part} {i} ".encode() * 20
    assert len(cluster.workers[0].assigned) == len(survivors)


def test_the_same_events_give_the_same_commands() -> None:
    events: list[tuple[str, tuple]] = []
    commands: list = []
    cluster = Cluster([])
    cluster.core.recorder = events.append
    act = cluster.core.act
    for nthreads in (1, 2, 3):
        cluster.worker(nthreads)
    client = cluster.client()
    number = cluster.options(workers=[1], priority=2.0)
    client.submit_rows([client.row(f"k-{i}", option=i % 2) for i in range(50)], [number])
    rows = [client.row("a")] + [client.row(f"t-{i}", "a") for i in range(20)]
    client.submit_rows(rows)
    cluster.work_off()
    cluster.lose(2)
    cluster.core.on_client_lost(client.number, 1.0)
    cluster.core.on_tick(100.0)
    commands = act()
    again = SchedulerCore(EPOCH, SEEDS)
    replayed: list = []
    for name, arguments in events:
        replayed = getattr(again, name)(*arguments)
    assert replayed == commands
    assert again.counts() == cluster.core.counts()
    assert {name for name, _ in events} >= {"on_tasks", "on_done", "act", "on_worker_lost", "on_tick"}


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="speed"):
        SchedulerCore(EPOCH, SEEDS, {"speed": 9})


def test_long_lived_inputs_forget_dependents_that_are_gone() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("a")
    cluster.work_off()
    for i in range(500):
        client.submit(f"k-{i}", "a")
        client.release(f"k-{i}")
    cluster.core.validate()
    assert cluster.view("a")["dependents"] == 0
    cluster.finish()


def test_prefixes_without_tasks_are_forgotten_oldest_first() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("kept")
    for part in range(10):
        keys = [f"job{part}x{i}" for i in range(1000)]
        client.map(keys)
        client.release(*keys)
    assert cluster.core.counts()["prefixes"] == 1 + 4096
    client.map([f"job9x{i}" for i in range(1000)] + [f"other{i}" for i in range(1000)])
    cluster.core.validate()
    assert cluster.core.counts()["prefixes"] == 1 + 4096 + 1000
    cluster.work_off(5000)
    cluster.finish()
