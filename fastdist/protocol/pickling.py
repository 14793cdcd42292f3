"""Pickles that other processes can load: pickle when it suffices, cloudpickle when it does not.

May import: `fastdist._core`, `fastdist.errors`.
"""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Callable
from types import ModuleType

from fastdist._core.codec.values import MAX_BUFFERS, Encoding
from fastdist.errors import SerializationError
from fastdist.protocol.path import find_unpicklable

PROTOCOL = 5
OUT_OF_BAND_FROM = 64 * 1024
"""A buffer of fewer bytes is copied into the pickle: a place of its own would cost more than the copy."""

Buffers = list[pickle.PickleBuffer]
Parts = dict[str, object]


def dumps(value: object, parts: Parts | None = None, buffers: Buffers | None = None) -> bytes:
    """The pickle of a value; large buffers of arrays stay outside.

    Parameters
    ----------
    value : object
        What to pickle. What belongs to ``__main__``, lambdas and local classes are pickled by value.
    parts : dict, optional
        How an error calls the parts of the value. By default the whole is called ``value``.
    buffers : list, optional
        Large buffers are appended here, uncopied. Without it they are copied into the pickle.

    Raises
    ------
    SerializationError
        If the value cannot be pickled. The text gives the path to the object that is the reason.

    Examples
    --------
    >>> import pickle
    >>> pickle.loads(dumps({"a": 1}))
    {'a': 1}
    """
    try:
        if not _has_modules_by_value():
            return _plain_pickle(value, buffers)
    except Exception:  # cloudpickle is the judge; its error is the one that is reported
        pass
    if buffers:
        buffers.clear()
    return _cloudpickle_dumps(value, parts, buffers)


def payload(value: object, parts: Parts | None = None, shape: int = 0) -> bytes:
    """One payload (docs/wire.md) that holds the pickle of a value and all of its buffers.

    Parameters
    ----------
    value : object
        What to pickle.
    parts : dict, optional
        How an error calls the parts of the value.
    shape : int
        The second byte of the payload.

    Raises
    ------
    SerializationError
        If the value cannot be pickled.
    """
    buffers: Buffers = []
    pickled = dumps(value, parts, buffers)
    if not buffers:
        return bytes((Encoding.PICKLED, shape)) + pickled
    pieces = [buffer.raw() for buffer in buffers]
    return b"".join([buffers_head(shape, pickled, pieces), pickled, *pieces])


def buffers_head(shape: int, pickled: bytes, pieces: list[memoryview]) -> bytes:
    """What comes before the pickle in a payload with out-of-band buffers."""
    count = 1 + len(pieces)
    lengths = [len(pickled), *(piece.nbytes for piece in pieces)]
    return struct.pack(f"<BBI{count}Q", Encoding.BUFFERS, shape, count, *lengths)


def _plain_pickle(value: object, buffers: Buffers | None) -> bytes:
    """The pickle if another process can load it; raises if it needs cloudpickle."""
    if buffers is None:
        pickled = pickle.dumps(value, PROTOCOL)
    else:
        # A method of a list costs the pickler less than a Python function, and most values have no buffers.
        pickled = pickle.dumps(value, PROTOCOL, buffer_callback=buffers.append)
        if buffers:
            buffers.clear()
            pickled = pickle.dumps(value, PROTOCOL, buffer_callback=_collector(buffers))
    if b"__main__" in pickled:
        raise pickle.PicklingError("a reference to __main__, which is another module in another process")
    return pickled


def _collector(buffers: Buffers | None) -> Callable[[pickle.PickleBuffer], bool] | None:
    """The callback of a pickler; it returns whether to copy the buffer into the pickle."""
    if buffers is None:
        return None

    def keep_outside(buffer: pickle.PickleBuffer) -> bool:
        if len(buffers) >= MAX_BUFFERS or buffer.raw().nbytes < OUT_OF_BAND_FROM:
            return True
        buffers.append(buffer)
        return False

    return keep_outside


def _has_modules_by_value() -> bool:
    """Whether the user told cloudpickle to pickle some modules by value, which plain pickle does not know."""
    cloudpickle = sys.modules.get("cloudpickle")
    return cloudpickle is not None and bool(cloudpickle.list_registry_pickle_by_value())


def _cloudpickle_dumps(value: object, parts: Parts | None, buffers: Buffers | None) -> bytes:
    try:
        pickled: bytes = _cloudpickle().dumps(value, PROTOCOL, buffer_callback=_collector(buffers))
        return pickled
    except Exception as error:
        raise unpicklable({"value": value} if parts is None else parts, error) from error


def unpicklable(parts: Parts, error: Exception) -> SerializationError:
    """The error for a value that cannot be pickled; it names the part of it that is the reason.

    Parameters
    ----------
    parts : dict
        The value, by name.
    error : Exception
        What the pickler raised.
    """
    whole: tuple[str, object] = (" and ".join(parts), parts)
    name, value = next((item for item in parts.items() if not can_pickle(item[1])), whole)
    path, culprit = find_unpicklable(value, name, can_pickle)
    kind = f"{type(culprit).__module__}.{type(culprit).__qualname__}"
    return SerializationError(f"cannot pickle {path} (a {kind}): {type(error).__name__}: {str(error)[:500]}")


def can_pickle(value: object) -> bool:
    """Whether a value can be pickled, by value where that is needed."""
    try:
        _cloudpickle().dumps(value, PROTOCOL)
    except Exception:
        return False
    return True


def _cloudpickle() -> ModuleType:
    # Imported late: the first result of a program that needs no pickling by value should not wait for it.
    import cloudpickle

    module: ModuleType = cloudpickle
    return module
