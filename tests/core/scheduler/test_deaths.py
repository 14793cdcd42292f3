"""Deaths in the core: blame once an attempt, and the wait for a nanny's report. May import: fastdist, tests."""

from __future__ import annotations

from tests.core.scheduler.builders import Cluster
from tests.core.scheduler.frames import RunRow

ADDRESS = "tcp://10.0.0.0:1"


def lost_with_nanny(**settings: float) -> tuple[Cluster, RunRow]:
    """Two workers with nannies; the one that was given x is lost at time 10."""
    cluster = Cluster([], **settings)
    client = cluster.client()
    cluster.worker(nanny=True)
    client.submit("x")
    cluster.act()
    row = cluster.run_row("x")
    cluster.worker(nanny=True)
    cluster.workers[0].alive = False
    cluster.workers[0].assigned.clear()
    cluster.core.on_worker_lost(0, False, "gone", 10.0)
    cluster.act()
    return cluster, row


def test_what_was_given_waits_for_the_report_of_the_nanny() -> None:
    cluster, row = lost_with_nanny()
    assert cluster.state("x") == "no_worker"
    assert cluster.core.deaths.waits(row.id) == cluster.core.worker_view(0)["address"]
    cluster.core.on_death_report(cluster.core.worker_view(0)["address"], [(row.id, row.attempt)], "exit code 3")
    assert cluster.core.deaths.waits(row.id) is None
    cluster.act()
    assert cluster.where("x") == 1 and cluster.view("x")["suspicious"] == 1
    assert cluster.core.next_deadline() is None
    cluster.work_off()
    cluster.finish()


def test_it_does_not_wait_for_long() -> None:
    cluster, _ = lost_with_nanny()
    deadline = cluster.core.next_deadline()
    assert deadline is not None and abs(deadline - 10.3) < 1e-9
    cluster.core.on_tick(10.2)
    cluster.act()
    assert cluster.state("x") == "no_worker"
    cluster.core.on_tick(deadline)
    cluster.act()
    assert cluster.where("x") == 1
    cluster.work_off()
    cluster.finish()


def test_the_culprit_is_given_up_before_it_is_placed_again() -> None:
    cluster, row = lost_with_nanny(allowed_failures=0)
    details = {"exit_code": 3, "stderr": ["last words"]}
    cluster.core.on_death_report(ADDRESS, [(row.id, row.attempt)], "exit code 3", details)
    cluster.act()
    assert cluster.state("x") == "erred" and not cluster.workers[1].assigned
    assert b"last words" in cluster.clients[0].told("x").payload


def test_a_death_that_is_told_twice_is_blamed_once() -> None:
    cluster, row = lost_with_nanny()
    for _ in range(3):
        cluster.core.on_death_report(ADDRESS, [(row.id, row.attempt)], "exit code 3")
    assert cluster.view("x")["suspicious"] == 1
    assert [death["how"] for death in cluster.core.deaths.of(row.id)] == ["exit code 3"]


def test_a_late_report_is_counted_and_another_worker_s_work_is_not_disturbed() -> None:
    cluster, row = lost_with_nanny()
    cluster.core.on_tick(11.0)
    cluster.act()
    cluster.core.on_death_report(ADDRESS, [(row.id, row.attempt)], "exit code 3")
    cluster.act()
    assert cluster.where("x") == 1 and cluster.view("x")["suspicious"] == 1
    cluster.work_off()
    cluster.finish()


def test_tasks_that_are_cancelled_while_they_wait_are_forgotten() -> None:
    cluster, row = lost_with_nanny()
    cluster.clients[0].cancel("x")
    cluster.core.on_death_report(ADDRESS, [(row.id, row.attempt)], "exit code 3")
    cluster.act()
    assert cluster.core.n_tasks() == 0
    cluster.core.on_death_report(ADDRESS, [], "again")
    assert cluster.core.deaths.of(row.id) == []


def test_what_a_worker_presumably_executes_is_what_its_threads_can_take() -> None:
    cluster = Cluster([])
    client = cluster.client()
    cluster.worker(nanny=True)
    for key in ("x", "y", "z"):
        client.submit(key)
    cluster.act()
    row = cluster.run_row("x")
    assert cluster.core.presumed_executing(0) == [(row.id, row.attempt)]
    cluster.work_off()
    assert cluster.core.presumed_executing(0) == []
    cluster.finish()
