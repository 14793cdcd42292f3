"""The stream of frames, cut anywhere and damaged anyhow."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastdist.comm.control import decode_control, encode_control
from fastdist.comm.core import CONTROL, Limits
from fastdist.comm.frame_reader import HEADER, FrameReader
from fastdist.errors import FrameError

SMALL = Limits(read_buffer_bytes=4096, max_frame_bytes=100_000, max_control_bytes=100_000)


def frame(kind: int, body: bytes) -> bytes:
    return HEADER.pack(kind, 0, len(body)) + body


def control(message: dict[str, Any], *buffers: bytes) -> bytes:
    return frame(CONTROL, b"".join(bytes(part) for part in encode_control(message, buffers, Limits())))


class Receiver:
    """Feeds a reader and keeps what it hands over."""

    def __init__(self, limits: Limits = SMALL) -> None:
        self.limits = limits
        self.got: list[Any] = []
        self.reader = FrameReader(limits, self.on_frame, self.on_control)

    def on_frame(self, kind: int, body: memoryview) -> None:
        if len(body):
            assert address_of(body) % 8 == 0
        self.got.append((kind, bytes(body)))

    def on_control(self, message: dict[str, Any], buffers: list[Any]) -> None:
        self.got.append((message, [bytes(buffer) for buffer in buffers]))

    def feed(self, data: bytes) -> None:
        while data:
            target = self.reader.target()
            assert len(target) > 0
            piece = data[: len(target)]
            target[: len(piece)] = piece
            self.reader.advance(len(piece))
            data = data[len(piece) :]


def address_of(view: memoryview) -> int:
    import numpy

    return int(numpy.frombuffer(view, dtype=numpy.uint8).__array_interface__["data"][0])


frames = st.lists(
    st.one_of(
        st.tuples(st.integers(2, 9), st.binary(max_size=200)),
        st.tuples(st.integers(2, 9), st.integers(0, 20_000).map(lambda n: b"x" * n)),
        st.tuples(
            st.fixed_dictionaries({"op": st.text(max_size=5)}, optional={"n": st.integers(0, 99)}),
            st.lists(st.binary(max_size=50), max_size=3),
        ),
    ),
    max_size=8,
)


def encoded(entries: list[Any]) -> bytes:
    return b"".join(
        frame(entry, payload) if isinstance(entry, int) else control(entry, *payload)
        for entry, payload in entries
    )


@given(frames, st.lists(st.integers(1, 5000), max_size=30))
@example([(5, b"x" * 4081), (5, b"")], [4096])
@example([(5, b"x" * 20_000), (5, b"abc"), (6, b"x" * 9000)], [7, 4096, 1])
def test_however_the_stream_is_cut_the_frames_come_out_whole(entries: list[Any], cuts: list[int]) -> None:
    receiver = Receiver()
    stream = encoded(entries)
    position = 0
    for cut in cuts:
        receiver.feed(stream[position : position + cut])
        position += cut
    receiver.feed(stream[position:])
    assert receiver.got == [tuple(entry) for entry in entries]
    assert receiver.reader.pending == 0


@given(frames, st.lists(st.tuples(st.integers(0, 2**30), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_stream_gives_frames_or_a_frame_error(
    entries: list[Any], damage: list[tuple[int, int]]
) -> None:
    stream = bytearray(encoded(entries))
    for position, value in damage:
        if stream:
            stream[position % len(stream)] = value
    receiver = Receiver()
    with contextlib.suppress(FrameError):
        receiver.feed(bytes(stream))


@given(st.binary(max_size=300))
def test_junk_as_a_control_body_gives_a_message_or_a_frame_error(body: bytes) -> None:
    try:
        message, _ = decode_control(memoryview(body), SMALL)
    except FrameError:
        return
    assert isinstance(message["op"], str)


@given(st.binary(max_size=300))
def test_junk_as_a_map_gives_a_message_or_a_frame_error(head: bytes) -> None:
    body = struct.pack("<IIQ", 1, 0, len(head)) + head
    try:
        message, buffers = decode_control(memoryview(body), SMALL)
    except FrameError:
        return
    assert isinstance(message["op"], str) and buffers == []


@pytest.mark.parametrize("length", [100_001, 2**33, 2**62, 2**64 - 1])
@pytest.mark.parametrize("kind", [CONTROL, 5])
def test_a_frame_over_the_limit_is_refused_by_its_header_alone(kind: int, length: int) -> None:
    with pytest.raises(FrameError, match=f"has {length} bytes; the limit is 100000"):
        Receiver().feed(HEADER.pack(kind, 0, length))


def test_kind_0_and_reserved_bits_are_refused() -> None:
    for header in (HEADER.pack(0, 0, 0), HEADER.pack(5, 1, 0)):
        with pytest.raises(FrameError, match="header is malformed"):
            Receiver().feed(header)


def test_a_claimed_length_costs_no_memory_until_it_arrives() -> None:
    import psutil

    process = psutil.Process()
    before = process.memory_info().rss
    receiver = Receiver(Limits())
    receiver.feed(HEADER.pack(5, 0, 2 << 30) + b"x" * 100)
    assert process.memory_info().rss - before < 16 << 20
    assert receiver.reader.pending == 116


def test_a_large_frame_gets_a_buffer_of_its_own_size_and_the_small_one_comes_back() -> None:
    receiver = Receiver()
    body = b"y" * 50_000
    receiver.feed(frame(5, body)[:5000])
    assert len(receiver.reader.target()) == 50_016 - 5000
    receiver.feed(frame(5, body)[5000:])
    assert receiver.got == [(5, body)]
    assert len(receiver.reader.target()) == 4096


def test_the_body_cannot_be_used_after_the_call() -> None:
    kept: list[memoryview] = []
    reader = FrameReader(SMALL, lambda kind, body: kept.append(body), lambda message, buffers: None)
    data = frame(5, b"12345678")
    reader.target()[: len(data)] = data
    reader.advance(len(data))
    with pytest.raises(ValueError, match="released"):
        bytes(kept[0])


@pytest.mark.parametrize("size", [10, 50_000])
def test_the_buffers_of_a_control_message_are_the_receivers_to_keep(size: int) -> None:
    kept: list[Any] = []
    reader = FrameReader(SMALL, lambda kind, body: None, lambda message, buffers: kept.extend(buffers))
    for fill in (b"a", b"b", b"c"):
        data = control({"op": "x"}, fill * size)
        while data:
            target = reader.target()
            count = min(len(target), len(data))
            target[:count] = data[:count]
            data = data[count:]
            reader.advance(count)
    assert [bytes(buffer) for buffer in kept] == [b"a" * size, b"b" * size, b"c" * size]
    assert not any(buffer.readonly for buffer in kept)


def test_a_receiver_that_stops_gets_nothing_more() -> None:
    receiver = Receiver()

    def stop(kind: int, body: memoryview) -> None:
        receiver.got.append(kind)
        receiver.reader.stopped = True

    receiver.reader._on_frame = stop
    receiver.feed(frame(5, b"") + frame(6, b""))
    assert receiver.got == [5]
