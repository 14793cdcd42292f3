"""Workers whose connection breaks and that come back, in time or too late, and what they declare to have.

May import: fastdist._core, its siblings.
"""

from __future__ import annotations

import pytest

from fastdist._core.codec.frames import DoneStatus, TaskStatus
from fastdist._core.keys.canonical import encode_key
from tests.core.scheduler.builders import TYPES, Cluster
from tests.core.scheduler.frames import EPOCH, DeclaredRow, DoneRow, Free, Run, declared_frame, unpack_adopted

FINISHED, PENDING = TaskStatus.STATUS_FINISHED, TaskStatus.STATUS_PENDING


def with_running_and_done(workers: int = 2) -> Cluster:
    """Worker 0 holds "done" and was given "running"."""
    cluster = Cluster([1] * workers)
    client = cluster.client()
    number = cluster.options(workers=[0], loose=True)
    client.submit("done", options=number)
    cluster.work_off()
    client.submit("running", options=cluster.options(workers=[0], loose=True))
    cluster.act()
    assert cluster.where("running") == 0
    return cluster


def test_a_worker_that_is_away_keeps_its_tasks_and_data_and_gets_nothing() -> None:
    cluster = with_running_and_done()
    cluster.cut(0)
    assert cluster.act() == []
    assert (cluster.state("running"), cluster.state("done")) == ("processing", "memory")
    cluster.clients[0].map([f"more-{i}" for i in range(20)])
    cluster.act()
    assert {frame.worker for frame in cluster.of_kind(Run)} == {1}


def test_a_worker_that_is_back_goes_on_and_nothing_is_computed_again() -> None:
    cluster = with_running_and_done()
    before = [(view["key"], view["attempt"], view["state"]) for view in cluster.core.tasks()]
    cluster.cut(0)
    cluster.act()
    cluster.back(0, executing=["running"])
    cluster.act()
    assert before == [(view["key"], view["attempt"], view["state"]) for view in cluster.core.tasks()]
    cluster.done(0, "running")
    cluster.finish()
    assert cluster.clients[0].told("running").status == FINISHED


def test_what_it_finished_meanwhile_counts() -> None:
    cluster = with_running_and_done()
    cluster.cut(0)
    row = cluster.workers[0].assigned.pop("running")
    cluster.workers[0].held["running"] = row.id
    cluster.back(0)
    cluster.finish()
    assert cluster.clients[0].told("running").status == FINISHED


def test_a_task_that_never_reached_it_is_given_away_again() -> None:
    cluster = with_running_and_done()
    cluster.cut(0)
    attempt = cluster.workers[0].assigned.pop("running").attempt
    cluster.back(0)
    cluster.act()
    assert cluster.run_row("running").attempt == attempt + 1
    cluster.work_off()
    cluster.finish()


def test_what_was_released_meanwhile_is_freed_when_it_is_back() -> None:
    cluster = with_running_and_done()
    cluster.cut(0)
    cluster.clients[0].release("done", "running")
    cluster.act()
    assert cluster.workers[0].held and cluster.workers[0].assigned
    cluster.back(0, executing=["running"])
    cluster.finish()
    assert not cluster.workers[0].held and not cluster.workers[0].assigned


def test_data_that_it_lost_meanwhile_is_computed_again() -> None:
    cluster = with_running_and_done()
    cluster.cut(0)
    cluster.workers[0].held.pop("done")
    cluster.back(0, executing=["running"])
    cluster.act()
    assert cluster.state("done") == "processing"
    assert cluster.clients[0].told("done").status == PENDING
    cluster.work_off()
    cluster.finish()


def test_a_question_that_was_not_answered_is_forgotten() -> None:
    cluster = Cluster([1])
    cluster.client().map(["a", "b", "c"])
    cluster.act()
    cluster.pause(0)
    cluster.act()
    assert cluster.core.model.n_tasks and cluster.workers[0].asked_back
    cluster.cut(0)
    cluster.back(0, executing=list(cluster.workers[0].assigned)[:1])
    cluster.work_off()
    cluster.finish()


def test_functions_and_options_are_told_again_over_the_new_connection() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.submit("a")
    cluster.work_off()
    cluster.cut(0)
    cluster.back(0)
    client.submit("b")
    cluster.act()
    assert cluster.of_kind(Run)[0].functions


def test_a_task_that_cannot_get_its_input_from_a_worker_that_is_away_waits_for_it() -> None:
    cluster = with_running_and_done()
    client = cluster.clients[0]
    cluster.cut(0)
    client.submit("next", "done")
    cluster.act()
    run = cluster.workers[1].assigned.pop("next")
    id = cluster.view("done")["id"]
    missing = DoneRow(id, 0, DoneStatus.DONE_MISSING, 0)
    cluster.send(1, [missing, DoneRow(run.id, run.attempt, DoneStatus.DONE_RETRACTED)])
    cluster.act()
    assert (cluster.state("next"), cluster.state("done")) == ("no_worker", "memory")
    cluster.back(0, executing=["running"])
    cluster.work_off()
    cluster.finish()
    assert cluster.view("done")["attempt"] == 1


