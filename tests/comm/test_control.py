"""Control messages: what is encoded comes back, and what is out of bounds does not."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest

from fastdist._core.codec.frames import FrameKind
from fastdist.comm.control import decode_control, encode_control
from fastdist.comm.core import CONTROL, Limits
from fastdist.errors import FrameError


def body_of(message: dict[str, Any], *buffers: Any, limits: Limits | None = None) -> bytes:
    return b"".join(bytes(part) for part in encode_control(message, buffers, limits or Limits()))


def raw(head: bytes) -> memoryview:
    return memoryview(struct.pack("<IIQ", 1, 0, len(head)) + head)


def test_the_kind_is_the_one_of_the_wire() -> None:
    assert CONTROL == FrameKind.CONTROL


def test_the_body_has_the_documented_layout() -> None:
    head = msgpack.packb({"op": "x"})
    assert body_of({"op": "x"}, b"abc", b"") == struct.pack("<IIQQQ", 3, 0, len(head), 3, 0) + head + b"abc"


def test_maps_and_buffers_come_back() -> None:
    message = {
        "op": "x",
        "n": -1,
        "big": 2**64 - 1,
        "f": 0.5,
        "list": [1, None, True],
        "raw": b"\xff",
        "ü": {"a": {}},
    }
    decoded, buffers = decode_control(
        memoryview(body_of(message, b"one", bytearray(b"two"), memoryview(b"3"))), Limits()
    )
    assert decoded == message
    assert [bytes(buffer) for buffer in buffers] == [b"one", b"two", b"3"]


def test_buffers_of_any_format_are_counted_in_bytes() -> None:
    import array

    _, buffers = decode_control(memoryview(body_of({"op": "x"}, array.array("d", [1.0, 2.0]))), Limits())
    assert bytes(buffers[0]) == struct.pack("<dd", 1.0, 2.0)


def test_too_many_buffers_are_refused_on_both_sides() -> None:
    limits = Limits(max_buffers=3)
    assert len(decode_control(memoryview(body_of({"op": "x"}, b"", b"", limits=limits)), limits)[1]) == 2
    with pytest.raises(FrameError, match="4 buffers; the limit is 3"):
        encode_control({"op": "x"}, [b""] * 3, limits)
    with pytest.raises(FrameError, match="claims 4 buffers"):
        decode_control(memoryview(body_of({"op": "x"}, b"", b"", b"")), limits)


@pytest.mark.parametrize("count", [0, 65537, 2**32 - 1])
def test_an_impossible_number_of_buffers_is_refused(count: int) -> None:
    with pytest.raises(FrameError, match="buffers"):
        decode_control(memoryview(struct.pack("<II", count, 0)), Limits())


@pytest.mark.parametrize("lengths", [(1, 2**64 - 1), (2**63, 2**63), (0, 5), (3, 3)])
def test_lengths_that_do_not_add_up_are_refused(lengths: tuple[int, int]) -> None:
    body = struct.pack("<IIQQ", 2, 0, *lengths) + b"1234"
    with pytest.raises(FrameError, match="do not add up"):
        decode_control(memoryview(body), Limits())


@pytest.mark.parametrize("body", [b"", b"1234567", struct.pack("<II", 2, 0) + b"12345678"])
def test_a_body_that_ends_early_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError, match="ends inside its table"):
        decode_control(memoryview(body), Limits())


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        msgpack.packb({"op": "x", "y": msgpack.ExtType(5, b"x")}),
        msgpack.packb({"op": "x", "t": msgpack.Timestamp(1)}),
        b"\x81\xa2op\xa2\xff\xfe",
        msgpack.packb({"op": "x"}) + b"\x00",
        b"\x91" * 100_000,
        msgpack.packb({1: 2, "op": "x"}),
    ],
    ids=range(12),
)
def test_a_malformed_map_is_refused(head: bytes) -> None:
    with pytest.raises(FrameError, match="malformed"):
        decode_control(raw(head), Limits())


@pytest.mark.parametrize("value", [[], "x", {}, {"op": 1}, {"op": b"x"}, None])
def test_what_is_no_map_with_an_op_is_refused(value: Any) -> None:
    with pytest.raises(FrameError, match="`op`"):
        decode_control(raw(msgpack.packb(value)), Limits())


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        value: Any = 0
        for _ in range(depth - 1):
            value = [value]
        return msgpack.packb({"op": "x", "v": value})

    decode_control(raw(nested(64)), Limits())
    with pytest.raises(FrameError, match="deeper than 64"):
        decode_control(raw(nested(65)), Limits())


def test_items_texts_and_the_map_are_bounded() -> None:
    limits = Limits(max_map_items=10, max_text_bytes=20, max_map_bytes=100)
    for value in ([0] * 11, "x" * 21, b"x" * 21, {str(n): n for n in range(11)}):
        with pytest.raises(FrameError, match="malformed"):
            decode_control(raw(msgpack.packb({"op": "x", "v": value})), limits)
    with pytest.raises(FrameError, match="the limit is 100"):
        decode_control(raw(msgpack.packb({"op": "x", "v": ["x" * 15] * 9})), limits)
    with pytest.raises(FrameError, match=r"'x' has \d+ bytes; the limit is 100"):
        encode_control({"op": "x", "v": "y" * 101}, (), limits)
