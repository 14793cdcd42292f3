"""Events as bytes: plain values that every process can read without running anybody's code.

May import: the standard library and msgpack.
"""

from __future__ import annotations

from typing import Any

import msgpack


def pack_message(message: object) -> bytes:
    """The bytes of an event's message.

    Parameters
    ----------
    message : object
        None, numbers, texts, bytes, and lists, tuples and dicts of them.

    Raises
    ------
    TypeError
        If it holds anything else.

    Examples
    --------
    >>> unpack_message(pack_message({"loss": [0.5, 0.25]}))
    {'loss': (0.5, 0.25)}
    """
    try:
        packed: bytes = msgpack.packb(message)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(
            "the message of an event is made of None, numbers, texts, bytes, lists, tuples and dicts; "
            f"{message!r:.200} is not: {error}"
        ) from error
    return packed


def unpack_message(packed: bytes | bytearray | memoryview) -> Any:
    """The message that `pack_message` was given; lists come as tuples.

    Raises
    ------
    ValueError
        If these bytes are no message.
    """
    try:
        return msgpack.unpackb(packed, use_list=False, strict_map_key=False)
    except (msgpack.UnpackException, TypeError) as error:
        raise ValueError(f"the {len(packed)} bytes of an event are no message: {error}") from error
