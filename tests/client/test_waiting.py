"""wait and as_completed, blocking and awaited, and asynchronous clients. May import: fastdist, tests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from operator import neg
from typing import Any

import pytest

from fastdist import Client, as_completed, wait
from fastdist.errors import FutureCancelledError
from tests.client.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    cluster = FakeCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        yield client


def fail() -> None:
    raise ValueError("no")


def held(client: Client, cluster: FakeCluster, count: int) -> list[Any]:
    """Futures of tasks that have arrived and are not computed before `let_go`."""
    cluster.held = True
    futures = client.map(neg, range(count))
    client.scheduler_info()
    return futures


def test_wait_gives_done_and_not_done(client: Client, cluster: FakeCluster) -> None:
    futures = held(client, cluster, 3)
    cluster.let_go(1)
    done, not_done = wait(futures, return_when="FIRST_COMPLETED")
    assert done == {futures[0]} and not_done == set(futures[1:])
    cluster.let_go()
    assert wait({"nested": [futures]}).done == set(futures)
    cluster.held = False
    assert wait(client.submit(fail)).not_done == set()


def test_wait_for_the_first_wakes_up(client: Client, cluster: FakeCluster) -> None:
    futures = held(client, cluster, 3)
    cluster.loop_thread.loop.call_soon_threadsafe(
        cluster.loop_thread.loop.call_later, 0.02, lambda: cluster._compute(*_one(cluster))
    )
    done, _ = wait(futures, return_when="FIRST_COMPLETED", timeout=5)
    assert len(done) == 1
    with pytest.raises(TimeoutError):
        wait(futures, timeout="1 ms")


def _one(cluster: FakeCluster) -> Any:
    peer, row = cluster.waiting.pop()
    return peer, [row]


def test_wait_checks_its_arguments(client: Client) -> None:
    with pytest.raises(NotImplementedError, match="FIRST_EXCEPTION"):
        wait([client.submit(neg, 1)], return_when="FIRST_EXCEPTION")
    with pytest.raises(TypeError, match="timeout="):
        wait([client.submit(neg, 1)], timeout=[1])
    assert wait([]) == (set(), set())


def test_as_completed_gives_what_is_done_first(client: Client, cluster: FakeCluster) -> None:
    futures = held(client, cluster, 3)
    iterator = as_completed(futures)
    assert (iterator.count(), iterator.is_empty(), iterator.has_ready()) == (3, False, False)
    cluster.waiting.reverse()
    cluster.let_go(2)
    assert [next(iterator), next(iterator)] == [futures[2], futures[1]]
    assert not iterator.has_ready() and iterator.next_batch(block=False) == []
    cluster.let_go()
    assert list(iterator) == [futures[0]]
    assert iterator.is_empty()


def test_as_completed_takes_more_on_the_way(client: Client) -> None:
    iterator = as_completed(client.map(neg, [1, 2]))
    total = 0
    for future in iterator:
        total += future.result()
        if total > -10:
            iterator.add(client.submit(neg, 100))
    assert total in (-103, -203)


def test_a_future_given_twice_comes_twice(client: Client) -> None:
    future = client.submit(neg, 1)
    iterator = as_completed([future, future])
    assert next(iterator) is future
    iterator.add(future)
    assert list(iterator) == [future, future]


def test_as_completed_with_results(client: Client) -> None:
    good, bad = client.submit(neg, 1), client.submit(fail)
    assert list(as_completed([good], with_results=True)) == [(good, -1)]
    with pytest.raises(ValueError, match="no"):
        list(as_completed([bad], with_results=True))
    ((future, (kind, error, traceback)),) = as_completed([bad], with_results=True, raise_errors=False)
    assert future is bad and kind is ValueError and str(error) == "no" and traceback is not None


def test_as_completed_in_batches(client: Client, cluster: FakeCluster) -> None:
    futures = client.map(neg, range(5))
    wait(futures)
    batches = list(as_completed(futures).batches())
    assert [future for batch in batches for future in batch] == futures and len(batches) == 1


def test_as_completed_has_a_timeout_and_can_be_cleared(client: Client, cluster: FakeCluster) -> None:
    futures = held(client, cluster, 2)
    iterator = as_completed(futures, timeout="20 ms")
    with pytest.raises(TimeoutError, match="2 are not done"):
        next(iterator)
    iterator.clear()
    assert list(iterator) == []
    cluster.let_go()
    with pytest.raises(TypeError, match="takes futures, not int"):
        as_completed([1])


# Asynchronous clients


def run(cluster: FakeCluster, main: Any) -> None:
    """Run `main(client)` with an asynchronous client."""

    async def with_client() -> None:
        async with Client(cluster, asynchronous=True) as client:
            assert client.asynchronous
            await main(client)

    asyncio.run(with_client())


def test_an_asynchronous_client_is_awaited(cluster: FakeCluster) -> None:
    async def main(client: Client) -> None:
        future = client.submit(neg, 1)
        assert await future == -1
        assert await future.result() == -1
        assert await client.gather(client.map(neg, range(3))) == [0, -1, -2]
        assert await client.get({"x": (neg, 3)}, "x") == -3
        assert await client.gather(await client.scatter([7])) == [7]
        assert await client.nthreads() == {cluster.scheduler_address: 3}
        assert (await wait([future])).done == {future}
        assert isinstance(await client.submit(fail).exception(), ValueError)
        with pytest.raises(ValueError, match="no"):
            await client.submit(fail)
        with pytest.raises(RuntimeError, match="cannot block"):
            client.sync(nothing, asynchronous=False)
        with pytest.raises(TypeError, match="async with"):
            client.__enter__()

    run(cluster, main)


async def nothing() -> None:
    return None


def test_an_asynchronous_client_fetches_and_cancels(cluster: FakeCluster) -> None:
    async def main(client: Client) -> None:
        cluster.inline = False
        assert await client.gather(client.map(list, [[1], [2]])) == [[1], [2]]
        cluster.held = True
        future = client.submit(neg, 1)
        with pytest.raises(TimeoutError):
            await future.result(0.01)
        await future.cancel(reason="enough")
        with pytest.raises(FutureCancelledError, match="enough"):
            await future

    run(cluster, main)


def test_tasks_submitted_before_the_connection_are_sent(cluster: FakeCluster) -> None:
    async def main() -> None:
        client = Client(cluster, asynchronous=True)
        future = client.submit(neg, 4)
        assert await client is client
        assert await future == -4
        await client.close()
        await client.close()
        assert client.status == "closed"

    asyncio.run(main())


def test_as_completed_can_be_awaited(cluster: FakeCluster) -> None:
    async def main(client: Client) -> None:
        futures = client.map(neg, range(4))
        assert {future async for future in as_completed(futures)} == set(futures)
        pairs = [pair async for pair in as_completed(futures, with_results=True)]
        assert sorted(value for _, value in pairs) == [-3, -2, -1, 0]
        cluster.held = True
        with pytest.raises(TimeoutError, match="1 are not done"):
            async for _ in as_completed([client.submit(neg, 99)], timeout=0.01):
                raise AssertionError("nothing is done")

    run(cluster, main)


def test_single_calls_of_a_blocking_client_can_be_awaited(client: Client) -> None:
    async def main() -> None:
        futures = client.map(neg, range(3))
        assert await client.gather(futures, asynchronous=True) == [0, -1, -2]
        assert await futures[2] == -2
        assert await client.nthreads(asynchronous=True)

    asyncio.run(main())


def test_sync_runs_coroutine_functions(client: Client) -> None:
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    assert client.sync(double, 4) == 8
    with pytest.raises(TimeoutError):
        client.sync(asyncio.sleep, 60, callback_timeout=0.01)


def test_blocking_calls_on_the_loop_are_awaitables(client: Client) -> None:
    async def on_loop() -> Any:
        assert client.asynchronous
        future = client.submit(neg, 5)
        pending: Coroutine[Any, Any, Any] = future.result()
        return await pending

    assert client.sync(on_loop) == -5
