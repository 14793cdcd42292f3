"""The log of transitions in both cores: off by default, in order, bounded. May import: fastdist._core."""

from __future__ import annotations

from fastdist._core.history.log import TransitionLog
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.core import SchedulerCore
from fastdist._core.worker.core import WorkerCore
from fastdist._core.worker.inspect import listen, take_transitions


def test_a_fresh_log_is_empty_and_has_lost_nothing() -> None:
    log = TransitionLog()
    assert (len(log), log.lost) == (0, 0)


def test_the_scheduler_core_writes_down_only_while_somebody_listens() -> None:
    core = SchedulerCore(1, (2, 3))
    client = core.on_client("c")
    core.on_scatter(client, 1, [encode_key("a")])
    assert core.take_transitions() == ([], 0)
    core.listen(True)
    core.on_scatter(client, 2, [encode_key("b")])
    changes, lost = core.take_transitions()
    assert lost == 0
    assert [(start, finish) for _, start, finish, *_ in changes] == [("released", "scattering")]
    assert core.take_transitions() == ([], 0)
    core.on_release_ids(client, [2])
    changes, _ = core.take_transitions()
    assert [(start, finish) for _, start, finish, *_ in changes] == [("scattering", "forgotten")]
    core.on_scatter(client, 3, [encode_key("d")])
    core.listen(False)
    assert core.take_transitions() == ([], 0)


def test_the_worker_core_writes_down_only_while_somebody_listens() -> None:
    core = WorkerCore(1, 0)
    core.on_put(1, encode_key("a"), 8, 0, 0.0)
    assert take_transitions(core) == ([], 0)
    listen(core, True)
    core.on_put(2, encode_key("b"), 8, 0, 0.0)
    assert take_transitions(core) == ([("b", "released", "memory")], 0)
    assert take_transitions(core) == ([], 0)
    listen(core, False)
    core.on_put(3, encode_key("c"), 8, 0, 0.0)
    assert take_transitions(core) == ([], 0)
