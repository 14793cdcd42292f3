"""Functions: their bytes, and the hash under which a cluster keeps them.

A function that a worker can import is sent as its name and known by identity. Any other (a lambda, a closure,
what `__main__` defines, a partial) is pickled by value whenever it is submitted, so that a global or a
closure that has changed since gives another hash.

May import: `fastdist._core`, `fastdist.errors`.
"""

from __future__ import annotations

import pickle
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

from fastdist.protocol import pickling

HASH_SIZE = 16
CACHE_SIZE = 10_000
"""Functions that one cache remembers; the least recently used one is forgotten first."""


class SerializedFunction(NamedTuple):
    """A function ready to travel.

    Attributes
    ----------
    hash : bytes
        16 bytes that depend on the payload alone.
    payload : bytes
        What `load_function` takes.
    by_value : bool
        Whether the payload holds more than the name of the function; the next one may differ.
    """

    hash: bytes
    payload: bytes
    by_value: bool


class FunctionCache:
    """Serializes functions and remembers the importable ones.

    Parameters
    ----------
    size : int
        How many functions it remembers.

    Examples
    --------
    >>> cache = FunctionCache()
    >>> load_function(cache.serialize_function(len).payload)("four")
    4
    """

    def __init__(self, size: int = CACHE_SIZE) -> None:
        if size < 1:
            raise ValueError(f"a function cache needs room for at least one function, not {size}")
        self._size = size
        # By id: a callable need not be hashable, and equal callables need not be the same. Each entry holds a
        # way back to its function, so that an id that was used again is not mistaken for it.
        self._entries: OrderedDict[int, tuple[Callable[[], object], SerializedFunction]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def serialize_function(self, function: Callable[..., Any]) -> SerializedFunction:
        """The bytes of a function.

        Parameters
        ----------
        function : callable
            Anything that can be called and pickled.

        Raises
        ------
        TypeError
            If it cannot be called.
        SerializationError
            If it cannot be pickled. The text gives the path to the object that is the reason, such as
            ``function closure client._lock``.
        """
        if not callable(function):
            raise TypeError(f"a task needs something to call, not a {type(function).__name__}")
        if not _is_importable(function):
            return _serialized(pickling.dumps(function, {"function": function}), by_value=True)
        serialized = self._recall(function)
        if serialized is None:
            serialized = _serialized(pickling.dumps(function, {"function": function}), by_value=False)
            self._remember(function, serialized)
        return serialized

    def _recall(self, function: Callable[..., Any]) -> SerializedFunction | None:
        with self._lock:
            entry = self._entries.get(id(function))
            if entry is None or entry[0]() is not function:
                return None
            self._entries.move_to_end(id(function))
            return entry[1]

    def _remember(self, function: Callable[..., Any], serialized: SerializedFunction) -> None:
        with self._lock:
            self._entries[id(function)] = (_way_back(function), serialized)
            self._entries.move_to_end(id(function))
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)


def load_function(payload: bytes | bytearray | memoryview) -> Callable[..., Any]:
    """The function of a payload that `FunctionCache.serialize_function` made.

    Raises
    ------
    TypeError
        If the payload holds something that cannot be called.
    ModuleNotFoundError
        If it needs a module that is not installed here; the text says what to do.
    Exception
        What else unpickling raises.
    """
    try:
        function: Callable[..., Any] = pickle.loads(payload)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.msg} in the process that runs this task: install it where the workers run, in the client's "
            "version, or send your own module there with Client.upload_file",
            name=error.name,
            path=error.path,
        ) from None
    if not callable(function):
        kind = type(function).__name__
        raise TypeError(f"the payload of a function holds a {kind}, which cannot be called")
    return function


def _serialized(payload: bytes, by_value: bool) -> SerializedFunction:
    return SerializedFunction(blake2b(payload, digest_size=HASH_SIZE).digest(), payload, by_value)


def _way_back(function: Callable[..., Any]) -> Callable[[], object]:
    """How to get the function again: weakly where its type allows that, so that the cache keeps nothing."""
    try:
        return weakref.ref(function)
    except TypeError:
        return lambda: function


def _is_importable(function: Any) -> bool:
    """Whether another process finds this very object under its module and name."""
    module_name = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if type(module_name) is not str or type(name) is not str or module_name in ("__main__", "__mp_main__"):
        return False
    found: Any = sys.modules.get(module_name)
    if found is None or _is_by_value(module_name):
        return False
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is function


def _is_by_value(module_name: str) -> bool:
    """Whether the user told cloudpickle to pickle this module by value."""
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is None:
        return False
    registered = cloudpickle.list_registry_pickle_by_value()
    return any(module_name == name or module_name.startswith(name + ".") for name in registered)
