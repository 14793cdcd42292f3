"""What workers do: finish, fail, die, pause, answer late.

May import: fastdist._core, its siblings.
"""

from __future__ import annotations

import pytest

from fastdist._core.codec.frames import DoneStatus, TaskStatus
from tests.core.scheduler.builders import Cluster
from tests.core.scheduler.frames import EPOCH, DoneRow, Free, Run, RunRow, done_frame

FINISHED, ERRED, PENDING = TaskStatus.STATUS_FINISHED, TaskStatus.STATUS_ERRED, TaskStatus.STATUS_PENDING


def running(workers: list[int] | None = None, **settings: float) -> tuple[Cluster, RunRow]:
    """A cluster in which worker 0 was given the task x."""
    cluster = Cluster(workers or [1], **settings)
    cluster.client().submit("x")
    cluster.act()
    return cluster, cluster.run_row("x")


def test_a_result_of_an_older_attempt_is_ignored_and_counted() -> None:
    cluster, row = running()
    cluster.gives_back(0, "x", status=DoneStatus.DONE_RESCHEDULE)
    cluster.act()
    assert cluster.run_row("x").attempt == row.attempt + 1
    cluster.send(0, [DoneRow(row.id, row.attempt)])
    assert cluster.state("x") == "processing"
    assert cluster.core.counts()["stale_results"] == 1
    cluster.act()
    assert "x" in cluster.workers[0].assigned, "the answer to the old attempt freed the new one"
    cluster.work_off()
    cluster.finish()


def test_a_result_of_an_older_generation_is_ignored_and_its_data_freed() -> None:
    cluster, row = running()
    cluster.clients[0].release("x")
    cluster.act()
    cluster.clients[0].submit("x")
    cluster.send(0, [DoneRow(row.id, row.attempt)])
    cluster.act()
    assert cluster.view("x")["id"] != row.id
    assert cluster.workers[0].freed.count(row.id) == 2
    assert cluster.core.counts()["stale_results"] == 1


def test_a_result_of_another_epoch_is_ignored() -> None:
    cluster, row = running()
    cluster.core.on_done(0, done_frame([DoneRow(row.id, row.attempt)], ["int"], epoch=EPOCH + 1))
    assert (cluster.state("x"), cluster.core.counts()["stale_results"]) == ("processing", 1)


def test_a_result_of_the_wrong_worker_is_ignored_and_its_data_freed() -> None:
    cluster, row = running([1, 1])
    cluster.send(1, [DoneRow(row.id, row.attempt)])
    cluster.act()
    assert cluster.state("x") == "processing"
    assert cluster.of_kind(Free) == [Free(1, (row.id,), ())]


def test_a_result_twice_counts_once() -> None:
    cluster, row = running()
    cluster.done(0, "x")
    cluster.send(0, [DoneRow(row.id, row.attempt)])
    cluster.finish()
    assert (cluster.core.counts()["stale_results"], cluster.workers[0].freed) == (1, [])


def test_a_replica_that_comes_late_does_not_take_the_task_away_that_computes_it_again() -> None:
    cluster, row = running()
    cluster.send(0, [DoneRow(row.id, 0, DoneStatus.DONE_REPLICA)])
    cluster.act()
    assert "x" in cluster.workers[0].assigned
    cluster.work_off()
    cluster.finish()


def test_free_comes_before_run_in_one_batch() -> None:
    cluster, _ = running()
    client = cluster.clients[0]
    client.release("x")
    client.submit("x")
    cluster.act()
    kinds = [type(command) for command in cluster.commands]
    assert kinds == [Free, Run]
    cluster.work_off()
    cluster.finish()


def test_run_comes_before_retract_in_one_batch() -> None:
    """A task may be given and asked back at once; the worker must have heard of it."""
    cluster = Cluster([1])
    client = cluster.client()
    client.submit("big")
    cluster.act()
    cluster.done(0, "big", nbytes=50_000_000)
    client.submit_rows([client.row(f"k-{i}", "big") for i in range(20)])
    cluster.worker()
    cluster.act()
    cluster.work_off()
    cluster.finish()
    assert client.told("k-19").status == FINISHED


def test_a_task_that_raises_is_tried_again_as_often_as_asked() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("x", options=cluster.options(retries=2))
    for attempt in (1, 2):
        cluster.act()
        assert cluster.run_row("x").attempt == attempt
        cluster.failed(0, "x")
        assert cluster.state("x") == "ready"
    cluster.act()
    cluster.failed(0, "x", b"third")
    cluster.finish()
    assert (client.heard("x"), client.told("x").payload) == ([ERRED], b"third")


def test_a_failure_goes_to_all_dependents_and_what_they_alone_needed_is_released() -> None:
    cluster = Cluster(workers=[4])
    client = cluster.client()
    client.submit_rows(
        [
            client.row("a"),
            client.row("side", wanted=False),
            client.row("b", "a", "side"),
            client.row("c", "b"),
        ]
    )
    cluster.act()
    cluster.done(0, "side")
    cluster.failed(0, "a", b"boom")
    cluster.finish()
    assert [client.told(key).status for key in "abc"] == [ERRED] * 3
    assert cluster.workers[0].held == {}
    assert cluster.workers[0].assigned == {}


