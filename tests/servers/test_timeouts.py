"""How long a scheduler waits for workers that are silent, and for workers that could run a task.

May import: fastdist, pytest.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from fastdist import Nanny, Scheduler, Status, config
from fastdist.scheduler import NoValidWorkerError, NoWorkerError
from fastdist.utils_test import async_poll_for, gen_cluster, inc

WAITS = {"config": {"scheduler.no-workers-timeout": "100 ms"}}


@gen_cluster(client=True, nthreads=[], **WAITS)  # type: ignore[arg-type]
async def test_a_task_fails_when_there_was_no_worker_for_too_long(c: Any, s: Any) -> None:
    x = c.submit(inc, 1, key="x")
    y = c.submit(inc, x, key="y")
    with pytest.raises(NoWorkerError) as caught:
        await x
    assert (caught.value.task, caught.value.timeout) == ("x", 0.1)
    with pytest.raises(NoWorkerError, match="'x'"):
        await y


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], **WAITS)  # type: ignore[arg-type]
async def test_a_task_fails_when_no_worker_fitted_it_for_too_long(c: Any, s: Any, a: Any) -> None:
    x = c.submit(inc, 1, key="x", resources={"GPU": 1})
    y = c.submit(inc, 2, key="y", workers=["tcp://127.0.0.1:1", "nowhere"])
    with pytest.raises(NoValidWorkerError) as caught:
        await x
    assert (caught.value.task, caught.value.resource_restrictions) == ("x", {"GPU": 1.0})
    with pytest.raises(NoValidWorkerError) as caught:
        await y
    assert (caught.value.worker_restrictions, caught.value.host_restrictions) == ({"tcp://127.0.0.1:1"}, {"nowhere"})
    assert await c.submit(inc, 1, key="fine") == 2


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], scheduler_kwargs={"worker_ttl": "200 ms"})
async def test_a_worker_that_does_not_report_is_removed(c: Any, s: Any, a: Any) -> None:
    assert s.worker_ttl == 0.2
    address = a.address
    await async_poll_for(lambda: address not in s.workers, timeout=5)
    await asyncio.wait_for(a.finished(), 5)
    assert a.status is Status.closed
    assert [event["action"] for _, event in s.get_events("scheduler")] == ["worker-ttl-timed-out"]


def stick(dask_worker: Any) -> None:
    async def block() -> None:
        time.sleep(3)  # noqa: ASYNC251

    dask_worker.loop.add_callback(block)


@gen_cluster(
    client=True,
    nthreads=[("127.0.0.1", 1)],
    Worker=Nanny,
    scheduler_kwargs={"worker_ttl": "700 ms"},
    worker_kwargs={"heartbeat_interval": "50 ms"},
)
async def test_a_worker_whose_event_loop_is_stuck_is_restarted(c: Any, s: Any, a: Any) -> None:
    before = next(iter(s.workers))
    pid = s.workers[before].pid
    await c.run(stick)
    await async_poll_for(lambda: [state.pid for state in s.workers.values()] not in ([], [pid]), timeout=10)
    assert await c.submit(inc, 1) == 2


def test_they_are_off_by_default_and_taken_from_the_settings() -> None:
    # dask.config may have what dask.distributed put there, if another test imported it.
    with config.defaults():
        scheduler = Scheduler(host="127.0.0.1", insecure=True)
    assert scheduler.worker_ttl is None and scheduler.extensions["unrunnable"].timeout is None  # type: ignore[attr-defined]
    with config.set({"scheduler.worker-ttl": "5 minutes", "scheduler.no-workers-timeout": "1 h"}):
        scheduler = Scheduler(host="127.0.0.1", insecure=True)
    assert scheduler.worker_ttl == 300 and scheduler.extensions["unrunnable"].timeout == 3600  # type: ignore[attr-defined]
