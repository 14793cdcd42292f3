"""What the tests of requests and replies share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastdist.comm import Comm, Limits, Role, Token, connect, listen
from fastdist.rpc import Peer


@pytest.fixture
def token() -> Token:
    return Token.generate("made for a test")


@pytest.fixture(params=["tcp://127.0.0.1:0", "inproc://"])
def address(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def peers(token: Token) -> Callable[..., Any]:
    """`async with peers(address, handlers) as (near, far):`; the handlers are those of the far one."""

    @asynccontextmanager
    async def open_peers(
        address: str, handlers: dict[str, Any] | None = None, limits: Limits | None = None
    ) -> AsyncIterator[tuple[Peer, Peer]]:
        arrived: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()

        def take(comm: Comm) -> None:
            arrived.set_result(Peer(comm, handlers or {}, "the far side"))

        listener = await listen(address, token=token, on_comm=take, limits=limits)
        comm = await connect(listener.address, role=Role.CLIENT, token=token, limits=limits)
        near = Peer(comm, {}, "the near side")
        far = await arrived
        # Each names the other.
        near.name, far.name = far.name, near.name
        try:
            yield near, far
        finally:
            await near.close()
            await far.close()
            await listener.close()

    return open_peers
