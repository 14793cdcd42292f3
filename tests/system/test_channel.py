"""Messages over the private socket of a child."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fastdist.system import channel
from fastdist.system.channel import Channel, encode, receive

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_a_message_arrives_as_it_was_sent(pair: Pair) -> None:
    message = {"op": "start", "options": {"nthreads": 2, "name": None}, "bytes": b"\x00"}
    pair[0].sendall(encode(message))
    assert receive(pair[1]) == message


def test_the_end_of_the_other_side_is_none(pair: Pair) -> None:
    pair[0].sendall(encode({"op": "x"})[:-1])
    pair[0].close()
    assert receive(pair[1]) is None


def test_an_announced_length_over_the_limit_is_refused(pair: Pair) -> None:
    pair[0].sendall(b"\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="limit"):
        receive(pair[1])


def test_a_message_over_the_limit_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_MESSAGE_BYTES", 10)
    with pytest.raises(ValueError, match="limit"):
        encode({"op": "x" * 20})


def test_anything_but_a_map_is_refused(pair: Pair) -> None:
    pair[0].sendall(b"\x01\x00\x00\x00\x01")
    with pytest.raises(ValueError, match="a message is a map"):
        receive(pair[1])


def test_two_channels_exchange_messages_larger_than_the_socket(pair: Pair) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        seen: list[Any] = []
        closed, all_there = loop.create_future(), loop.create_future()

        def see(message: dict[str, Any]) -> None:
            seen.append(message)
            if len(seen) == 3:
                all_there.set_result(None)

        one = Channel(pair[0], loop, see, lambda: None)
        other = Channel(pair[1], loop, see, lambda: closed.set_result(None))
        for number in range(3):
            assert one.send({"op": "large", "number": number, "content": b"x" * 1_000_000})
        await all_there
        one.close()
        assert not one.send({"op": "late"})
        pair[0].close()
        await closed
        assert not other.send({"op": "late"})
        return [message["number"] for message in seen]

    assert asyncio.run(asyncio.wait_for(main(), 20)) == [0, 1, 2]
