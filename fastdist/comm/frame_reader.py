"""Bytes in, whole frames out: the read buffer of one connection.

One buffer is reused for everything that fits into it. A longer frame gets a buffer of exactly its size, which
a control message keeps, so that a large result is never copied on its way in. There is no input or output
here. May import: fastdist.errors, fastdist.comm.core, fastdist.comm.control.
"""

from __future__ import annotations

import mmap
import struct

from fastdist.comm.control import decode_control
from fastdist.comm.core import CONTROL, Limits, OnControl, OnFrame
from fastdist.errors import FrameError

HEADER = struct.Struct("<IIQ")
HEADER_BYTES = HEADER.size


def large_buffer(size: int) -> memoryview:
    """Writable zeroed memory that costs nothing until it is written to: a length alone makes nobody pay for
    it.

    Raises
    ------
    FrameError
        If this machine cannot provide that much.
    """
    try:
        if hasattr(mmap, "MAP_ANONYMOUS"):
            return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        return memoryview(bytearray(size))
    except (OSError, MemoryError, OverflowError) as error:
        raise FrameError(f"there is no memory for a frame of {size} bytes: {error}") from error


class FrameReader:
    """Cuts a stream into frames and hands each over.

    Write received bytes into `target()`, then tell how many by `advance()`.

    Parameters
    ----------
    limits : Limits
        What is refused.
    on_frame : callable
        Gets the kind and the body of each columnar frame; the body starts at a multiple of 8 bytes and is
        released after the call.
    on_control : callable
        Gets the map and the buffers of each control message; the buffers are writable and the callee's to
        keep.

    Examples
    --------
    >>> frames = []
    >>> take = lambda kind, body: frames.append((kind, bytes(body)))
    >>> reader = FrameReader(Limits(), take, lambda message, buffers: None)
    >>> reader.target()[:20] = HEADER.pack(5, 0, 4) + b"body"
    >>> reader.advance(20)
    >>> frames
    [(5, b'body')]
    """

    def __init__(self, limits: Limits, on_frame: OnFrame, on_control: OnControl) -> None:
        self._limits = limits
        self._on_frame = on_frame
        self._on_control = on_control
        self._reused = memoryview(bytearray(max(limits.read_buffer_bytes, 4096)))
        self._view = self._reused
        self._start = 0
        self._end = 0
        self.stopped = False

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished frame are here."""
        return self._end - self._start

    def target(self) -> memoryview:
        """Where the next received bytes belong; never empty."""
        return self._view[self._end :] if self._end else self._view

    def advance(self, received: int) -> None:
        """Take note of `received` bytes in `target()` and hand over each whole frame.

        Raises
        ------
        FrameError
            If the stream is malformed or over a limit; and whatever the callbacks raise. The stream is then
            of no further use.
        """
        if not self._end and received >= HEADER_BYTES and self._view is self._reused:
            # Almost always just one short frame has come.
            kind, reserved, length = HEADER.unpack_from(self._view)
            if kind > CONTROL and not reserved and length == received - HEADER_BYTES and not self.stopped:
                with self._view[HEADER_BYTES:received] as whole:
                    self._on_frame(kind, whole)
                return
        self._end += received
        needed = HEADER_BYTES
        while self._end - self._start >= HEADER_BYTES and not self.stopped:
            kind, reserved, length = HEADER.unpack_from(self._view, self._start)
            self._check(kind, reserved, length)
            needed = HEADER_BYTES + length
            if self._end - self._start < needed:
                break
            body = self._start + HEADER_BYTES
            self._start += needed
            self._deliver(kind, body, length)
            needed = HEADER_BYTES
        self._make_room(needed)

    def _check(self, kind: int, reserved: int, length: int) -> None:
        if reserved or not kind:
            raise FrameError(f"a frame header is malformed (kind {kind}, reserved {reserved})")
        wrong = self._limits.check_length(kind, length)
        if wrong:
            raise FrameError(wrong)

    def _deliver(self, kind: int, start: int, length: int) -> None:
        body = self._view[start : start + length]
        if kind == CONTROL:
            owned = body if self._view is not self._reused else memoryview(bytearray(body))
            self._on_control(*decode_control(owned, self._limits))
            return
        if start % 8:
            body = memoryview(bytes(body))
        try:
            self._on_frame(kind, body)
        finally:
            body.release()

    def _make_room(self, needed: int) -> None:
        start, end = self._start, self._end
        if start == end:
            self._view = self._reused
            self._start = self._end = 0
            if needed <= len(self._reused):
                return
        elif start + needed <= len(self._view):
            return
        pending = self._view[start:end]
        view = self._reused if needed <= len(self._reused) else large_buffer(needed)
        view[: end - start] = pending
        self._view = view
        self._start, self._end = 0, end - start
