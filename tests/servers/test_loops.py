"""Loops that users give and get, with tornado and without. May import: fastdist, pytest."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fastdist import Client, LocalCluster, as_completed
from fastdist.compat.loops import PlainLoop, io_loop
from fastdist.loop import BorrowedLoop, LoopThread, asyncio_loop_of
from fastdist.utils_test import captured_logger, gen_cluster, inc


@pytest.fixture(scope="module")
def thread() -> Iterator[LoopThread]:
    """A loop that runs on a thread of its own."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of a cluster in this process."""
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False) as cluster, Client(cluster) as client:
        yield client


@pytest.mark.parametrize("kind", ["tornado", "plain"])
def test_callbacks_run_on_the_loop_from_any_thread(thread: LoopThread, kind: str) -> None:
    if kind == "tornado" and importlib.util.find_spec("tornado") is None:
        pytest.skip("needs tornado")
    loop = io_loop(thread.loop) if kind == "tornado" else PlainLoop(thread.loop)
    assert loop.asyncio_loop is thread.loop and asyncio_loop_of(loop) is thread.loop
    called = threading.Event()
    names: list[str] = []

    def note(name: str, last: bool = False) -> None:
        names.append(name)
        assert thread.is_current()
        if last:
            called.set()

    async def later() -> None:
        note("coroutine")
        loop.call_later(0.001, note, "later", last=True)

    loop.add_callback(note, "callback")
    loop.add_callback(later)
    assert called.wait(5)
    assert names == ["callback", "coroutine", "later"]


def test_a_plain_loop_logs_what_fails_and_outlives_its_loop(thread: LoopThread) -> None:
    loop = PlainLoop(thread.loop)

    async def fails() -> None:
        raise ZeroDivisionError("on purpose")

    with captured_logger("fastdist.loop", logging.ERROR) as log:
        loop.add_callback(lambda: 1 / 0)
        loop.add_callback(fails)
        thread.run(asyncio.sleep(0.01))
    assert log.getvalue().count("ZeroDivisionError") >= 2
    assert thread.run(_in_thread(loop)) == 3
    done: asyncio.Future[int] = thread.run(_future(loop))
    assert done.result() == 1
    closed = asyncio.new_event_loop()
    closed.close()
    PlainLoop(closed).add_callback(print)


async def _in_thread(loop: PlainLoop) -> int:
    assert loop.time() > 0
    timer = loop.call_at(loop.time() + 60, print)
    loop.remove_timeout(timer)
    return int(await loop.run_in_executor(None, sum, [1, 2]))


async def _future(loop: PlainLoop) -> asyncio.Future[int]:
    future: asyncio.Future[int] = loop.asyncio_loop.create_future()
    seen = asyncio.Event()
    loop.add_future(future, lambda done: seen.set())
    future.set_result(1)
    await asyncio.wait_for(seen.wait(), 5)
    return future


def test_a_borrowed_loop_is_used_and_left_running(thread: LoopThread) -> None:
    borrowed = BorrowedLoop(thread.loop)
    assert borrowed.run(asyncio.sleep(0, 5)) == 5
    assert not borrowed.is_current() and thread.run(_is_current(borrowed))
    with pytest.raises(RuntimeError, match="wait for itself"):
        thread.run(_blocks(borrowed))
    borrowed.release()
    assert thread.is_alive() and not borrowed.is_alive()
    with pytest.raises(RuntimeError, match="closed"):
        borrowed.run(asyncio.sleep(0))


async def _is_current(loop: BorrowedLoop) -> bool:
    return loop.is_current()


async def _blocks(loop: BorrowedLoop) -> None:
    loop.run(asyncio.sleep(0))


def test_clients_live_on_the_loop_that_they_are_given(client: Client, thread: LoopThread) -> None:
    with Client(client.cluster, loop=client.loop, set_as_default=False) as other:
        assert other.loop is client.loop
    # A scheduler in this process belongs to one loop; over a port any will do.
    with (
        LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None) as cluster,
        Client(cluster, loop=io_loop(thread.loop), set_as_default=False) as other,
    ):
        assert other.loop.asyncio_loop is thread.loop
        assert other.submit(inc, 1).result() == 2
        future = other.submit(inc, 2)
        assert [done.result() for done in as_completed([future], loop=other.loop)] == [3]
        with pytest.raises(ValueError, match="loop="):
            as_completed([future], loop=client.loop)
    assert thread.is_alive()


def test_loops_that_do_not_run_or_are_none_are_refused(client: Client) -> None:
    idle = asyncio.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match="does not run"):
            Client(client.cluster, loop=idle)
    finally:
        idle.close()
    with pytest.raises(TypeError, match="loop="):
        Client(client.cluster, loop="a loop")
    with pytest.raises(TypeError, match="loop="):
        as_completed([], loop="a loop")


@gen_cluster(client=True)
async def test_operations_of_the_scheduler_are_found_by_name(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.submit(inc, 1, key="x", workers=[a.address])
    await x
    assert c.scheduler.address == c.scheduler.addr == s.address
    assert (await c.scheduler.identity())["n_workers"] == 2
    assert await c.scheduler.who_has(keys=["x"]) == {"x": [a.address]}
    assert await c.scheduler.has_what() == {a.address: ["x"], b.address: []}
    assert await c.scheduler.processing() == {a.address: [], b.address: []}
    assert await c.scheduler.ncores() == {a.address: 1, b.address: 2}
    with pytest.raises(NotImplementedError, match="no-such-thing"):
        await c.scheduler.no_such_thing()
    async with Client(s.address, asynchronous=True, loop=s.loop, set_as_default=False) as other:
        assert other.loop is s.loop


def test_operations_of_the_scheduler_run_on_the_loop_of_a_blocking_client(client: Client) -> None:
    assert client.sync(client.scheduler.identity)["type"] == "Scheduler"