def test_a_lost_worker_gives_its_tasks_to_others_and_what_it_held_is_computed_again() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("a")
    client.submit("b", "a")
    client.submit("c", "b")
    cluster.act()
    first = cluster.where("a")
    cluster.done(first, "a", "b")
    client.release("a", "b")
    cluster.act()
    assert cluster.state("a") == "released"
    cluster.lose(first)
    assert [cluster.state(key) for key in "abc"] == ["ready", "waiting", "waiting"]
    cluster.work_off()
    cluster.finish()
    assert client.heard("c") == [FINISHED]


def test_a_wanted_result_that_is_lost_is_pending_and_then_finished_again() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("a")
    cluster.act()
    first = cluster.where("a")
    cluster.done(first, "a")
    cluster.act()
    cluster.lose(first)
    cluster.work_off()
    assert client.heard("a") == [FINISHED, PENDING, FINISHED]
    cluster.finish()


def test_data_with_another_replica_is_not_computed_again() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("a")
    cluster.act()
    first = cluster.where("a")
    cluster.done(first, "a")
    cluster.replica(1 - first, "a")
    cluster.lose(first)
    cluster.finish()
    assert (client.heard("a"), cluster.view("a")["attempt"]) == ([FINISHED], 1)


def test_data_that_is_missing_where_it_should_be_is_computed_again() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("a", options=cluster.options(workers=[0]))
    cluster.act()
    cluster.done(0, "a")
    cluster.missing(1, "a", 0)
    cluster.work_off()
    assert client.heard("a") == [FINISHED, PENDING, FINISHED]
    cluster.finish()


def test_only_executing_tasks_are_blamed_for_a_death() -> None:
    cluster = Cluster([1], allowed_failures=0)
    client = cluster.client()
    client.submit_rows([client.row("started"), client.row("queued"), client.row("ahead", "started")])
    cluster.act()
    cluster.started(0, "started")
    cluster.lose(0, how="signal 9")
    cluster.act()
    assert [cluster.state(key) for key in ("started", "queued", "ahead")] == ["erred", "ready", "erred"]
    assert b"killed-worker" in client.told("started").payload
    assert b"signal 9" in client.told("started").payload


def test_a_task_is_given_up_after_the_allowed_failures() -> None:
    cluster = Cluster([], allowed_failures=3)
    client = cluster.client()
    client.submit("x")
    for death in range(4):
        worker = cluster.worker()
        cluster.act()
        assert cluster.run_row("x").attempt == death + 1
        cluster.lose(worker)
    cluster.finish()
    assert client.told("x").status == ERRED
    assert cluster.view("x")["suspicious"] == 4


def test_with_a_nanny_only_its_report_blames() -> None:
    cluster = Cluster([], allowed_failures=0)
    client = cluster.client()
    worker = cluster.worker(nanny=True)
    client.submit("x")
    client.submit("y")
    cluster.act()
    row = cluster.run_row("x")
    cluster.lose(worker, blamed=False)
    assert cluster.state("x") == "ready"
    cluster.core.on_death_report("tcp://10.0.0.0:1", [(row.id, row.attempt)], "out of memory")
    cluster.finish()
    assert b"out of memory" in client.told("x").payload
    assert cluster.state("y") == "ready"


def test_a_report_about_a_task_that_is_gone_or_never_had_that_attempt_blames_nobody() -> None:
    cluster, row = running([1], allowed_failures=0)
    cluster.core.on_death_report("tcp://10.0.0.9:1", [(row.id, row.attempt + 1), (99, 1)], "signal 9")
    assert cluster.view("x")["suspicious"] == 0


def test_a_paused_worker_gives_back_what_it_has_not_started() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.submit("a")
    client.submit("b")
    cluster.act()
    assert list(cluster.workers[0].assigned) == ["a", "b"]
    cluster.started(0, "a")
    cluster.pause(0)
    cluster.worker()
    cluster.act()
    assert list(cluster.workers[0].asked_back) == ["b"]
    cluster.gives_back(0, "b")
    cluster.act()
    assert cluster.where("b") == 1
    cluster.done(0, "a")
    client.submit("c")
    cluster.act()
    assert cluster.where("c") == 1
    cluster.resume(0)
    cluster.work_off()
    cluster.finish()


def test_a_worker_may_refuse_to_give_back_what_it_has_started() -> None:
    cluster, row = running([1])
    cluster.pause(0)
    cluster.act()
    assert cluster.workers[0].asked_back == {"x": (row.id, row.attempt)}
    cluster.refuses(0, "x")
    cluster.act()
    assert cluster.state("x") == "processing"
    cluster.done(0, "x")
    cluster.finish()


def test_what_a_lost_worker_still_says_is_ignored() -> None:
    cluster, row = running([1, 1])
    cluster.lose(0)
    before = cluster.core.counts()
    cluster.core.on_done(0, done_frame([DoneRow(row.id, row.attempt)], ["int"]))
    cluster.core.on_worker_status(0, True)
    cluster.core.on_worker_lost(0, True, "again")
    assert cluster.core.counts() == before
    cluster.work_off()
    cluster.finish()


def test_a_worker_without_threads_is_refused() -> None:
    with pytest.raises(ValueError, match="no threads"):
        Cluster([0])


def test_unknown_numbers_are_refused() -> None:
    cluster = Cluster([1])
    with pytest.raises(KeyError):
        cluster.core.on_done(7, b"")
    with pytest.raises(KeyError):
        cluster.core.on_release(7, b"")
    with pytest.raises(KeyError):
        cluster.core.worker_view(7)
