"""Tasks that are sent ahead of their inputs: the six conditions.

May import: fastdist._core, its siblings.
"""

from __future__ import annotations

import itertools

import pytest

from fastdist._core.codec.frames import DoneStatus, TaskStatus
from tests.core.scheduler.builders import Cluster, FakeClient
from tests.core.scheduler.frames import DoneRow


def chain(cluster: Cluster, client: FakeClient, length: int = 3) -> list[str]:
    """k-0 <- k-1 <- ... in one frame."""
    keys = [f"k-{i}" for i in range(length)]
    rows = [client.row(keys[0])]
    rows += [client.row(key, before) for before, key in itertools.pairwise(keys)]
    client.submit_rows(rows)
    return keys


def sent_ahead(workers: list[int] | None = None) -> tuple[Cluster, FakeClient, int]:
    """A chain k-0, k-1, k-2 on one worker, the last two sent ahead."""
    cluster = Cluster(workers or [2, 2])
    client = cluster.client()
    chain(cluster, client)
    cluster.act()
    worker = cluster.where("k-0")
    assert list(cluster.workers[worker].assigned) == ["k-0", "k-1", "k-2"]
    assert [cluster.run_row(f"k-{i}").ahead for i in range(3)] == [False, True, True]
    return cluster, client, worker


def test_a_chain_runs_on_one_worker_without_waiting_for_the_scheduler() -> None:
    cluster, client, worker = sent_ahead()
    cluster.done(worker, "k-0", "k-1", "k-2")
    cluster.finish()
    assert client.heard("k-2") == [TaskStatus.STATUS_FINISHED]


def test_a_reduction_whose_inputs_are_all_on_one_worker_goes_ahead() -> None:
    cluster = Cluster([4])
    client = cluster.client()
    client.submit_rows([client.row("a"), client.row("b"), client.row("x", "a", "b")])
    cluster.act()
    assert cluster.run_row("x").ahead


def test_a_task_whose_unfinished_inputs_are_on_two_workers_waits() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("a", options=cluster.options(workers=[0]))
    client.submit("b", options=cluster.options(workers=[1]))
    client.submit("x", "a", "b")
    cluster.act()
    assert cluster.state("x") == "waiting"
    cluster.done(0, "a")
    cluster.act()
    assert (cluster.where("x"), cluster.run_row("x").ahead) == (1, True)


def test_a_restrictions_must_allow_the_worker() -> None:
    cluster = Cluster([2, 2])
    client = cluster.client()
    client.submit("a", options=cluster.options(workers=[0]))
    client.submit("x", "a", options=cluster.options(workers=[1]))
    client.submit("y", "a", options=cluster.options(workers=[0, 1]))
    cluster.act()
    assert (cluster.state("x"), cluster.where("y")) == ("waiting", 0)


def test_a_depth_is_bounded_while_durations_are_unknown() -> None:
    cluster = Cluster([2])
    client = cluster.client()
    chain(cluster, client, 100)
    cluster.act()
    assert cluster.core.worker_view(0)["ahead"] == 3
    cluster.done(0, "k-0", "k-1", "k-2", "k-3", seconds=0.00001)
    cluster.act()
    assert cluster.core.worker_view(0)["ahead"] == 95


def test_a_bytes_are_bounded() -> None:
    cluster = Cluster([2])
    client = cluster.client()
    keys = chain(cluster, client, 100)
    cluster.act()
    for key in keys[:3]:
        cluster.done(0, key, seconds=0.00001, nbytes=10_000_000)
        cluster.act()
    assert cluster.core.worker_view(0)["ahead"] <= 3


def test_b_resources_are_booked_once() -> None:
    cluster = Cluster([])
    client = cluster.client()
    cluster.worker(nthreads=4, gpu=2.0)
    client.submit("a", options=cluster.options(gpu=1.0))
    client.submit("x", "a", options=cluster.options(gpu=1.0))
    cluster.act()
    assert cluster.run_row("x").ahead
    cluster.done(0, "a", "x")
    cluster.worker(nthreads=4, gpu=2.0)
    client.submit("y", options=cluster.options(gpu=2.0))
    cluster.act()
    assert cluster.where("y") == 0
    cluster.work_off()
    cluster.finish()


def test_c_a_result_before_those_of_its_inputs_is_stale() -> None:
    cluster, _, worker = sent_ahead()
    cluster.done(worker, "k-1")
    assert cluster.state("k-1") == "waiting"
    assert cluster.core.counts()["stale_results"] == 1
    cluster.act()
    cluster.work_off()
    cluster.finish()


