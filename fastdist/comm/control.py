"""Control messages as bytes: a msgpack map and opaque buffers, with every size checked before it is believed.

May import: fastdist.errors, fastdist.comm.core (msgpack).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import msgpack

from fastdist.comm.core import BytesLike, Limits
from fastdist.errors import FrameError

_COUNT = struct.Struct("<II")


def byte_view(part: BytesLike) -> BytesLike:
    """The part as something whose `len` counts bytes."""
    if type(part) is bytes:
        return part
    view = memoryview(part)
    if view.nbytes == 0:
        return b""
    return view if view.format == "B" and view.ndim == 1 and view.contiguous else view.cast("B")


def encode_control(message: dict[str, Any], buffers: Iterable[BytesLike], limits: Limits) -> list[BytesLike]:
    """The pieces of the body of a control frame.

    Raises
    ------
    FrameError
        If the map or the number of buffers is over the limit.
    """
    head = msgpack.packb(message, use_bin_type=True)
    parts: list[BytesLike] = [b"", head]
    parts.extend([byte_view(buffer) for buffer in buffers])
    count = len(parts) - 1
    if count > limits.max_buffers:
        raise FrameError(
            f"a control message has {count} buffers; the limit is {limits.max_buffers} (max_buffers)"
        )
    if len(head) > limits.max_map_bytes:
        raise FrameError(
            f"the map of the control message {message.get('op')!r} has {len(head)} bytes; "
            f"the limit is {limits.max_map_bytes} (max_map_bytes)"
        )
    parts[0] = _COUNT.pack(count, 0) + struct.pack(f"<{count}Q", *[len(part) for part in parts[1:]])
    return parts


def decode_control(body: memoryview, limits: Limits) -> tuple[dict[str, Any], list[memoryview]]:
    """The map and the buffers of a control frame; the buffers are slices of `body`.

    Raises
    ------
    FrameError
        If anything does not add up or is over a limit.
    """
    if len(body) < _COUNT.size:
        raise FrameError("a control message ends inside its table of buffers")
    count, zero = _COUNT.unpack_from(body)
    if zero or not 1 <= count <= limits.max_buffers:
        raise FrameError(f"a control message claims {count} buffers; 1 to {limits.max_buffers} are allowed")
    position = _COUNT.size + 8 * count
    if position > len(body):
        raise FrameError("a control message ends inside its table of buffers")
    lengths = struct.unpack_from(f"<{count}Q", body, _COUNT.size)
    if position + sum(lengths) != len(body):
        raise FrameError("the buffers of a control message do not add up to its length")
    buffers = []
    for length in lengths:
        buffers.append(body[position : position + length])
        position += length
    return _decode_map(buffers.pop(0), limits), buffers


def _decode_map(head: memoryview, limits: Limits) -> dict[str, Any]:
    if len(head) > limits.max_map_bytes:
        raise FrameError(
            f"the map of a control message has {len(head)} bytes; the limit is {limits.max_map_bytes}"
        )
    items = min(limits.max_map_items, len(head))
    text = min(limits.max_text_bytes, len(head))
    try:
        message = msgpack.unpackb(
            head,
            raw=False,
            strict_map_key=True,
            max_str_len=text,
            max_bin_len=text,
            max_array_len=items,
            max_map_len=items,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise FrameError(
            f"the map of a control message is malformed: {type(error).__name__} {error}"[:500]
        ) from None
    if type(message) is not dict or type(message.get("op")) is not str:
        raise FrameError("a control message is no map with a text under `op`")
    if _deeper_than(message, limits.max_map_depth):
        raise FrameError(f"the map of a control message is nested deeper than {limits.max_map_depth} levels")
    return message


def _deeper_than(message: dict[str, Any], depth: int) -> bool:
    level: list[Any] = [message]
    for _ in range(depth):
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return False
    return True
