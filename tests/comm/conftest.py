"""What the tests of connections share."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastdist.comm import Comm, Limits, Listener, Role, Token, connect, listen


class Ends:
    """A listener, the connecting end and the accepting end, and what each of them received."""

    def __init__(self, listener: Listener, near: Comm, far: Comm) -> None:
        self.listener, self.near, self.far = listener, near, far
        self.received: dict[Comm, list[Any]] = {near: [], far: []}
        self.closed: dict[Comm, list[Exception | None]] = {near: [], far: []}
        self._news = asyncio.Event()

    def start(self, comm: Comm, on_frame: Callable[[int, memoryview], None] | None = None) -> None:
        def keep_frame(kind: int, body: memoryview) -> None:
            self.received[comm].append((kind, bytes(body)))
            self._news.set()

        def keep_control(message: dict[str, Any], buffers: list[Any]) -> None:
            self.received[comm].append((message, buffers))
            self._news.set()

        def keep_reason(reason: Exception | None) -> None:
            self.closed[comm].append(reason)
            self._news.set()

        comm.start(on_frame or keep_frame, keep_control, keep_reason)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 30)


@pytest.fixture
def token() -> Token:
    return Token.generate("made for a test")


@pytest.fixture(params=["tcp://127.0.0.1:0", "inproc://"])
def address(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ends(token: Token) -> Callable[..., Any]:
    """`async with ends(address, limits) as pair:` two started ends of one connection."""

    @asynccontextmanager
    async def open_ends(
        address: str, limits: Limits | None = None, start: bool = True
    ) -> AsyncIterator[Ends]:
        arrived: asyncio.Future[Comm] = asyncio.get_running_loop().create_future()
        listener = await listen(address, token=token, epoch=7, on_comm=arrived.set_result, limits=limits)
        near = await connect(listener.address, role=Role.CLIENT, token=token, limits=limits)
        pair = Ends(listener, near, await arrived)
        if start:
            pair.start(pair.near)
            pair.start(pair.far)
        try:
            yield pair
        finally:
            await pair.near.close()
            await pair.far.close()
            await listener.close()

    return open_ends


@pytest.fixture(scope="session")
def uvloop_is_warm() -> None:
    """The first loop of uvloop opens a pipe for signals that the process keeps."""
    try:
        import uvloop
    except ImportError:
        return
    loop = uvloop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture(autouse=True)
def no_leaked_descriptors(uvloop_is_warm: None) -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    if len(os.listdir("/proc/self/fd")) > before:
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
