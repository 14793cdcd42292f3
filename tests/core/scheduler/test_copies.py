"""Copies of data: which may go, and what only some workers hold. May import: fastdist._core, the siblings."""

from __future__ import annotations

from fastdist._core.codec.frames import DoneStatus, TaskStatus
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.replicas import copies_at, is_scattering
from fastdist.retries import AGAIN, ELSEWHERE
from tests.core.scheduler.builders import Cluster, FakeClient
from tests.core.scheduler.frames import DoneRow


def held_everywhere(cluster: Cluster, key: str = "x") -> FakeClient:
    """A client with one finished task that every worker holds."""
    client = cluster.client()
    client.submit(key)
    cluster.work_off()
    holder = next(worker.number for worker in cluster.workers if key in worker.held)
    for worker in cluster.workers:
        if worker.number != holder:
            cluster.replica(worker.number, key)
    return client


def holders(cluster: Cluster, key: str = "x") -> list[str]:
    return sorted(cluster.view(key)["who_has"])


def test_a_copy_is_dropped_while_another_one_stays_but_never_the_last() -> None:
    cluster = Cluster(workers=[1, 1])
    held_everywhere(cluster)
    id = cluster.view("x")["id"]
    assert cluster.core.on_drop_copies(0, [id]) == 1
    assert cluster.core.on_drop_copies(1, [id]) == 0
    cluster.finish()
    assert holders(cluster) == ["tcp://10.0.0.1:1"]
    assert cluster.workers[0].freed == [id]


def test_a_copy_stays_where_a_task_is_about_to_use_it() -> None:
    cluster = Cluster(workers=[1, 1])
    client = held_everywhere(cluster)
    client.submit("y", "x")
    cluster.act()
    id, user = cluster.view("x")["id"], cluster.where("y")
    assert cluster.core.on_drop_copies(user, [id]) == 0
    assert cluster.core.on_drop_copies(1 - user, [id]) == 1
    cluster.work_off()
    cluster.finish()


def test_copies_are_reduced_to_one_on_the_emptiest_worker() -> None:
    cluster = Cluster(workers=[1, 1, 1])
    client = held_everywhere(cluster)
    client.submit("large")
    cluster.act()
    cluster.done(cluster.where("large"), "large", nbytes=1000)
    full = next(worker.number for worker in cluster.workers if "large" in worker.held)
    assert cluster.core.on_reduce_copies() == 2
    cluster.finish()
    assert len(holders(cluster)) == 1
    assert f"tcp://10.0.0.{full}:1" not in holders(cluster)
    assert cluster.core.on_reduce_copies() == 0


def test_copies_on_workers_that_do_not_run_go_first() -> None:
    cluster = Cluster(workers=[1, 1, 1])
    held_everywhere(cluster)
    cluster.pause(1)
    assert cluster.core.on_reduce_copies() == 2
    cluster.finish()
    assert holders(cluster) != ["tcp://10.0.0.1:1"]


def test_as_many_copies_stay_as_the_user_asked_for() -> None:
    cluster = Cluster(workers=[1, 1, 1])
    held_everywhere(cluster)
    cluster.core.on_kept([cluster.view("x")["id"]], 2)
    assert cluster.core.on_reduce_copies() == 1
    cluster.finish()
    assert len(holders(cluster)) == 2


def test_a_copy_stays_for_each_task_that_waits_to_be_placed() -> None:
    cluster = Cluster(workers=[1, 1, 1])
    client = held_everywhere(cluster)
    for number in range(2):
        cluster.pause(number)
    client.submit("a")
    client.submit("y", "x", "a")
    client.submit("z", "x", "a")
    for number in range(3):
        cluster.pause(number)
    assert cluster.core.on_reduce_copies() == 1
    for number in range(3):
        cluster.resume(number)
    cluster.work_off()
    cluster.finish()


def test_what_only_leaving_workers_hold_is_found_with_its_holders() -> None:
    cluster = Cluster(workers=[1, 1, 1])
    client = held_everywhere(cluster)
    client.submit("sole")
    cluster.work_off()
    owner = next(worker.number for worker in cluster.workers if "sole" in worker.held)
    found = copies_at(cluster.core.model, owner, {owner}, 10)
    assert [(key, holders) for _, key, _, holders in found] == [(encode_key("sole"), [owner])]
    assert len(copies_at(cluster.core.model, owner, None, 10)) == 2
    assert len(copies_at(cluster.core.model, owner, {0, 1, 2}, 1)) == 1
    assert copies_at(cluster.core.model, (owner + 1) % 3, {(owner + 1) % 3}, 10) == []


def test_announced_data_is_scattering_until_it_comes() -> None:
    cluster = Cluster()
    client = cluster.client()
    ((id, _),) = cluster.core.on_scatter(client.number, 1, [encode_key("x")])
    assert is_scattering(cluster.core.model, id)
    cluster.replica(0, "x")
    assert not is_scattering(cluster.core.model, id)


def is_not_reached(cluster: Cluster, reporter: int, key: str, needed: str, holder: int = 0) -> None:
    """A worker gives a task back, because it did not reach the holder of an input."""
    id, run = cluster.view(needed)["id"], cluster.workers[reporter].assigned.pop(key)
    cluster.send(reporter, [DoneRow(id, 1, DoneStatus.DONE_MISSING, holder)])
    cluster.send(reporter, [DoneRow(run.id, run.attempt, DoneStatus.DONE_RETRACTED, AGAIN | ELSEWHERE | 100_000)])
    cluster.act()


def test_scattered_data_stays_when_its_holder_is_not_reached_and_the_task_is_tried_again_elsewhere() -> None:
    cluster = Cluster(workers=[1, 1, 1])
    client = cluster.client()
    cluster.core.on_scatter(client.number, client.next_id, [encode_key("data")])
    client.ids["data"] = client.next_id
    client.next_id += 1
    cluster.replica(0, "data", 100)
    client.submit("task", "data", options=cluster.options(workers=[1, 2]))
    cluster.act()
    first = cluster.where("task")
    is_not_reached(cluster, first, "task", "data")
    assert holders(cluster, "data") == ["tcp://10.0.0.0:1"]
    assert cluster.workers[0].freed == []
    assert cluster.state("task") == "no_worker"
    cluster.core.on_tick(cluster.core.next_deadline())
    cluster.act()
    assert cluster.where("task") == 3 - first
    cluster.work_off()
    assert client.heard("task")[-1] == TaskStatus.STATUS_FINISHED


def test_data_of_a_holder_that_is_not_reached_is_computed_again_if_that_is_possible() -> None:
    cluster = Cluster(workers=[1, 1])
    client = cluster.client()
    client.submit("input", options=cluster.options(workers=[0], loose=True))
    cluster.work_off()
    client.submit("task", "input", options=cluster.options(workers=[1]))
    cluster.act()
    is_not_reached(cluster, 1, "task", "input")
    assert cluster.view("input")["attempt"] == 2
    cluster.work_off()
    assert client.heard("task")[-1] == TaskStatus.STATUS_FINISHED
