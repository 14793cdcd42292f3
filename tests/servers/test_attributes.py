"""What servers offer to plugins and to functions that run in their process, under the names of dask.distributed.

May import: fastdist, pytest.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastdist import Nanny, Worker
from fastdist.utils_test import async_poll_for, gen_cluster, inc


@gen_cluster(client=True)
async def test_a_scheduler_gathers_and_scatters(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.submit(inc, 1, key="x", workers=[a.address])
    await x
    assert await s.gather(["x"]) == {"status": "OK", "data": {"x": 2}}
    assert await s.gather(["x", "nothing"]) == {"status": "error", "keys": ["nothing"]}
    assert await s.scatter({"d": 5}, workers=[b.address], client="me") == ["d"]
    assert s.get_who_has(["d"]) == {"d": [b.address]} and await s.gather(["d"]) == {"status": "OK", "data": {"d": 5}}
    s.client_releases_keys(["d", "x"], "me")
    await async_poll_for(lambda: "d" not in s.tasks, timeout=5)
    assert "x" in s.tasks


@gen_cluster(client=True)
async def test_a_scheduler_keeps_results_by_a_name_of_ones_own(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.submit(inc, 1, key="x")
    await x
    s.client_desires_keys(["x"], "a plugin")
    with pytest.raises(KeyError, match="nothing"):
        s.client_desires_keys(["nothing"], "a plugin")
    with pytest.raises(ValueError, match="connected"):
        s.client_desires_keys(["x"], c.id)
    x.release()
    y = c.submit(inc, 5, key="y")
    await y
    assert s.tasks["x"].state == "memory" and [str(each) for each in s.tasks["x"].who_wants] == ["a plugin"]
    s.client_releases_keys(["x"], "a plugin")
    await async_poll_for(lambda: "x" not in s.tasks, timeout=5)


@gen_cluster(client=True)
async def test_a_scheduler_shares_metadata_with_clients(c: Any, s: Any, a: Any, b: Any) -> None:
    await c.set_metadata(["run", "id"], 7)
    assert s.get_metadata(["run", "id"]) == 7 and s.task_metadata == {"run": {"id": 7}}
    s.set_metadata("from-a-plugin", {"deep": {"x": [1]}, "plain": None})
    assert await c.get_metadata(["from-a-plugin", "deep", "x"]) == [1]
    assert s.get_metadata("nothing", default=5) == 5
    with pytest.raises(KeyError, match="nothing"):
        s.get_metadata("nothing")
    with pytest.raises(ValueError, match="key"):
        s.set_metadata([], 1)


@gen_cluster(client=True)
async def test_a_scheduler_subscribes_clients_to_topics(c: Any, s: Any, a: Any, b: Any) -> None:
    got = asyncio.Event()
    c.subscribe_topic("ready", lambda event: got.set())
    await async_poll_for(lambda: "ready" in s.extensions["events"].subscribers, timeout=5)
    s.unsubscribe_topic("ready", c.id)
    assert "ready" not in s.extensions["events"].subscribers
    s.subscribe_topic("ready", c.id)
    s.log_event("ready", 1)
    await asyncio.wait_for(got.wait(), 5)
    with pytest.raises(KeyError, match="no client 'nobody'"):
        s.subscribe_topic("ready", "nobody")


@gen_cluster(client=True)
async def test_a_scheduler_tells_what_happened(c: Any, s: Any, a: Any, b: Any) -> None:
    await c.submit(inc, 1, key="x", workers=[a.address])
    x = c.submit(inc, 2, key="y")
    await x
    story = s.story("y")
    assert [(each.key, each.finish) for each in story][-1] == ("y", "memory")
    assert story[-1] in s.transition_log and s.story(s.tasks["y"]) == story
    state = await s.get_cluster_state(exclude=["transition_log"])
    assert sorted(state) == ["scheduler", "versions", "workers"] and "transition_log" not in state["scheduler"]
    assert "y" in state["scheduler"]["tasks"]


@gen_cluster(client=True)
async def test_a_scheduler_weighs_workers(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.submit(bytes, 10_000_000, key="x", workers=[a.address])
    y = c.submit(len, x, key="y", workers=[a.address])
    await y
    here, there = s.workers[a.address], s.workers[b.address]
    assert s.valid_workers(s.tasks["y"]) == {here}
    assert s.get_comm_cost(s.tasks["y"], here) == 0 < s.get_comm_cost(s.tasks["y"], there) < 1
    assert s.worker_objective(s.tasks["y"], here) != s.worker_objective(s.tasks["y"], there)
    assert s.valid_workers(s.tasks["x"]) == {here} and s.allowed_failures == 3
    assert await s.start() is s


@gen_cluster(client=True)
async def test_a_scheduler_asks_workers(c: Any, s: Any, a: Any, b: Any) -> None:
    answer = await s.proxy({"op": "identity"}, a.address)
    assert answer["address"] == a.address
    with pytest.raises(ValueError, match="no worker"):
        await s.proxy({"op": "identity"}, "tcp://127.0.0.1:1")
    assert set(await s.get_worker_logs()) == {a.address, b.address}


def held(name: str, dask_worker: Worker | None = None) -> Any:
    from fastdist import Event, get_worker

    Event(name).wait()
    return get_worker().active_threads, threading.get_ident()


@gen_cluster(client=True, nthreads=[("127.0.0.1", 2), ("127.0.0.1", 1)])
async def test_a_worker_has_a_client_calls_and_threads(c: Any, s: Any, a: Any, b: Any) -> None:
    from fastdist import Event

    await Event("go").set()
    future = c.submit(held, "go", key="x", workers=[a.address])
    threads, thread = await future
    assert threads == {thread: "x"} and a.active_threads == {}
    assert a.client is a.client and await a.client.submit(inc, 1) == 2
    assert (await a.rpc(b.address).identity())["address"] == b.address
    assert (await a.rpc(s.address).identity())["type"] == "Scheduler"
    assert a.security is not None and a.extensions == {}


def failing(worker: Worker) -> None:
    raise ValueError("on purpose")


async def later(worker: Worker) -> str:
    return f"{worker.nthreads} threads"


@gen_cluster(client=True, nthreads=[])
async def test_workers_report_what_users_add(c: Any, s: Any) -> None:
    metrics = {"double": lambda worker: 2 * worker.nthreads, "bad": failing, "unsendable": lambda worker: object()}
    async with Worker(s.address, nthreads=2, metrics=metrics, startup_information={"where": later}) as worker:
        state = s.workers[worker.address]
        assert state.extra == {"where": "2 threads"} and state.identity()["where"] == "2 threads"
        worker.metrics["added"] = lambda worker: "late"
        await worker.heartbeat()
        await async_poll_for(lambda: state.metrics.get("added") == "late", timeout=5)
        assert state.metrics["double"] == 4 and not {"bad", "unsendable"} & set(state.metrics)
        assert (await c.scheduler.identity())["workers"][worker.address]["where"] == "2 threads"
    for options in ({"metrics": {"x": 5}}, {"startup_information": {5: later}}):
        with pytest.raises(TypeError, match=next(iter(options))):
            Worker(s.address, **options)


def test_a_nanny_shows_the_memory_that_it_allows() -> None:
    nanny = Nanny("tcp://127.0.0.1:1", insecure=True, memory_limit="1 GB")
    manager = nanny.memory_manager
    assert (manager.memory_limit, manager.memory_terminate_fraction) == (10**9, 0.95)
    nanny.abandon()


@gen_cluster(client=True, nthreads=[])
async def test_tasks_run_in_executors_of_their_workers(c: Any, s: Any) -> None:
    dask = pytest.importorskip("dask")
    own = ThreadPoolExecutor(1, thread_name_prefix="own")
    async with Worker(s.address, nthreads=1, executor={"own": own}) as worker:
        assert worker.executors["own"] is own and sorted(worker.executors) == ["offload", "own"]
        with dask.annotate(executor="own"):
            name, key = await c.get({"x": (where,)}, "x", sync=False)
        assert name.startswith("own") and key == "x"
        known = "'other'; it has 'default', 'offload', 'own'"
        with dask.annotate(executor="other"), pytest.raises(ValueError, match=known):
            await c.get({"y": (where,)}, "y")
    with pytest.raises(RuntimeError, match="shutdown"):
        own.submit(inc, 1)
    for refused in (own, {"default": own}):
        with pytest.raises(NotImplementedError, match="executor"):
            Worker(s.address, executor=refused)
    with pytest.raises(TypeError, match="executor"):
        Worker(s.address, executor={"own": 5})


def where() -> tuple[str, Any]:
    from fastdist import get_worker

    return threading.current_thread().name, get_worker().get_current_task()
