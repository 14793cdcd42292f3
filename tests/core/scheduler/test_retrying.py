"""What clients hear of tasks that are tried again, and of those that were refused once. May import: its siblings."""

from __future__ import annotations

from dataclasses import replace

from fastdist._core.codec.frames import TaskStatus
from fastdist._core.keys.canonical import encode_key
from tests.core.scheduler.builders import Cluster

PENDING, FINISHED, ERRED = TaskStatus.STATUS_PENDING, TaskStatus.STATUS_FINISHED, TaskStatus.STATUS_ERRED


def test_all_that_is_wanted_behind_a_retried_task_is_told_pending_once() -> None:
    cluster = Cluster([2])
    client = cluster.client()
    client.submit("root")
    client.submit("middle", "root")
    client.submit("last", "root", "middle")
    cluster.act()
    cluster.failed(0, "root")
    cluster.act()
    cluster.core.on_retry([encode_key("root")])
    cluster.act()
    assert [client.heard(key) for key in ("root", "middle", "last")] == [[ERRED, PENDING]] * 3


def test_a_task_that_was_refused_can_be_submitted_anew() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.submit("input")
    cluster.act()
    client.cancel("input")
    # On its way when the cancellation reached the scheduler.
    client.submit_rows([replace(client.row("task", "input"), wanted=False), client.row("wanted", "task")])
    cluster.act()
    client.submit_rows([client.row("input"), client.row("task", "input"), client.row("other", "task")])
    cluster.work_off()
    assert client.heard("other") == [FINISHED]


def test_a_task_that_was_refused_takes_no_work_that_would_wait_for_itself() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.submit("input")
    cluster.act()
    client.cancel("input")
    client.submit_rows([replace(client.row("task", "input"), wanted=False), client.row("wanted", "task")])
    cluster.act()
    client.submit_rows([client.row("task", "wanted")])
    cluster.act()
    assert cluster.state("task") == "erred"
    cluster.core.validate()
