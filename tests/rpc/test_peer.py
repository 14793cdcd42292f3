"""Requests, replies, one-way messages and frames between two peers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastdist.comm import Limits
from fastdist.errors import CommClosedError, FrameError, MessageError, RemoteError
from fastdist.rpc import Peer, Reply
from fastdist.rpc.peer import counters

Opener = Callable[..., Any]


class Unknown(Exception):
    """A class that the other side does not have."""


def echo(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> tuple[dict[str, Any], list[Any]]:
    return {"got": fields}, buffers


async def slow_echo(
    peer: Peer, fields: dict[str, Any], buffers: list[Any]
) -> tuple[dict[str, Any], list[Any]]:
    await asyncio.sleep(0)
    return {"got": fields}, buffers


@pytest.mark.parametrize("handler", [echo, slow_echo])
def test_a_call_gets_fields_and_buffers_back(address: str, peers: Opener, handler: Any) -> None:
    async def main() -> None:
        async with peers(address, {"echo": handler}) as (near, _):
            reply = await near.call("echo", timeout=30, buffers=[b"one", b"two"], n=1, text="ü")
            assert isinstance(reply, Reply)
            assert reply == {"got": {"n": 1, "text": "ü"}}
            assert [bytes(buffer) for buffer in reply.buffers] == [b"one", b"two"]
            assert near.idle

    asyncio.run(main())


def test_a_handler_that_returns_nothing_still_answers(address: str, peers: Opener) -> None:
    async def main() -> None:
        async with peers(address, {"x": lambda peer, fields, buffers: None}) as (near, _):
            reply = await near.call("x")
            assert reply == {} and reply.buffers == []

    asyncio.run(main())


def test_both_sides_may_ask_and_answers_may_overtake_each_other(address: str, peers: Opener) -> None:
    async def main() -> None:
        gates = [asyncio.Event() for _ in range(3)]

        async def wait(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
            await gates[fields["n"]].wait()
            return {"n": fields["n"], "back": (await peer.call("ask"))["name"]}

        async with peers(address, {"wait": wait}) as (near, _):
            near.handlers = {"ask": lambda peer, fields, buffers: {"name": "near"}}
            calls = [asyncio.ensure_future(near.call("wait", n=n)) for n in range(3)]
            finished = []
            for number in (2, 0, 1):
                gates[number].set()
                finished.append((await calls[number])["n"])
            assert finished == [2, 0, 1]
            assert (await calls[0])["back"] == "near"

    asyncio.run(main())


@pytest.mark.parametrize(
    "raised", [KeyError("a key"), ValueError("a value"), MessageError("a field"), OSError("a file")]
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_exception_of_a_known_class_comes_back_as_itself(
    address: str, peers: Opener, raised: Exception, asynchronous: bool
) -> None:
    def fail(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        raise raised

    async def fail_later(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        await asyncio.sleep(0)
        raise raised

    async def main() -> None:
        async with peers(address, {"x": fail_later if asynchronous else fail}) as (near, _):
            with pytest.raises(type(raised)) as caught:
                await near.call("x")
            assert type(caught.value) is type(raised) and caught.value.args == raised.args

    asyncio.run(main())


@pytest.mark.parametrize(
    "raised", [Unknown("secret"), StopIteration("s"), UnicodeDecodeError("utf-8", b"", 0, 1, "why")]
)
def test_any_other_exception_comes_back_as_a_remote_error(
    address: str, peers: Opener, raised: Exception
) -> None:
    def fail(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        raise raised

    async def main() -> None:
        async with peers(address, {"x": fail}) as (near, _):
            with pytest.raises(RemoteError, match=f"{type(raised).__name__}: "):
                await near.call("x")

    asyncio.run(main())


def test_an_unknown_op_is_answered_with_an_error(address: str, peers: Opener) -> None:
    async def main() -> None:
        async with peers(address, {}) as (near, far):
            before = counters["unknown-op"]
            with pytest.raises(NotImplementedError, match="there is no operation 'nonesuch' here"):
                await near.call("nonesuch")
            near.notify("nonesuch")
            with pytest.raises(NotImplementedError):
                await near.call("nonesuch")
            assert counters["unknown-op"] == before + 3
            assert not far.closed

    asyncio.run(main())


def test_a_late_answer_is_counted_and_ignored(address: str, peers: Opener) -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def wait(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
            await gate.wait()

        async with peers(address, {"wait": wait, "echo": echo}) as (near, _):
            before = counters["unknown-reply"]
            with pytest.raises(
                TimeoutError, match=r"timed out waiting for the far side to answer 'wait' after 0\.01 s"
            ):
                await near.call("wait", timeout=0.01)
            assert near.idle
            gate.set()
            await near.call("echo")
            await near.call("echo")
            assert counters["unknown-reply"] == before + 1

    asyncio.run(main())


def test_a_cancelled_call_is_forgotten(address: str, peers: Opener) -> None:
    async def main() -> None:
        async def forever(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
            await asyncio.Event().wait()

        async with peers(address, {"x": forever}) as (near, _):
            call = asyncio.ensure_future(near.call("x"))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert near.idle

    asyncio.run(main())


def test_a_lost_connection_fails_every_waiting_call_and_names_peer_and_reason(
    address: str, peers: Opener
) -> None:
    async def main() -> None:
        started = asyncio.Event()
        ended = asyncio.Event()

        async def forever(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with peers(address, {"x": forever}) as (near, far):
            closed: list[Any] = []
            near.on_close = lambda peer, reason: closed.append((peer, reason))
            calls = [asyncio.ensure_future(near.call("x")) for _ in range(3)]
            outside = near.call_threadsafe("x")
            await started.wait()
            far.abort()
            for call in calls:
                with pytest.raises(
                    CommClosedError, match=r"'x' was not answered by the far side: .*closed the connection"
                ):
                    await call
            with pytest.raises(CommClosedError, match="not answered by the far side"):
                outside.result(0)
            assert await near.wait_closed() is closed[0][1] is not None
            assert closed[0][0] is near and len(closed) == 1
            await asyncio.wait_for(ended.wait(), 30)
            with pytest.raises(CommClosedError, match="far side"):
                await near.call("x")
            with pytest.raises(CommClosedError):
                near.notify("x")
            with pytest.raises(CommClosedError):
                near.send_frame(5, b"")
            with pytest.raises(CommClosedError):
                near.call_threadsafe("x").result(0)
            assert near.closed and "closed" in repr(near)

    asyncio.run(main())


def test_calls_and_notifications_from_other_threads(address: str, peers: Opener) -> None:
    async def main() -> None:
        noted: list[int] = []

        def note(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
            noted.append(fields["n"])

        async with peers(address, {"echo": echo, "note": note}) as (near, _):
            answers: list[Any] = []

            def ask(thread: int) -> None:
                for number in range(50):
                    near.notify("note", n=number)
                    answers.append(near.call_threadsafe("echo", n=(thread, number)).result(30)["got"]["n"])

            await asyncio.gather(*[asyncio.to_thread(ask, thread) for thread in range(4)])
            assert sorted(tuple(answer) for answer in answers) == [
                (t, n) for t in range(4) for n in range(50)
            ]
            assert sorted(noted) == sorted(list(range(50)) * 4)

    asyncio.run(main())


def test_a_failing_one_way_message_is_logged_and_counted(
    address: str, peers: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_later(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        raise ValueError("no good either")

    def fail(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        raise ValueError("no good")

    async def main() -> None:
        async with peers(address, {"now": fail, "later": fail_later, "echo": echo}) as (near, far):
            before = counters["failed-notification"]
            near.notify("now")
            near.notify("later")
            await near.call("echo")
            await near.call("echo")
            assert counters["failed-notification"] == before + 2
            assert not far.closed

    asyncio.run(main())
    assert "no good" in caplog.text and "no good either" in caplog.text and "the near side" in caplog.text


def test_frames_reach_their_handlers_and_others_close_the_connection(address: str, peers: Opener) -> None:
    async def main() -> None:
        async with peers(address) as (near, far):
            got: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            far.on_frame[5] = lambda peer, body: got.set_result((peer, bytes(body)))
            near.send_frame(5, b"ab", b"c")
            assert await asyncio.wait_for(got, 30) == (far, b"abc")
            near.send_frame(6, b"")
            reason = await asyncio.wait_for(far.wait_closed(), 30)
            assert isinstance(reason, FrameError)
            assert "sent a frame of kind 6, which has no place" in str(reason)

    asyncio.run(main())


@pytest.mark.parametrize(
    "message", [{"op": "reply"}, {"op": "reply", "re": "1"}, {"op": "x", "id": "1"}, {"op": "x", "id": 1.0}]
)
def test_a_message_of_the_wrong_form_closes_the_connection(
    address: str, peers: Opener, message: dict[str, Any]
) -> None:
    async def main() -> None:
        async with peers(address, {"x": echo}) as (near, far):
            near.comm.send_control(message)
            assert isinstance(await asyncio.wait_for(far.wait_closed(), 30), FrameError)

    asyncio.run(main())


def test_close_waits_for_running_handlers_to_end(address: str, peers: Opener) -> None:
    async def main() -> None:
        started, cleaned = asyncio.Event(), []

        async def tidy(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)

        async with peers(address, {"x": tidy}) as (near, far):
            near.notify("x")
            await started.wait()
            await far.close()
            assert cleaned == [True] and far.idle

    asyncio.run(main())


def test_a_handler_may_close_its_own_connection(address: str, peers: Opener) -> None:
    async def main() -> None:
        async def bye(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
            await peer.close()

        async with peers(address, {"bye": bye}) as (near, far):
            near.notify("bye")
            await asyncio.wait_for(near.wait_closed(), 30)
            assert far.closed

    asyncio.run(main())


def test_a_call_waits_while_the_other_side_does_not_keep_up(peers: Opener) -> None:
    async def main() -> None:
        async with peers("tcp://127.0.0.1:0", {"echo": echo}, Limits(high_water=1 << 20)) as (near, _):
            answers = [
                asyncio.ensure_future(near.call("echo", buffers=[bytes(1 << 20)], timeout=60))
                for _ in range(30)
            ]
            for answer in answers:
                assert len((await answer).buffers[0]) == 1 << 20

    asyncio.run(main())


@pytest.mark.parametrize("handler", [echo, slow_echo])
def test_those_who_wait_for_room_do_not_fill_the_queue_together(peers: Opener, handler: Any) -> None:
    limits = Limits(high_water=1 << 20, max_queued_bytes=4 << 20, read_buffer_bytes=4096)

    async def main() -> None:
        async with peers("tcp://127.0.0.1:0", {"echo": handler}, limits) as (near, _):
            calls = [near.call("echo", n=n, buffers=[bytes(1 << 20)], timeout=60) for n in range(30)]
            assert [len(reply.buffers[0]) for reply in await asyncio.gather(*calls)] == [1 << 20] * 30

    asyncio.run(main())


def test_inside_one_process_values_pass_by_reference(peers: Opener) -> None:
    async def main() -> None:
        value = object()
        async with peers("inproc://", {"echo": echo}) as (near, _):
            reply = await near.call("echo", buffers=[value])
            assert reply.buffers[0] is value

    asyncio.run(main())
