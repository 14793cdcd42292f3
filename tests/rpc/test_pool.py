"""Shared connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastdist.comm import Listener, Role, Token, listen
from fastdist.errors import CommClosedError
from fastdist.rpc import ConnectionPool, Peer


@pytest.fixture
def serve(token: Token) -> Callable[..., Any]:
    @asynccontextmanager
    async def open_servers(
        address: str, count: int = 1
    ) -> AsyncIterator[tuple[list[Listener], list[Peer], Any]]:
        arrived: list[Peer] = []

        async def hold(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
            await asyncio.Event().wait()

        handlers = {"name": lambda peer, fields, buffers: {"name": peer.comm.local_address}, "hold": hold}
        listeners = [
            await listen(address, token=token, on_comm=lambda comm: arrived.append(Peer(comm, handlers)))
            for _ in range(count)
        ]
        pool = ConnectionPool(Role.WORKER, token, max_connections=2)
        try:
            yield listeners, arrived, pool
        finally:
            await pool.close()
            for peer in arrived:
                await peer.close()
            for listener in listeners:
                await listener.close()

    return open_servers


def test_one_connection_is_shared_by_all_who_ask_at_once(address: str, serve: Any) -> None:
    async def main() -> None:
        async with serve(address) as (listeners, arrived, pool):
            found = await asyncio.gather(*[pool.get(listeners[0].address) for _ in range(20)])
            assert len({id(peer) for peer in found}) == 1
            assert (await found[0].call("name"))["name"] == listeners[0].address
            assert len(arrived) == len(pool) == 1 and listeners[0].address in pool
            assert await pool.get(listeners[0].address) is found[0]

    asyncio.run(main())


def test_a_cancelled_getter_does_not_take_the_connection_from_the_others(address: str, serve: Any) -> None:
    async def main() -> None:
        async with serve(address) as (listeners, _, pool):
            first = asyncio.ensure_future(pool.get(listeners[0].address))
            second = asyncio.ensure_future(pool.get(listeners[0].address))
            await asyncio.sleep(0)
            first.cancel()
            assert (await second).closed is False

    asyncio.run(main())


def test_a_closed_connection_is_forgotten_and_opened_again(address: str, serve: Any) -> None:
    async def main() -> None:
        async with serve(address) as (listeners, arrived, pool):
            peer = await pool.get(listeners[0].address)
            await peer.call("name")
            arrived[0].abort()
            await peer.wait_closed()
            assert len(pool) == 0
            again = await pool.get(listeners[0].address)
            assert again is not peer and not again.closed
            pool.drop(listeners[0].address)
            assert again.closed and len(pool) == 0

    asyncio.run(main())


def test_above_its_limit_the_longest_unused_idle_connection_goes(address: str, serve: Any) -> None:
    async def main() -> None:
        async with serve(address, 3) as (listeners, _, pool):
            addresses = [listener.address for listener in listeners]
            one, two = await pool.get(addresses[0]), await pool.get(addresses[1])
            await pool.get(addresses[0])
            await pool.get(addresses[2])
            assert two.closed and not one.closed
            assert addresses[1] not in pool and len(pool) == 2

    asyncio.run(main())


def test_a_busy_connection_stays_even_above_the_limit(address: str, serve: Any) -> None:
    async def main() -> None:
        async with serve(address, 3) as (listeners, _, pool):
            waiting = []
            for listener in listeners:
                peer = await pool.get(listener.address)
                waiting.append(asyncio.ensure_future(peer.call("hold")))
                await asyncio.sleep(0)
            assert len(pool) == 3
            await pool.close()
            for call in waiting:
                with pytest.raises(CommClosedError):
                    await call

    asyncio.run(main())


def test_a_failure_to_connect_reaches_all_who_wait_and_is_not_remembered(serve: Any) -> None:
    async def main() -> None:
        async with serve("tcp://127.0.0.1:0") as (listeners, _, pool):
            gone = listeners[0].address
            await listeners[0].close()
            failures = await asyncio.gather(pool.get(gone), pool.get(gone), return_exceptions=True)
            assert [type(failure) for failure in failures] == [ConnectionRefusedError] * 2
            with pytest.raises(ConnectionRefusedError):
                await pool.get(gone)

    asyncio.run(main())


def test_a_closed_pool_gives_nothing(address: str, serve: Any) -> None:
    async def main() -> None:
        async with serve(address) as (listeners, _, pool):
            peer = await pool.get(listeners[0].address)
            await pool.close()
            assert peer.closed
            with pytest.raises(CommClosedError, match="the connection pool is closed"):
                await pool.get(listeners[0].address)

    asyncio.run(main())
