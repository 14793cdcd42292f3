"""The same objects where calls are awaited: asynchronous clients, `async with`, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from fastdist import Client, Event, LocalCluster, Lock, MultiLock, Queue, Semaphore, Variable


def double(x: int) -> int:
    return 2 * x


def run(cluster: LocalCluster, scenario: Any) -> Any:
    """Run `scenario(client)` with an asynchronous client, in an event loop of its own."""

    async def main() -> Any:
        async with Client(cluster, asynchronous=True) as client:
            return await scenario(client)

    return asyncio.run(main())


def test_everything_is_awaited(cluster: LocalCluster) -> None:
    async def scenario(client: Client) -> None:
        lock = await Lock("async")
        assert await lock.acquire() is True
        assert await lock.locked() is True
        assert await Lock("async").acquire(timeout=0.01) is False
        assert await lock.release() is True
        async with Semaphore(2, "async two") as semaphore:
            assert await semaphore.get_value() == 1
        await semaphore.close()
        event = await Event("async")
        assert await event.is_set() is False
        await event.set()
        assert await event.wait(timeout=1) is True
        await event.clear()
        async with MultiLock(["l", "r"]) as forks:
            assert forks.locked()
            assert await MultiLock(["r"]).acquire(blocking=False) is False
        variable = await Variable("async")
        await variable.set(client.submit(double, 4))
        assert await (await variable.get()) == 8
        assert variable.delete() is None

    run(cluster, scenario)


def test_a_queue_in_coroutines(cluster: LocalCluster) -> None:
    async def scenario(client: Client) -> None:
        queue = await Queue("async", maxsize=2)
        late = Queue("async")
        waiting = asyncio.ensure_future(late.get())
        await queue.put(client.submit(double, 5))
        assert await (await waiting) == 10
        await queue.put(1)
        await queue.put(2)
        with pytest.raises(TimeoutError):
            await queue.put(3, timeout="10ms")
        assert await queue.qsize() == 2
        assert await queue.get(batch=True) == [1, 2]
        queue.close()
        late.close()

    run(cluster, scenario)


def test_the_methods_of_a_synchronous_client_can_be_awaited_too(client: Client) -> None:
    async def main() -> int:
        async with Lock("mixed") as lock:
            return await lock._call(lock._get_value, asynchronous=True)

    assert asyncio.run(main()) == 1
    assert Lock("mixed").locked() is False


async def until(condition: Any) -> None:
    """Look until a condition holds."""
    while not condition():  # noqa: ASYNC110 (what the scheduler knows cannot be waited for)
        await asyncio.sleep(0.001)


async def cancelled(waiting: Coroutine[Any, Any, Any], seen: Any) -> None:
    """Start a wait, and cancel it once the scheduler has it."""
    task = asyncio.ensure_future(waiting)
    await until(seen)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not seen())


def test_a_cancelled_wait_leaves_the_line(cluster: LocalCluster, record_of: Any, extensions: Any) -> None:
    async def scenario(client: Client) -> None:
        lock = Lock("cancelled")
        await lock.acquire()
        record = record_of("semaphores", "cancelled")
        await cancelled(Lock("cancelled").acquire(), lambda: record.line)
        await lock.release()
        assert await lock.acquire(timeout=0)
        held = MultiLock(["c"])
        await held.acquire()
        await cancelled(MultiLock(["c"]).acquire(), lambda: extensions["multi-locks"].line)
        await held.release()

    run(cluster, scenario)


def test_a_cancelled_get_takes_no_value(cluster: LocalCluster, record_of: Any) -> None:
    async def scenario(client: Client) -> None:
        queue = await Queue("cancelled", maxsize=1)
        record = record_of("queues", "cancelled")
        await cancelled(queue.get(), lambda: record.getting)
        await cancelled(queue.get(batch=2), lambda: record.getting)
        await queue.put("kept")
        await cancelled(queue.put("dropped"), lambda: record.putting)
        # The first of two is there, the second is not: nobody gets the first.
        half = asyncio.ensure_future(queue.get(batch=2))
        await until(lambda: record.getting)
        half.cancel()
        await asyncio.gather(half, return_exceptions=True)
        assert await queue.get(timeout=10) == "kept"
        assert await queue.qsize() == 0
        queue.close()

    run(cluster, scenario)
