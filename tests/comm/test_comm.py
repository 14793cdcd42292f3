"""What holds for every kind of connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fastdist.comm import CONTROL, Limits, Role, Token, connect, counters, listen
from fastdist.errors import CommClosedError, FrameError, HandshakeError

Opener = Callable[..., Any]


def test_both_ends_know_each_other(address: str, ends: Opener) -> None:
    async def main() -> None:
        async with ends(address) as pair:
            assert (pair.near.role, pair.near.epoch, pair.near.admin) == (Role.SCHEDULER, 7, True)
            assert (pair.far.role, pair.far.epoch, pair.far.admin) == (Role.CLIENT, 7, True)
            assert pair.near.peer_address == pair.far.local_address == pair.listener.address
            assert pair.near.local_address == pair.far.peer_address
            assert pair.near.in_process == pair.far.in_process == address.startswith("inproc")
            assert "open" in repr(pair.near) and not pair.near.closed

    asyncio.run(main())


def test_frames_and_messages_arrive_in_the_order_in_which_they_were_sent(address: str, ends: Opener) -> None:
    async def main() -> None:
        async with ends(address) as pair:
            expected: list[Any] = []
            for number in range(300):
                body = number.to_bytes(4, "little") * (number % 50) * (1000 if number % 70 == 0 else 1)
                pair.near.send(5, body[:3], memoryview(body)[3:])
                pair.near.send_control({"op": "x", "n": number}, [body])
                expected += [(5, body), ({"op": "x", "n": number}, body)]
            await pair.until(lambda: len(pair.received[pair.far]) == len(expected))
            got = [(k, v if type(v) is bytes else bytes(v[0])) for k, v in pair.received[pair.far]]
            assert got == expected

    asyncio.run(main())


def test_frames_sent_from_many_threads_keep_the_order_of_each_thread(address: str, ends: Opener) -> None:
    threads, count = 4, 500

    async def main() -> None:
        async with ends(address) as pair:
            barrier = threading.Barrier(threads)

            def send(thread: int) -> None:
                barrier.wait()
                for number in range(count):
                    padding = bytes(50_000 if number % 100 == 0 else 16)
                    pair.near.send(5, thread.to_bytes(4, "little"), number.to_bytes(4, "little"), padding)

            senders = [threading.Thread(target=send, args=(thread,)) for thread in range(threads)]
            for sender in senders:
                sender.start()
            await pair.until(lambda: len(pair.received[pair.far]) == threads * count)
            for sender in senders:
                sender.join()
            by_thread: dict[bytes, list[int]] = {}
            for _, body in pair.received[pair.far]:
                by_thread.setdefault(body[:4], []).append(int.from_bytes(body[4:8], "little"))
            assert all(numbers == list(range(count)) for numbers in by_thread.values())

    asyncio.run(main())


def test_the_body_of_a_frame_starts_at_a_multiple_of_8(address: str, ends: Opener) -> None:
    import numpy

    async def main() -> None:
        async with ends(address, start=False) as pair:
            places: list[int] = []

            def look(kind: int, body: memoryview) -> None:
                array = numpy.frombuffer(bytearray(0) or body, dtype=numpy.uint8)
                places.append(array.__array_interface__["data"][0] % 8)
                del array
                pair._news.set()

            pair.start(pair.far, look)
            pair.start(pair.near)
            for length in range(1, 40):
                pair.near.send(5, bytes(length))
            await pair.until(lambda: len(places) == 39)
            assert set(places) == {0}

    asyncio.run(main())


def test_what_was_sent_before_close_still_arrives_and_the_other_side_learns_why(
    address: str, ends: Opener
) -> None:
    async def main() -> None:
        async with ends(address) as pair:
            for _ in range(20):
                pair.near.send(5, bytes(500_000))
            await pair.near.close(timeout=30)
            assert pair.near.closed
            await pair.until(lambda: bool(pair.closed[pair.far] and pair.closed[pair.near]))
            assert len(pair.received[pair.far]) == 20
            assert pair.closed[pair.near] == [None]
            (reason,) = pair.closed[pair.far]
            assert isinstance(reason, CommClosedError)
            assert "closed the connection" in str(reason) and pair.far.peer_address in str(reason)
            with pytest.raises(CommClosedError, match="is closed"):
                pair.near.send(5, b"")
            with pytest.raises(CommClosedError):
                await pair.near.drained()

    asyncio.run(main())


def test_on_close_comes_exactly_once_however_often_it_is_closed(address: str, ends: Opener) -> None:
    async def main() -> None:
        async with ends(address) as pair:
            pair.near.abort(ValueError("first"))
            pair.near.abort(ValueError("second"))
            await pair.near.close()
            pair.far.abort()
            await pair.until(lambda: bool(pair.closed[pair.near] and pair.closed[pair.far]))
            await asyncio.sleep(0)
            assert [str(reason) for reason in pair.closed[pair.near]] == ["first"]
            assert len(pair.closed[pair.far]) == 1

    asyncio.run(main())


def test_abort_from_another_thread(address: str, ends: Opener) -> None:
    async def main() -> None:
        async with ends(address) as pair:
            await asyncio.to_thread(pair.near.abort, ValueError("elsewhere"))
            await pair.until(lambda: bool(pair.closed[pair.near] and pair.closed[pair.far]))
            assert str(pair.closed[pair.near][0]) == "elsewhere"

    asyncio.run(main())


def test_closed_before_started_still_tells(address: str, ends: Opener) -> None:
    async def main() -> None:
        async with ends(address, start=False) as pair:
            pair.near.abort(ValueError("early"))
            pair.start(pair.near)
            await pair.until(lambda: bool(pair.closed[pair.near]))
            assert str(pair.closed[pair.near][0]) == "early"
            with pytest.raises(RuntimeError, match="started before"):
                pair.start(pair.near)

    asyncio.run(main())


def test_what_arrives_before_start_waits(address: str, ends: Opener) -> None:
    async def main() -> None:
        async with ends(address, start=False) as pair:
            pair.near.send(5, b"early")
            await asyncio.sleep(0)
            pair.start(pair.far)
            await pair.until(lambda: bool(pair.received[pair.far]))
            assert pair.received[pair.far] == [(5, b"early")]

    asyncio.run(main())


def test_a_failing_receiver_loses_this_connection_only(
    address: str, ends: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(kind: int, body: memoryview) -> None:
        raise RuntimeError("broken receiver")

    async def main() -> None:
        async with ends(address, start=False) as pair, ends(address) as bystander:
            pair.start(pair.far, fail)
            pair.start(pair.near)
            before = counters["failed-delivery"]
            pair.near.send(5, b"x")
            await pair.until(lambda: bool(pair.closed[pair.far] and pair.closed[pair.near]))
            assert str(pair.closed[pair.far][0]) == "broken receiver"
            assert counters["failed-delivery"] == before + 1
            bystander.near.send(5, b"y")
            await bystander.until(lambda: bool(bystander.received[bystander.far]))

    asyncio.run(main())
    assert "broken receiver" in caplog.text


def test_a_peer_that_does_not_read_is_noticed_and_at_last_dropped(address: str, ends: Opener) -> None:
    limits = Limits(high_water=1 << 20, max_queued_bytes=8 << 20, read_buffer_bytes=4096)

    async def main() -> None:
        async with ends(address, limits, start=False) as pair:
            pair.start(pair.near)
            while pair.near.queued_bytes <= limits.high_water:
                pair.near.send(5, bytes(300_000))
            waiting = asyncio.ensure_future(pair.near.drained())
            await asyncio.sleep(0)
            assert not waiting.done()
            before = counters["dropped-slow-peer"]
            with pytest.raises(CommClosedError, match=r"was dropped: it does not read.*max_queued_bytes"):
                while pair.near.queued_bytes <= limits.max_queued_bytes:
                    pair.near.send(5, bytes(300_000))
            with pytest.raises(CommClosedError):
                await waiting
            assert counters["dropped-slow-peer"] == before + 1
            await pair.until(lambda: bool(pair.closed[pair.near]))
            assert "does not read" in str(pair.closed[pair.near][0])

    asyncio.run(main())


def test_drained_returns_once_the_peer_reads(address: str, ends: Opener) -> None:
    limits = Limits(high_water=1 << 20, max_queued_bytes=64 << 20)

    async def main() -> None:
        async with ends(address, limits, start=False) as pair:
            pair.start(pair.near)
            sent = 0
            while pair.near.queued_bytes <= limits.high_water:
                pair.near.send(5, bytes(300_000))
                sent += 1
            pair.start(pair.far)
            await asyncio.wait_for(pair.near.drained(), 30)
            assert pair.near.queued_bytes <= limits.high_water
            await pair.until(lambda: len(pair.received[pair.far]) == sent)
            assert pair.near.queued_bytes == 0

    asyncio.run(main())


def test_a_frame_over_the_limit_is_refused_at_the_sender_and_the_connection_stays(
    address: str, ends: Opener
) -> None:
    async def main() -> None:
        async with ends(address, Limits(max_frame_bytes=100, max_buffers=3)) as pair:
            with pytest.raises(FrameError, match="101 bytes; the limit is 100"):
                pair.near.send(5, bytes(101))
            with pytest.raises(FrameError, match="4 buffers; the limit is 3"):
                pair.near.send_control({"op": "x"}, [b""] * 3)
            with pytest.raises(FrameError, match="send_control"):
                pair.near.send(CONTROL, b"")
            pair.near.send(5, bytes(100))
            await pair.until(lambda: bool(pair.received[pair.far]))

    asyncio.run(main())


def test_more_pieces_than_one_system_call_takes(address: str, ends: Opener) -> None:
    async def main() -> None:
        async with ends(address) as pair:
            pair.near.send(5, *[b"%04d" % number for number in range(5000)])
            pair.near.send_control({"op": "x"}, [b"%d" % number for number in range(3000)])
            await pair.until(lambda: len(pair.received[pair.far]) == 2)
            (_, body), (_, buffers) = pair.received[pair.far]
            assert body == b"".join(b"%04d" % number for number in range(5000))
            assert [bytes(buffer) for buffer in buffers] == [b"%d" % number for number in range(3000)]

    asyncio.run(main())


def test_a_role_that_may_not_connect_is_refused(address: str, token: Token) -> None:
    async def main() -> None:
        listener = await listen(address, token=token, on_comm=lambda comm: None, roles=[Role.WORKER])
        with pytest.raises(HandshakeError, match="no connections of this role"):
            await connect(listener.address, role=Role.CLIENT, token=token)
        await listener.close()

    asyncio.run(main())


def test_nobody_there(address: str, token: Token) -> None:
    async def main() -> None:
        listener = await listen(address, token=token, on_comm=lambda comm: None)
        await listener.close()
        await listener.close()
        with pytest.raises(ConnectionRefusedError, match=f"cannot connect to {listener.address}"):
            await connect(listener.address, role=Role.CLIENT, token=token)
        with pytest.raises(
            TimeoutError, match=f"timed out connecting to {listener.address} after 0.05 s .*last attempt"
        ):
            await connect(listener.address, role=Role.CLIENT, token=token, timeout=0.05, retry=True)

    asyncio.run(main())


def test_an_address_in_use_is_named(address: str, token: Token) -> None:
    async def main() -> None:
        listener = await listen(address, token=token, on_comm=lambda comm: None)
        with pytest.raises(OSError, match=f"cannot listen on {listener.address}"):
            await listen(listener.address, token=token, on_comm=lambda comm: None)
        await listener.close()

    asyncio.run(main())
