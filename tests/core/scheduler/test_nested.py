"""Tasks that are submitted by tasks, tasks that wait without a thread, and actors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fastdist._core.codec.frames import DoneStatus, TaskStatus
from tests.core.scheduler.builders import Cluster
from tests.core.scheduler.frames import DoneRow

WAITS, SECEDED, RETURNED = DoneStatus.DONE_WAITS, DoneStatus.DONE_SECEDED, DoneStatus.DONE_RETURNED


def says(cluster: Cluster, worker: int, key: str, status: DoneStatus) -> None:
    run = cluster.workers[worker].assigned[key]
    cluster.send(worker, [DoneRow(run.id, run.attempt, status)])


def test_nested_submissions_go_before_all_others_and_the_newest_first() -> None:
    cluster = Cluster([])
    user, tasks = cluster.client("user"), cluster.client("worker")
    user.map([f"top-{i}" for i in range(3)])
    for number in range(3):
        tasks.submit_rows([tasks.row(f"nested-{number}-{i}") for i in range(2)], nested=True)
    worker = cluster.worker(nthreads=9)
    cluster.act()
    ranks = {key: run.rank for key, run in cluster.workers[worker].assigned.items()}
    assert sorted(ranks, key=ranks.__getitem__) == [
        "nested-2-0", "nested-2-1", "nested-1-0", "nested-1-1", "nested-0-0", "nested-0-1", "top-0", "top-1", "top-2",
    ]  # fmt: skip


def test_nested_submissions_do_not_count_as_one_however_close_they_are() -> None:
    cluster = Cluster([])
    tasks = cluster.client("worker")
    for number in range(2):
        tasks.submit_rows([tasks.row(f"nested-{number}")], nested=True, fifo_timeout=60.0)
    worker = cluster.worker()
    cluster.act()
    assert next(iter(cluster.workers[worker].assigned)) == "nested-1"


@pytest.mark.parametrize("status", [WAITS, SECEDED], ids=["waits", "seceded"])
def test_a_task_without_a_thread_leaves_room_for_others(status: DoneStatus) -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.map([f"k-{i}" for i in range(9)])
    cluster.act()
    before = len(cluster.workers[0].assigned)
    says(cluster, 0, "k-0", status)
    cluster.act()
    # One that waits leaves room for two: what is older than it is held back, and must not keep out what it waits for.
    assert len(cluster.workers[0].assigned) == before + (2 if status is WAITS else 1)
    says(cluster, 0, "k-0", RETURNED)
    cluster.done(0, "k-0")
    cluster.act()
    cluster.core.validate()


def test_a_task_that_waits_is_not_asked_back() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.map([f"k-{i}" for i in range(2)])
    cluster.act()
    says(cluster, 0, "k-0", WAITS)
    cluster.core.on_worker_status(0, False)
    cluster.act()
    assert list(cluster.workers[0].asked_back) == ["k-1"]


def test_what_a_task_without_a_thread_takes_of_a_resource_stays_taken() -> None:
    cluster = Cluster([])
    cluster.worker(nthreads=2, gpu=1.0)
    other = cluster.worker(nthreads=2, gpu=1.0)
    client = cluster.client()
    client.submit("k-0", options=cluster.options(gpu=1.0))
    cluster.act()
    says(cluster, 0, "k-0", WAITS)
    client.submit("k-1", options=cluster.options(gpu=1.0))
    cluster.act()
    assert "k-1" in cluster.workers[other].assigned


def test_a_worker_that_dies_is_not_blamed_on_tasks_that_only_waited() -> None:
    cluster = Cluster([1], allowed_failures=0)
    client = cluster.client()
    client.submit("waits")
    cluster.act()
    says(cluster, 0, "waits", WAITS)
    client.submit("kills")
    cluster.act()
    cluster.core.on_worker_lost(0, True, "signal 9")
    cluster.act()
    assert client.heard("waits") == []
    assert client.told("kills").status is TaskStatus.STATUS_ERRED


# -- actors


def actor_options(cluster: Cluster, workers: list[int] | None = None) -> int:
    described = SimpleNamespace(actor=True)
    number = cluster.core.on_options(0.0, 0, workers is not None, False, {}, b"", described)
    if workers is not None:
        cluster.core.on_candidates(number, workers)
    return number


def test_actors_are_spread_over_the_workers_even_if_each_is_made_at_once() -> None:
    cluster = Cluster([1, 1, 1])
    client = cluster.client()
    for i in range(6):
        client.submit(f"actor-{i}", options=actor_options(cluster))
        cluster.act()
        (worker,) = [each for each in cluster.workers if each.assigned]
        cluster.done(worker.number, f"actor-{i}")
    assert [len(worker.held) for worker in cluster.workers] == [2, 2, 2]


def test_an_actor_goes_where_it_may_go() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    for i in range(3):
        client.submit(f"actor-{i}", options=actor_options(cluster, [1]))
    cluster.act()
    assert len(cluster.workers[1].assigned) == 3


def test_an_actor_waits_for_the_first_worker() -> None:
    cluster = Cluster([])
    client = cluster.client()
    client.submit("actor-0", options=actor_options(cluster))
    cluster.act()
    worker = cluster.worker()
    cluster.act()
    assert "actor-0" in cluster.workers[worker].assigned


def test_an_actor_is_lost_with_its_worker_whoever_holds_a_handle_and_is_not_made_again() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("actor-0", options=actor_options(cluster, [0]))
    cluster.act()
    cluster.done(0, "actor-0")
    id = cluster.workers[0].held["actor-0"]
    cluster.send(1, [DoneRow(id, 0, DoneStatus.DONE_REPLICA)])
    cluster.act()
    cluster.core.on_worker_lost(0, False, "gone")
    cluster.act()
    told = client.told("actor-0")
    assert told.status is TaskStatus.STATUS_LOST
    assert b"cannot be computed again" in told.payload
    assert cluster.workers[1].freed == [id]
    assert not cluster.workers[1].assigned


def test_an_actor_outlives_a_holder_of_a_handle() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("actor-0", options=actor_options(cluster, [0]))
    cluster.act()
    cluster.done(0, "actor-0")
    cluster.send(1, [DoneRow(cluster.workers[0].held["actor-0"], 0, DoneStatus.DONE_REPLICA)])
    cluster.core.on_worker_lost(1, False, "gone")
    cluster.act()
    assert client.heard("actor-0") == [TaskStatus.STATUS_FINISHED]


def test_an_actor_that_was_not_made_yet_is_made_elsewhere() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("actor-0", options=actor_options(cluster))
    cluster.act()
    (first,) = [worker.number for worker in cluster.workers if worker.assigned]
    cluster.core.on_worker_lost(first, False, "gone")
    cluster.act()
    assert "actor-0" in cluster.workers[1 - first].assigned