def test_a_task_that_waits_for_a_worker_that_is_lost_gets_its_input_computed_again() -> None:
    cluster = with_running_and_done()
    client = cluster.clients[0]
    cluster.cut(0)
    client.submit("next", "done")
    cluster.act()
    cluster.gives_back(1, "next")
    cluster.act()
    assert cluster.state("next") == "no_worker"
    cluster.lose(0, blamed=False)
    cluster.work_off()
    cluster.finish()
    assert cluster.view("done")["attempt"] == 2


def test_a_worker_that_was_given_up_brings_back_what_was_not_computed_again() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.submit("done")
    cluster.work_off()
    client.submit("running")
    cluster.act()
    cluster.cut(0)
    cluster.give_up(0)
    cluster.act()
    assert (cluster.state("done"), cluster.state("running")) == ("ready", "ready")
    number = cluster.returns(0, executing=["running"])
    cluster.act()
    assert (cluster.state("done"), cluster.state("running")) == ("memory", "processing")
    assert (cluster.view("done")["attempt"], cluster.view("running")["attempt"]) == (1, 1)
    cluster.done(number, "running")
    cluster.finish()


def test_a_worker_that_was_given_up_frees_what_runs_elsewhere_by_now() -> None:
    cluster = with_running_and_done()
    cluster.give_up(0)
    cluster.act()
    assert cluster.where("running") in (0, 1)
    number = cluster.returns(0, executing=["running"])
    cluster.act()
    assert not cluster.workers[number].held and not cluster.workers[number].assigned
    cluster.work_off()
    cluster.finish()


def test_after_a_recovery_tasks_are_found_by_key_and_get_new_ids() -> None:
    cluster = Cluster([])
    client = cluster.client()
    client.submit("done")
    client.submit("running", "done")
    client.submit("gone")
    number = cluster.worker()
    cluster.core.on_worker_away(number)
    rows = [
        DeclaredRow(77, 3, 0, key=encode_key("done")),
        DeclaredRow(78, 2, 1, key=encode_key("running")),
        DeclaredRow(79, 1, 0, key=encode_key("unknown")),
    ]
    answer = cluster.core.on_declared(number, declared_frame(rows, TYPES, EPOCH + 1), True, True)
    epoch, adopted = unpack_adopted(answer)
    cluster.core.on_worker_status(number, True)
    done, running = cluster.view("done"), cluster.view("running")
    assert epoch == EPOCH
    assert adopted == [(done["id"], done["attempt"]), (running["id"], running["attempt"]), (0, 0)]
    assert (done["state"], running["state"], cluster.state("gone")) == ("memory", "processing", "ready")
    assert running["attempt"] >= 2
    cluster.core.validate()
    cluster.act()
    assert client.told("done").status == FINISHED


def test_a_declaration_of_another_life_is_refused_by_id() -> None:
    cluster = Cluster([1])
    with pytest.raises(ValueError, match="another life"):
        cluster.core.on_declared(0, declared_frame([], TYPES, EPOCH + 1), True, False)


# -- digests -----------------------------------------------------------------------------------------------------------


def ask(cluster: Cluster, worker: int = 0) -> None:
    """The worker declares what it has because its digest differs."""
    cluster.core.on_asked(worker)
    body = cluster.declaration(cluster.workers[worker], list(cluster.workers[worker].assigned)[:1])
    cluster.core.on_declared(worker, body, False, False)


def test_nothing_changes_where_both_sides_agree() -> None:
    cluster = with_running_and_done()
    cluster.started(0, "running")
    with cluster.unchanged():
        ask(cluster)
    assert cluster.act() == []


def test_data_that_a_worker_forgot_is_computed_again() -> None:
    cluster = with_running_and_done()
    cluster.workers[0].held.pop("done")
    ask(cluster)
    cluster.work_off()
    cluster.finish()
    assert cluster.view("done")["attempt"] == 2


def test_data_that_nobody_knows_is_freed() -> None:
    cluster = with_running_and_done()
    cluster.workers[0].held["unknown"] = 12345 << 32
    ask(cluster)
    cluster.finish()


def test_a_task_that_a_worker_does_not_have_is_given_away_again() -> None:
    cluster = with_running_and_done()
    cluster.workers[0].assigned.clear()
    ask(cluster)
    cluster.work_off()
    cluster.finish()


def test_a_task_that_nobody_gave_to_a_worker_is_freed() -> None:
    cluster = with_running_and_done()
    row = cluster.workers[0].assigned["running"]
    cluster.gives_back(0, "running")
    cluster.pause(0)
    cluster.workers[0].assigned["running"] = row
    ask(cluster)
    cluster.act()
    assert any(row.id in frame.ids for frame in cluster.of_kind(Free))
    cluster.work_off()
    cluster.finish()


def test_what_was_given_after_the_question_is_not_missed() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.submit("first")
    cluster.act()
    cluster.core.on_asked(0)
    body = cluster.declaration(cluster.workers[0])
    client.submit("second")
    cluster.done(0, "first")
    cluster.act()
    assert "second" in cluster.workers[0].assigned
    cluster.core.on_declared(0, body, False, False)
    assert cluster.act() == []
    cluster.work_off()
    cluster.finish()


def test_digests_can_be_compared_when_nothing_is_on_its_way() -> None:
    cluster = with_running_and_done()
    assert cluster.core.agrees(0, 0, 0, 0) is None
    assert cluster.core.agrees(0, 0, 0, 2) is False
    cluster.cut(0)
    assert cluster.core.agrees(0, 0, 0, 0) is None
