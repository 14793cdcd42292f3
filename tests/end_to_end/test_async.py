"""Clients on an event loop: `asynchronous=True`, awaited clients, futures and calls; calls of a blocking client."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fastdist import Client, LocalCluster, as_completed, wait
from fastdist.errors import ClosedClientError, FutureCancelledError


def inc(x: int) -> int:
    return x + 1


@pytest.fixture(params=["same loop", "other loop"])
def run(request: Any, cluster: LocalCluster) -> Callable[[Callable[[Client], Coroutine[Any, Any, Any]]], Any]:
    """Run a coroutine function with an asynchronous client of a cluster that lives on this loop or another one."""

    async def on_this_loop(test: Any) -> Any:
        async with (
            LocalCluster(n_workers=2, threads_per_worker=1, processes=False, asynchronous=True) as own,
            Client(own, asynchronous=True) as client,
        ):
            return await test(client)

    async def on_another_loop(test: Any) -> Any:
        async with Client(cluster, asynchronous=True) as client:
            return await test(client)

    if request.param == "same loop" and cluster.processes:
        pytest.skip("one kind of cluster is enough")
    chosen = on_this_loop if request.param == "same loop" else on_another_loop
    return lambda test: asyncio.run(asyncio.wait_for(chosen(test), 20))


def test_submit_map_gather(run: Any) -> None:
    async def test(client: Client) -> None:
        assert client.asynchronous
        assert await client.submit(inc, 1) == 2
        future = client.submit(inc, 2)
        assert await future.result() == 3
        assert await future == 3
        assert await client.gather(client.map(inc, range(1_000))) == list(range(1, 1_001))
        assert await client.gather({"a": [future]}) == {"a": [3]}
        assert await client.get({"x": 1, "y": (inc, "x")}, ["y", "x"]) == [2, 1]
        assert len(await client.submit(bytes, 100_000)) == 100_000

    run(test)


def test_errors(run: Any) -> None:
    async def test(client: Client) -> None:
        future = client.submit(operator.truediv, 1, 0)
        with pytest.raises(ZeroDivisionError):
            await future
        assert isinstance(await future.exception(), ZeroDivisionError)
        await future.traceback()
        with pytest.raises(ZeroDivisionError):
            await client.gather([client.submit(inc, future)])
        assert await client.gather([future, client.submit(inc, 1)], errors="skip") == [2]

    run(test)


def test_scatter_and_questions(run: Any) -> None:
    async def test(client: Client) -> None:
        futures = await client.scatter([1, 2])
        assert await client.gather(futures) == [1, 2]
        assert client.scheduler_info()["n_workers"] == 2
        assert sum((await client.nthreads()).values()) == 2
        assert set(await client.who_has(futures)) == {future.key for future in futures}
        assert set(await client.has_what()) == set(await client.ncores())
        await client.wait_for_workers(2)
        assert set((await client.run(inc, 1)).values()) == {2}

    run(test)


def test_cancel_and_retry(run: Any) -> None:
    async def test(client: Client) -> None:
        future = client.submit(inc, 5)
        await client.cancel(future)
        with pytest.raises(FutureCancelledError):
            await future
        failed = client.submit(operator.truediv, 1, 0)
        await wait(failed)
        await client.retry(failed)
        with pytest.raises(ZeroDivisionError):
            await failed

    run(test)


def test_as_completed_and_wait(run: Any) -> None:
    async def test(client: Client) -> None:
        futures = client.map(inc, range(20))
        assert {future.key async for future in as_completed(futures)} == {future.key for future in futures}
        results = [result async for _, result in as_completed(futures, with_results=True)]
        assert sorted(results) == list(range(1, 21))
        batches = [batch async for batch in as_completed(futures).batches()]
        assert sum(map(len, batches)) == 20
        assert (await wait(futures)).not_done == set()
        with pytest.raises(TimeoutError):
            await client.submit(asyncio.sleep, 0.3, pure=False).result(timeout=0.01)

    run(test)


def test_many_coroutines_at_once(run: Any) -> None:
    async def test(client: Client) -> None:
        async def chain(start: int) -> int:
            value = start
            for _ in range(5):
                value = await client.submit(inc, value, pure=False)
            return value

        assert await asyncio.gather(*map(chain, range(50))) == list(range(5, 55))

    run(test)


def test_the_client_can_be_awaited_and_closed(cluster: LocalCluster) -> None:
    async def main() -> None:
        client = await Client(cluster, asynchronous=True)
        future = client.submit(inc, 1)
        assert await future == 2
        await client.close()
        await client.close()
        assert client.status == "closed"
        with pytest.raises(ClosedClientError):
            client.submit(inc, 1)
        with pytest.raises(FutureCancelledError):
            await future

    asyncio.run(main())


def test_work_can_be_submitted_before_the_client_is_connected(cluster: LocalCluster) -> None:
    async def main() -> None:
        client = Client(cluster, asynchronous=True)
        future = client.submit(inc, 1)
        assert await future == 2
        await client.close()

    asyncio.run(main())


def test_a_client_that_starts_its_own_cluster() -> None:
    async def main() -> None:
        async with Client(asynchronous=True, n_workers=1, threads_per_worker=1, processes=False) as client:
            assert await client.submit(inc, 1) == 2

    asyncio.run(main())


def test_one_call_of_a_blocking_client_can_be_awaited(client: Client) -> None:
    futures = client.map(inc, range(3))

    async def main() -> None:
        assert await client.gather(futures, asynchronous=True) == [1, 2, 3]
        assert [await future for future in futures] == [1, 2, 3]
        assert await client.get({"x": (inc, 1)}, "x", asynchronous=True) == 2
        assert await client.scatter([1], asynchronous=True)
        assert await client.who_has(futures, asynchronous=True)
        await client.cancel(futures, asynchronous=True)

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_blocking_client_inside_of_a_coroutine_blocks_as_usual(client: Client) -> None:
    async def main() -> int:
        return client.submit(inc, 1).result()

    assert asyncio.run(main()) == 2


def test_misuse(client: Client, cluster: LocalCluster) -> None:
    with pytest.raises(TypeError, match="asynchronous=True"):
        client.__await__()

    async def main() -> None:
        async with Client(cluster, asynchronous=True) as other:
            with pytest.raises(RuntimeError, match="cannot block"):
                other.gather(other.map(inc, [1]), asynchronous=False)
            with pytest.raises(TypeError, match="async with"):
                other.__enter__()

    asyncio.run(main())
