"""What only connections inside one process do: objects pass by reference, loops may differ."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fastdist.comm import Comm, Role, Token, connect, listen
from fastdist.errors import CommClosedError

Opener = Callable[..., Any]


def test_maps_and_buffers_are_the_very_objects_that_were_sent(ends: Opener) -> None:
    async def main() -> None:
        async with ends("inproc://") as pair:
            message, value = {"op": "x", "f": len}, object()
            pair.near.send_control(message, [value])
            await pair.until(lambda: bool(pair.received[pair.far]))
            got, buffers = pair.received[pair.far][0]
            assert got is message and buffers[0] is value

    asyncio.run(main())


def test_the_body_of_a_frame_is_not_copied(ends: Opener) -> None:
    async def main() -> None:
        async with ends("inproc://", start=False) as pair:
            bodies: list[Any] = []

            def keep(kind: int, body: memoryview) -> None:
                bodies.append(body.obj)
                pair._news.set()

            pair.start(pair.far, keep)
            pair.start(pair.near)
            body = b"x" * 100
            pair.near.send(5, body)
            await pair.until(lambda: bool(bodies))
            assert bodies[0] is body

    asyncio.run(main())


def test_no_token_is_needed_inside_one_process() -> None:
    async def main() -> None:
        listener = await listen("inproc://", token=Token.generate(), on_comm=lambda comm: comm.abort())
        comm = await connect(listener.address, role=Role.CLIENT, token=None)
        comm.abort()
        await listener.close()

    asyncio.run(main())


def test_names_are_given_and_freed() -> None:
    async def main() -> None:
        listener = await listen("inproc://a-name", token=None, insecure=True, on_comm=lambda comm: None)
        assert listener.address == "inproc://a-name"
        await listener.close()
        again = await listen("inproc://a-name", token=None, insecure=True, on_comm=lambda comm: None)
        await again.close()

    asyncio.run(main())


def test_the_two_ends_may_live_in_two_loops() -> None:
    addresses: list[str] = []
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        done = asyncio.Event()

        def take(comm: Comm) -> None:
            comm.start(
                lambda kind, body: comm.send(kind, bytes(body)),
                lambda *message: None,
                lambda reason: done.set(),
            )

        listener = await listen("inproc://", token=None, insecure=True, on_comm=take)
        addresses.append(listener.address)
        ready.set()
        await asyncio.wait_for(done.wait(), 30)
        await listener.close()
        over.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(30)

    async def main() -> None:
        comm = await connect(addresses[0], role=Role.CLIENT, token=None)
        got: list[bytes] = []
        complete = asyncio.Event()

        def take(kind: int, body: memoryview) -> None:
            got.append(bytes(body))
            if len(got) == 100:
                complete.set()

        comm.start(take, lambda *message: None, lambda reason: None)
        for number in range(100):
            comm.send(5, b"%d" % number)
        await asyncio.wait_for(complete.wait(), 30)
        assert got == [b"%d" % number for number in range(100)]
        await comm.close()

    asyncio.run(main())
    thread.join(30)
    assert over.is_set()


def test_a_peer_whose_loop_is_gone_counts_as_closed() -> None:
    kept: list[Comm] = []

    async def main() -> None:
        arrived = asyncio.Event()

        def take(comm: Comm) -> None:
            kept.append(comm)
            arrived.set()

        listener = await listen("inproc://", token=None, insecure=True, on_comm=take)
        comm = await connect(listener.address, role=Role.CLIENT, token=None)
        await arrived.wait()
        kept.append(comm)
        for end in kept:
            end.start(lambda *frame: None, lambda *message: None, lambda reason: None)
        await listener.close()

    asyncio.run(main())
    far, _ = kept

    async def later() -> None:
        with pytest.raises(CommClosedError):
            for _ in range(3):
                far.send(5, b"x")

    asyncio.run(later())
