"""Connections: round trips of frames and calls, and the rate of large messages.

Each figure includes both ends, which share one event loop in one thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastdist.comm import Comm, Role, Token, connect, listen
from fastdist.rpc import Peer

ROUND_TRIPS = 1000


class Pair:
    """Two peers of one connection on a loop that runs only while something is measured."""

    def __init__(self, address: str, uvloop: bool) -> None:
        self.loop = new_loop(uvloop)
        self.near, self.far, self.listener = self.loop.run_until_complete(self._open(address))

    async def _open(self, address: str) -> tuple[Peer, Peer, Any]:
        token = Token.generate("made for a benchmark")
        arrived: asyncio.Future[Peer] = self.loop.create_future()
        handlers = {"echo": lambda peer, fields, buffers: (fields, buffers)}

        def take(comm: Comm) -> None:
            arrived.set_result(Peer(comm, handlers))

        listener = await listen(address, token=token, on_comm=take)
        comm = await connect(listener.address, role=Role.CLIENT, token=token)
        return Peer(comm, {}), await arrived, listener

    def close(self) -> None:
        async def close() -> None:
            await self.near.close()
            await self.far.close()
            await self.listener.close()

        self.loop.run_until_complete(close())
        self.loop.close()


def new_loop(uvloop: bool) -> asyncio.AbstractEventLoop:
    if uvloop:
        return pytest.importorskip("uvloop").new_event_loop()
    return asyncio.SelectorEventLoop()


@pytest.fixture(params=["tcp", "tcp-uvloop", "inproc"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    address = "inproc://" if request.param == "inproc" else "tcp://127.0.0.1:0"
    made = Pair(address, request.param.endswith("uvloop"))
    yield made
    made.close()


def per_operation(benchmark: Any, count: int, run: Callable[[], Any]) -> None:
    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    if benchmark.stats:  # None when only the result is asked for
        benchmark.extra_info["microseconds per operation"] = round(benchmark.stats["median"] / count * 1e6, 2)


def test_round_trip_of_a_small_frame(pair: Pair, benchmark: Any) -> None:
    left = 0
    done: asyncio.Future[None]
    body = bytes(64)

    def bounce(peer: Peer, got: memoryview) -> None:
        nonlocal left
        left -= 1
        if left:
            pair.near.send_frame(5, body)
        else:
            done.set_result(None)

    pair.far.on_frame[5] = lambda peer, got: peer.send_frame(6, got.tobytes())
    pair.near.on_frame[6] = bounce

    def run() -> None:
        nonlocal left, done
        left, done = ROUND_TRIPS, pair.loop.create_future()
        pair.near.send_frame(5, body)
        pair.loop.run_until_complete(done)
        assert left == 0

    per_operation(benchmark, ROUND_TRIPS, run)


def test_one_way_stream_of_small_frames(pair: Pair, benchmark: Any) -> None:
    count, left = 10_000, 0
    done: asyncio.Future[None]
    body = bytes(64)

    def take(peer: Peer, got: memoryview) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    pair.far.on_frame[5] = take

    def run() -> None:
        nonlocal left, done
        left, done = count, pair.loop.create_future()
        for _ in range(count):
            pair.near.send_frame(5, body)
        pair.loop.run_until_complete(done)
        assert left == 0

    per_operation(benchmark, count, run)


def test_call_and_reply(pair: Pair, benchmark: Any) -> None:
    async def calls() -> None:
        for number in range(ROUND_TRIPS):
            assert (await pair.near.call("echo", n=number))["n"] == number

    per_operation(benchmark, ROUND_TRIPS, lambda: pair.loop.run_until_complete(calls()))


def test_a_call_that_carries_64_mib(pair: Pair, benchmark: Any) -> None:
    payload = bytes(64 << 20)

    async def call() -> None:
        reply = await pair.near.call("echo", buffers=[payload])
        assert len(reply.buffers[0]) == len(payload)

    per_operation(benchmark, 1, lambda: pair.loop.run_until_complete(call()))


def test_open_and_authenticate(benchmark: Any) -> None:
    token = Token.generate("made for a benchmark")
    count = 100

    async def connections() -> None:
        taken: list[Comm] = []
        listener = await listen("tcp://127.0.0.1:0", token=token, on_comm=taken.append)
        for _ in range(count):
            (await connect(listener.address, role=Role.CLIENT, token=token)).abort()
        await listener.close()
        for comm in taken:
            comm.abort()
        assert len(taken) >= count - 1

    per_operation(benchmark, count, lambda: asyncio.run(connections()))