@pytest.mark.parametrize("status", [DoneStatus.DONE_ERRED, DoneStatus.DONE_RESCHEDULE])
def test_d_an_input_that_is_tried_again_withdraws_what_was_sent_ahead(status: DoneStatus) -> None:
    cluster = Cluster([2, 2])
    client = cluster.client()
    number = cluster.options(retries=1)
    client.submit_rows([client.row("a", option=1), client.row("x", "a"), client.row("y", "x")], [number])
    cluster.act()
    worker = cluster.where("a")
    rows = {key: cluster.run_row(key) for key in "axy"}
    cluster.workers[worker].assigned.pop("a")
    cluster.send(worker, [DoneRow(rows["a"].id, rows["a"].attempt, status)])
    assert [cluster.state(key) for key in "axy"] == ["ready", "waiting", "waiting"]
    cluster.act()
    assert {row.id for row in rows.values()} <= set(cluster.workers[worker].freed)
    cluster.send(worker, [DoneRow(rows["x"].id, rows["x"].attempt)])
    assert cluster.core.counts()["stale_results"] == 1
    cluster.work_off()
    cluster.finish()


def test_d_an_input_that_errs_takes_what_was_sent_ahead_with_it() -> None:
    cluster, client, worker = sent_ahead()
    cluster.failed(worker, "k-0")
    cluster.finish()
    assert client.told("k-2").status == TaskStatus.STATUS_ERRED
    assert cluster.workers[worker].assigned == {}


def test_d_a_cancelled_input_takes_what_was_sent_ahead_with_it() -> None:
    cluster, client, worker = sent_ahead()
    client.cancel("k-0")
    cluster.finish()
    assert cluster.workers[worker].assigned == {}
    assert cluster.core.n_tasks() == 0


def test_d_a_worker_that_pauses_is_asked_for_what_was_sent_ahead() -> None:
    cluster, _, worker = sent_ahead()
    cluster.pause(worker)
    cluster.act()
    assert sorted(cluster.workers[worker].asked_back) == ["k-0", "k-1", "k-2"]
    cluster.gives_back(worker, "k-2", "k-1", "k-0")
    cluster.act()
    assert cluster.where("k-0") == 1 - worker
    cluster.work_off()
    cluster.finish()


def test_d_a_lost_worker_takes_what_was_sent_ahead_with_it() -> None:
    cluster, client, worker = sent_ahead()
    cluster.lose(worker, blamed=False)
    assert [cluster.state(f"k-{i}") for i in range(3)] == ["ready", "waiting", "waiting"]
    cluster.work_off()
    cluster.finish()
    assert client.told("k-2").status == TaskStatus.STATUS_FINISHED


def test_d_a_finished_input_that_is_lost_elsewhere_withdraws_what_was_sent_ahead() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("a", options=cluster.options(workers=[0]))
    client.submit("b", options=cluster.options(workers=[1]))
    client.submit("x", "a", "b")
    cluster.act()
    cluster.done(0, "a")
    cluster.act()
    assert cluster.run_row("x").ahead
    cluster.lose(0)
    assert cluster.state("x") == "waiting"
    cluster.core.validate()


def test_d_an_input_asked_back_is_followed_by_nothing() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.submit("a")
    cluster.act()
    cluster.pause(0)
    cluster.resume(0)
    client.submit("x", "a")
    cluster.act()
    assert (list(cluster.workers[0].asked_back), cluster.state("x")) == (["a"], "waiting")


def test_e_what_was_sent_ahead_is_not_blamed_for_a_death() -> None:
    cluster, _, worker = sent_ahead()
    cluster.lose(worker)
    assert [cluster.view(f"k-{i}")["suspicious"] for i in range(3)] == [1, 0, 0]


def test_f_rows_carry_what_lets_a_later_arrival_overtake() -> None:
    cluster, client, worker = sent_ahead([2])
    client.submit("urgent", options=cluster.options(priority=5.0))
    cluster.act()
    urgent, waiting = cluster.run_row("urgent"), cluster.run_row("k-2")
    assert (urgent.priority, urgent.rank) < (waiting.priority, waiting.rank)
    assert cluster.where("urgent") == worker


def test_a_chain_is_not_asked_back_because_another_worker_idles() -> None:
    """Its first task is about to start, and the others cannot start anywhere before it has finished."""
    cluster = Cluster([1, 1])
    chain(cluster, cluster.client(), 2)
    for _ in range(3):
        cluster.act()
        assert [list(worker.assigned) for worker in cluster.workers] == [["k-0", "k-1"], []]
        assert cluster.workers[0].asked_back == {}


def test_what_was_sent_ahead_keeps_no_thread_from_what_can_start() -> None:
    cluster, client, _ = sent_ahead([2])
    client.submit("now")
    cluster.act()
    assert cluster.where("now") == 0
