"""Policies of one's own for the memory manager. May import: fastdist, pytest."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from fastdist import config
from fastdist.active_memory_manager import (
    ActiveMemoryManagerExtension,
    ActiveMemoryManagerPolicy,
    ReduceReplicas,
    Suggestion,
)
from fastdist.utils_test import async_poll_for, captured_logger, gen_cluster, inc


class Everywhere(ActiveMemoryManagerPolicy):
    """A copy of one task more each time, and what was answered."""

    def __init__(self, op: str, key: str = "x", to: list[Any] | None = None) -> None:
        self.op, self.key, self.to = op, key, to
        self.chosen: list[Any] = []

    def run(self) -> Generator[Any, Any, None]:
        task = self.manager.scheduler.tasks[self.key]
        while True:
            worker = yield self.op, task, self.to
            self.chosen.append(worker)
            if worker is None:
                return


class Wrong(ActiveMemoryManagerPolicy):
    def run(self) -> Generator[Any, Any, None]:
        yield "burn", None, None


ON_ITS_OWN: dict[str, Any] = {"register": False, "start": False}


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)] * 3)
async def test_a_policy_copies_and_drops_and_hears_where(c: Any, s: Any, *workers: Any) -> None:
    x = c.submit(inc, 1, key="x", workers=[workers[0].address])
    await x
    states = [s.workers[worker.address] for worker in workers]
    more, less = Everywhere("replicate"), Everywhere("drop")
    ActiveMemoryManagerExtension(s, {more}, **ON_ITS_OWN).run_once()
    assert set(more.chosen) == {states[1], states[2], None} and more.chosen[-1] is None
    await async_poll_for(lambda: len(s.tasks["x"].who_has) == 3, timeout=5)
    manager = ActiveMemoryManagerExtension(s, [less], measure="managed", **ON_ITS_OWN)
    manager.run_once()
    assert len(set(less.chosen)) == 3 and less.chosen[-1] is None
    await async_poll_for(lambda: len(s.tasks["x"].who_has) == 1, timeout=5)
    assert not manager.running and manager.pending == {} and s.extensions["amm"] is not manager


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)] * 3)
async def test_a_policy_chooses_among_candidates(c: Any, s: Any, *workers: Any) -> None:
    await s.scatter({"x": 1}, workers=[workers[0].address], client="me")
    here, there = s.workers[workers[0].address], s.workers[workers[2].address]
    policy = Everywhere("replicate", to=[here, there])
    ActiveMemoryManagerExtension(s, {policy}, **ON_ITS_OWN).run_once()
    assert policy.chosen == [there, None]
    await async_poll_for(lambda: s.tasks["x"].who_has == {here, there}, timeout=5)
    policy = Everywhere("drop", to=[there])
    ActiveMemoryManagerExtension(s, {policy}, **ON_ITS_OWN).run_once()
    assert policy.chosen == [there, None]
    await async_poll_for(lambda: s.tasks["x"].who_has == {here}, timeout=5)


@gen_cluster(client=True)
async def test_a_policy_that_fails_is_logged_and_the_others_run(c: Any, s: Any, a: Any, b: Any) -> None:
    await s.scatter({"x": 1}, broadcast=False, client="me")
    good = Everywhere("replicate")
    with captured_logger("fastdist.scheduler") as log:
        ActiveMemoryManagerExtension(s, [Wrong(), good], **ON_ITS_OWN).run_once()
    assert "'burn'" in log.getvalue() and len(good.chosen) == 2
    await async_poll_for(lambda: len(s.tasks["x"].who_has) == 2, timeout=5)


@gen_cluster(client=True)
async def test_one_that_is_registered_takes_the_calls_of_clients(c: Any, s: Any, a: Any, b: Any) -> None:
    await s.scatter({"x": 1}, client="me")
    policy = Everywhere("replicate")
    manager = ActiveMemoryManagerExtension(s, [policy], start=False, interval="1 min")
    assert s.extensions["amm"] is manager and manager.interval == 60
    await c.amm.run_once()
    assert len(policy.chosen) == 2
    await c.amm.start()
    assert await c.amm.running() and manager.running


def test_what_is_no_policy_is_refused() -> None:
    from fastdist import Scheduler

    scheduler: Any = Scheduler(host="127.0.0.1", insecure=True)
    with pytest.raises(TypeError, match="subclass of ActiveMemoryManagerPolicy"):
        ActiveMemoryManagerExtension(scheduler, [object()])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="measure"):
        ActiveMemoryManagerExtension(scheduler, [], measure="weight")
    assert Suggestion("drop", None).candidates is None


def test_the_setting_names_policies() -> None:
    from fastdist import Scheduler

    described = [
        {"class": "distributed.active_memory_manager.ReduceReplicas"},
        {"class": "fastdist.scheduler.policies.ReduceReplicas"},
    ]
    with config.set({"scheduler.active-memory-manager.policies": described}):
        manager: Any = Scheduler(host="127.0.0.1", insecure=True).extensions["amm"]
    assert [type(policy) for policy in manager.policies] == [ReduceReplicas, ReduceReplicas]
    for wrong in ([{"class": "short"}], [{}]):
        with (
            config.set({"scheduler.active-memory-manager.policies": wrong}),
            pytest.raises(ValueError, match="'class'"),
        ):
            Scheduler(host="127.0.0.1", insecure=True)
