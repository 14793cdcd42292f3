"""`dumps`, `loads` and `serialize_bytes`, where libraries look for them: below `distributed.protocol`.

May import: `protocol`; layers below.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import Any

from fastdist.protocol import pickling, results

HIGHEST_PROTOCOL = pickle.HIGHEST_PROTOCOL


def dumps(
    x: object, *, buffer_callback: Callable[[Any], Any] | None = None, protocol: int = pickling.PROTOCOL
) -> bytes:
    """The pickle of an object, functions of `__main__` and lambdas included.

    Parameters
    ----------
    x : object
        What to pickle.
    buffer_callback : callable, optional
        Gets each large buffer (a `pickle.PickleBuffer`), which then stays outside of the pickle.
    protocol : int
        5, the only one that is written.

    Raises
    ------
    SerializationError
        If it cannot be pickled; with the path to the object that is the reason.

    Examples
    --------
    >>> loads(dumps(lambda: 5))()
    5
    """
    if protocol != pickling.PROTOCOL:
        raise NotImplementedError(f"dumps(protocol={protocol!r}): only protocol {pickling.PROTOCOL} is written")
    if buffer_callback is None:
        return pickling.dumps(x)
    buffers: pickling.Buffers = []
    pickled = pickling.dumps(x, None, buffers)
    for buffer in buffers:
        buffer_callback(buffer)
    return pickled


def loads(x: Any, *, buffers: Iterable[Any] = ()) -> Any:
    """The object of a pickle that `dumps` made, and of the buffers that stayed outside."""
    return pickle.loads(x, buffers=buffers)


def serialize_bytelist(x: object, compression: Any = "auto", **kwargs: Any) -> list[bytes | bytearray | memoryview]:
    """The bytes of an object as a list of buffers; joined they are what `deserialize_bytes` takes.

    Parameters
    ----------
    x : object
        What to serialise.
    compression : None, False or "auto"
        Nothing is compressed.

    Raises
    ------
    NotImplementedError
        If a compression, or anything else, is asked for.
    """
    if compression not in (None, False, "auto"):
        raise NotImplementedError(f"serialize_bytelist(compression={compression!r}): nothing is compressed")
    if kwargs:
        raise NotImplementedError(f"serialize_bytelist({', '.join(kwargs)}=): there is pickle only")
    return results.dumps(x)


def serialize_bytes(x: object, **kwargs: Any) -> bytes:
    """The bytes of an object.

    Examples
    --------
    >>> deserialize_bytes(serialize_bytes({"a": 1}))
    {'a': 1}
    """
    return b"".join(serialize_bytelist(x, **kwargs))


def deserialize_bytes(b: bytes | bytearray | memoryview) -> Any:
    """The object of bytes that `serialize_bytes` gave."""
    return results.loads([b])
