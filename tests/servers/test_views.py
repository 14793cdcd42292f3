"""What schedulers and workers in one event loop show of themselves, under the names of dask.distributed.

May import: fastdist, pytest.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastdist import Scheduler, Status, Worker
from fastdist.compat.memory import MemoryState
from fastdist.utils_test import async_poll_for, gen_cluster, inc, slowinc, throws, wait_for_state


@gen_cluster(client=True)
async def test_a_finished_task_is_shown_with_its_data(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.submit(inc, 1, key="x-1", workers=[a.address])
    y = c.submit(inc, x, key="y-2", workers=[a.address])
    assert await y == 3
    task = s.tasks["x-1"]
    assert (task.key, task.state, task.type, task.retries, task.suspicious) == ("x-1", "memory", "int", 0, 0)
    assert task.nbytes == 32 == s.workers[a.address].nbytes / 2
    assert task.who_has == {s.workers[a.address]}
    assert task.dependents == {s.tasks["y-2"]} and s.tasks["y-2"].dependencies == {task}
    assert task.waiting_on == task.waiters == set()
    assert task.processing_on is None
    assert task.who_wants == {s.clients[c.id]}
    assert task.worker_restrictions == {a.address} and not task.loose_restrictions
    assert task.annotations == {"workers": [a.address]}
    assert repr(task) == "<TaskState 'x-1' memory>"
    assert s.workers[a.address].has_what.keys() == {task, s.tasks["y-2"]}
    assert s.clients[c.id].wants_what == set(s.tasks.values())
    assert s.get_who_has(["x-1", "nothing"]) == {"x-1": [a.address], "nothing": []}
    assert s.get_nbytes() == {"x": 32, "y": 32}
    assert s.get_task_status(["x-1", "nothing"]) == {"x-1": "memory", "nothing": None}


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_tasks_on_their_way_are_shown_with_what_they_wait_for(c: Any, s: Any, a: Any) -> None:
    x = c.submit(slowinc, 1, delay=0.3, key="x")
    y = c.submit(inc, x, key="y", priority=5, retries=2)
    await wait_for_state("x", "executing", a)
    task, dependent = s.tasks["x"], s.tasks["y"]
    assert (task.state, dependent.state) == ("processing", "waiting")
    assert task.processing_on == s.workers[a.address] and dependent.processing_on is None
    assert s.workers[a.address].processing == {task}
    assert dependent.waiting_on == {task} and task.waiters == {dependent}
    assert dependent.priority[0] == -5 and dependent.retries == 2
    assert dependent.annotations == {"priority": 5.0, "retries": 2}
    assert task.nbytes == -1 and task.get_nbytes() > 0 and task.type is None
    assert a.state.executing == {a.state.tasks["x"]} and a.active_keys == {"x"}
    assert s.idle == {} and not s.is_idle
    assert s.get_processing() == {a.address: ["x"]}
    assert await y == 3


@gen_cluster(client=True)
async def test_a_view_of_a_task_that_is_gone_says_so(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.submit(inc, 1, key="x")
    await x
    task = s.tasks["x"]
    same = s.tasks["x"]
    assert task == same and hash(task) == hash(same)
    x.release()
    await async_poll_for(lambda: task.state == "forgotten", timeout=5)
    assert "x" not in s.tasks and len(s.tasks) == 0 and list(s.tasks) == []
    with pytest.raises(KeyError):
        s.tasks["x"]
    with pytest.raises(KeyError, match="gone"):
        task.who_has  # noqa: B018
    # The same key again is another task.
    await c.submit(inc, 1, key="x")


@gen_cluster(client=True)
async def test_failed_and_unrunnable_tasks_are_shown(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.submit(throws, 1, key="x")
    y = c.submit(inc, 1, key="y", resources={"GPU": 1})
    with pytest.raises(RuntimeError, match="hello"):
        await x
    await wait_for_state("y", "no-worker", s)
    assert s.tasks["x"].state == "erred" and isinstance(s.tasks["x"].exception, bytes)
    assert list(s.unrunnable) == [s.tasks["y"]]
    assert s.tasks["y"].resource_restrictions == {"GPU": 1.0}
    assert s.tasks["x"].prefix.states["erred"] == 1
    y.release()


@gen_cluster(client=True)
async def test_groups_and_prefixes_count_their_tasks(c: Any, s: Any, a: Any, b: Any) -> None:
    futures = c.map(inc, range(5))
    await c.gather(futures)
    prefix, group = s.task_prefixes["inc"], s.task_groups["inc"]
    assert len(prefix) == len(group) == 5
    assert prefix.states["memory"] == group.states["memory"] == 5
    assert repr(prefix) == "<inc: memory: 5>"
    assert prefix.nbytes_total == 5 * 32 and prefix.types == {"int"}
    assert prefix.duration_average >= 0 and group.prefix == prefix and group.done
    assert s.get_task_prefix_states()["inc"]["memory"] == 5


@gen_cluster(nthreads=[("127.0.0.1", 1, {"name": "alice", "resources": {"A": 2}}), ("127.0.0.1", 2)])
async def test_workers_are_shown_by_address_and_found_by_name(s: Any, a: Any, b: Any) -> None:
    assert list(s.workers) == sorted([a.address, b.address])
    worker = s.workers[a.address]
    assert (worker.name, worker.nthreads, worker.status, worker.host) == ("alice", 1, Status.running, "127.0.0.1")
    assert worker.resources == {"A": 2.0} and worker.used_resources == {"A": 0.0}
    assert s.aliases == {"alice": a.address, 1: b.address}
    assert s.coerce_address("alice") == a.address and s.coerce_hostname("alice") == "127.0.0.1"
    assert s.total_nthreads == 3 and s.get_ncores() == {a.address: 1, b.address: 2}
    assert s.resources == {"A": {a.address: 2.0}}
    assert s.host_info["127.0.0.1"]["addresses"] == {a.address, b.address}
    assert s.running == set(s.workers.values()) == set(s.idle.values())
    assert repr(worker).startswith(f"<WorkerState {a.address!r}, name: alice, status: running, memory: 0")
    assert isinstance(s.memory, MemoryState)
    assert worker.identity()["address"] == a.address
    assert a.ip == s.ip == "127.0.0.1" and a.port == int(a.address.rpartition(":")[2]) > 0
    await a.close()
    await async_poll_for(lambda: a.address not in s.workers, timeout=5)
    assert worker.status is Status.closed and len(s.workers) == 1


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_worker_shows_its_tasks_and_data(c: Any, s: Any, a: Any) -> None:
    x = c.submit(inc, 1, key="x")
    assert await x == 2
    assert dict(a.data) == {"x": 2} and a.state.data["x"] == 2
    task = a.state.tasks["x"]
    assert (task.key, task.state, task.type, task.nbytes) == ("x", "memory", int, 32)
    assert a.state.nthreads == 1 and a.state.running and a.state.task_counts["memory"] == 1
    assert a.state.nbytes == 32 and a.state.executing_count == 0
    assert a.worker_address == a.address == a.listen_address
    a.state.validate_state()
    with pytest.raises(KeyError, match="nothing"):
        a.state.tasks["nothing"]


@gen_cluster()
async def test_what_is_not_there_is_an_attribute_error_or_names_what_is_missing(s: Any, a: Any, b: Any) -> None:
    for server in (s, a):
        with pytest.raises(AttributeError, match="no_such_thing"):
            server.no_such_thing  # noqa: B018
        assert not hasattr(server, "_no_such_thing")
    with pytest.raises(NotImplementedError, match="computations"):
        s.computations  # noqa: B018
    with pytest.raises(NotImplementedError, match="transfer_incoming_log"):
        a.transfer_incoming_log  # noqa: B018


@gen_cluster(client=True)
async def test_workers_can_be_removed_closed_and_asked(c: Any, s: Any, a: Any, b: Any) -> None:
    answers = await s.broadcast(msg={"op": "identity"})
    assert set(answers) == {a.address, b.address}
    with pytest.raises(ValueError, match="on_error"):
        await s.broadcast(msg={"op": "identity"}, on_error="perhaps")
    assert await s.remove_worker(a.address, expected=True) == "OK"
    assert list(s.workers) == [b.address]
    assert await s.remove_worker(a.address) == "already-removed"
    s.close_worker(b.address)
    await asyncio.wait_for(b.finished(), 5)
    assert b.status is Status.closed


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_loops_have_the_interface_of_tornado(c: Any, s: Any, a: Any) -> None:
    assert s.loop is a.loop is c.loop
    called = asyncio.Event()
    c.loop.add_callback(called.set)
    await asyncio.wait_for(called.wait(), 5)


async def _closed(**options: Any) -> None:
    await (await Scheduler(host="127.0.0.1", **options)).close()


def test_parameters_that_ask_for_what_is_not_built_are_refused() -> None:
    for options in ({"jupyter": True}, {"dashboard": True}, {"http_prefix": "/x"}, {"services": {"x": 1}}):
        with pytest.raises(NotImplementedError, match=next(iter(options))):
            Scheduler(**options)
    with pytest.raises(TypeError, match="no parameter 'nonsense'"):
        Scheduler(nonsense=1)
    with pytest.raises(ValueError, match="nonsense"):
        Scheduler(blocked_handlers=["nonsense"])
    with pytest.raises(ValueError, match="same length"):
        Scheduler(host=["127.0.0.1", "::1"], port=[0, 0, 0])
    with pytest.raises(TypeError, match="subclass"):
        Scheduler(extensions={"x": object})
    asyncio.run(_closed(jupyter=False, dashboard_address=":0", services={}))


def test_a_scheduler_may_listen_at_several_places_and_tell_another_address() -> None:
    async def main() -> None:
        async with Scheduler(host="127.0.0.1", port=[0, 0], protocol=["tcp", "inproc"]) as s:
            tcp, inproc = (listener.address for listener in s.listeners)
            assert s.address == tcp and inproc.startswith("inproc://")
            async with Worker(tcp, nthreads=1), Worker(inproc, nthreads=1):
                assert len(s.workers) == 2
        async with Scheduler(host="127.0.0.1", contact_address="tcp://example.org:1") as s:
            assert s.address == "tcp://example.org:1"

    asyncio.run(main())


def test_blocked_operations_are_refused() -> None:
    from fastdist import Client

    async def main() -> None:
        async with (
            Scheduler(host="127.0.0.1", blocked_handlers=["terminate"]) as s,
            Client(s.address, asynchronous=True) as c,
        ):
            with pytest.raises(ValueError, match="'terminate' handler has been explicitly disallowed"):
                await c._connection.call("terminate")

    asyncio.run(main())
