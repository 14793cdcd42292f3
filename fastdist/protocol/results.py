"""Results and scattered values that travel between processes.

May import: `fastdist._core`, `fastdist.errors`.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from typing import Any

from fastdist._core.codec.values import MAX_BUFFERS, Encoding, decode_value, encode_value, own_buffer
from fastdist.errors import FrameError
from fastdist.protocol import pickling

ENCODED_UP_TO = 64 * 1024
"""A larger value is pickled, and its arrays are sent from where they are."""

Buffer = bytes | bytearray | memoryview


def dumps(value: object) -> list[Buffer]:
    """The bytes of a value.

    Parameters
    ----------
    value : object
        Any object that can be pickled.

    Returns
    -------
    list of buffers
        Together they are one payload (docs/wire.md). The first is made here; the others are the memory of
        large arrays, uncopied: the value must not change until they are sent.

    Raises
    ------
    SerializationError
        If the value cannot be pickled. The text gives the path to the part that is the reason.

    Examples
    --------
    >>> loads(dumps({"a": [1, 2]}))
    {'a': [1, 2]}
    """
    encoded = encode_value(value, ENCODED_UP_TO)
    if encoded is not None:
        return [encoded]
    buffers: pickling.Buffers = []
    pickled = pickling.dumps(value, None, buffers)
    if not buffers:
        return [bytes((Encoding.PICKLED, 0)) + pickled]
    pieces = [buffer.raw() for buffer in buffers]
    return [pickling.buffers_head(0, pickled, pieces) + pickled, *pieces]


def loads(buffers: Sequence[Buffer]) -> Any:
    """The value of bytes that `dumps` made.

    Parameters
    ----------
    buffers : sequence of bytes-like
        What `dumps` gave, as it was or joined into one buffer. A large array is loaded without a copy if
        its buffer came alone, writable and aligned; then the array keeps that buffer.

    Raises
    ------
    FrameError
        If these bytes are no payload.
    """
    if not buffers:
        raise FrameError("a value without any bytes")
    if len(buffers) == 1:
        return decode_value(buffers[0])
    return _load_pieces(memoryview(buffers[0]), [memoryview(buffer).cast("B") for buffer in buffers[1:]])


def nbytes(buffers: Sequence[Buffer]) -> int:
    """The bytes of all buffers together."""
    return sum(memoryview(buffer).nbytes for buffer in buffers)


def _load_pieces(first: memoryview, pieces: list[memoryview]) -> Any:
    if first.nbytes < 6 or first[0] != Encoding.BUFFERS or first[1] != 0 or len(pieces) > MAX_BUFFERS:
        raise FrameError("several buffers where a payload of one is expected")
    (count,) = struct.unpack_from("<I", first, 2)
    if count != 1 + len(pieces) or first.nbytes < 6 + 8 * count:
        raise FrameError(f"a payload claims {count} buffers and has {1 + len(pieces)}")
    lengths = struct.unpack_from(f"<{count}Q", first, 6)
    pickled = first[6 + 8 * count :]
    if lengths != (pickled.nbytes, *(piece.nbytes for piece in pieces)):
        raise FrameError("the buffers of a payload do not have the lengths that it claims")
    return pickle.loads(pickled, buffers=[own_buffer(piece) for piece in pieces])
