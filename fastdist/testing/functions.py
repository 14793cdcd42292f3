"""Little functions to submit. May import: nothing of fastdist."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any


def inc(x: Any) -> Any:
    """One more."""
    return x + 1


def dec(x: Any) -> Any:
    """One less."""
    return x - 1


def mul(x: Any, y: Any) -> Any:
    """The product."""
    return x * y


def div(x: Any, y: Any) -> Any:
    """The quotient."""
    return x / y


def double(x: Any) -> Any:
    """Twice as much."""
    return x * 2


def throws(x: Any) -> Any:
    """Raise RuntimeError("hello!")."""
    raise RuntimeError("hello!")


def slowinc(x: Any, delay: float = 0.02) -> Any:
    """One more, after a while."""
    time.sleep(delay)
    return x + 1


def slowdec(x: Any, delay: float = 0.02) -> Any:
    """One less, after a while."""
    time.sleep(delay)
    return x - 1


def slowdouble(x: Any, delay: float = 0.02) -> Any:
    """Twice as much, after a while."""
    time.sleep(delay)
    return 2 * x


def slowadd(x: Any, y: Any, delay: float = 0.02) -> Any:
    """The sum, after a while."""
    time.sleep(delay)
    return x + y


def slowsum(seq: Iterable[Any], delay: float = 0.02) -> Any:
    """The sum of all, after a while."""
    time.sleep(delay)
    return sum(seq)


def slowidentity(*args: Any, delay: float = 0.02) -> Any:
    """The argument, or all of them as a tuple, after a while."""
    time.sleep(delay)
    return args[0] if len(args) == 1 else args


def randominc(x: Any, scale: float = 1) -> Any:
    """One more, after at most `scale` seconds."""
    time.sleep(random.random() * scale)
    return x + 1


async def asyncinc(x: Any, delay: float = 0.02) -> Any:
    """One more, after a while that blocks nothing."""
    await asyncio.sleep(delay)
    return x + 1


def lock_inc(x: Any, lock: Any) -> Any:
    """One more, while a lock is held."""
    with lock:
        return x + 1


def block_on_event(event: Any) -> None:
    """Wait for an event."""
    event.wait()


def run_for(duration: float, timer: Callable[[], float] = time.perf_counter) -> None:
    """Keep a processor busy for so many seconds."""
    end = timer() + duration
    while timer() <= end:
        pass


_varying_numbers = itertools.count()
_varying_calls: dict[int, int] = {}
_varying_lock = threading.Lock()


def varying(items: Sequence[Any]) -> Callable[[], Any]:
    """A function that returns (or, if it is an exception, raises) the next item at each call in one process.

    After the last item it raises IndexError.

    Examples
    --------
    >>> function = varying([1, 2])
    >>> function(), function()
    (1, 2)
    """
    number = next(_varying_numbers)
    home = __name__

    def function() -> Any:
        # Pickled by value, it must not take copies of the counters with it.
        item = sys.modules[home]._next_item(number, items)
        if isinstance(item, BaseException):
            raise item
        return item

    return function


def _next_item(number: int, items: Sequence[Any]) -> Any:
    with _varying_lock:
        position = _varying_calls.get(number, 0)
        if position >= len(items):
            raise IndexError(f"called {position + 1} times, with {len(items)} items")
        _varying_calls[number] = position + 1
    return items[position]


def _apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def map_varying(itemslists: Iterable[Sequence[Any]]) -> tuple[Callable[..., Any], list[Callable[[], Any]]]:
    """A function and its arguments, for `Client.map`: one `varying` function for each list."""
    return _apply, [varying(items) for items in itemslists]


class SizeOf:
    """An object that counts as a given number of bytes.

    Parameters
    ----------
    nbytes : int
        At least the size of an object.
    """

    def __init__(self, nbytes: int) -> None:
        if not isinstance(nbytes, int):
            raise TypeError(f"expected an int for nbytes, got {type(nbytes).__name__}")
        smallest = sys.getsizeof(object())
        if nbytes < smallest:
            raise ValueError(f"an object has at least {smallest} bytes, not {nbytes}")
        self._nbytes = nbytes - smallest

    def __sizeof__(self) -> int:
        return self._nbytes


def gen_nbytes(nbytes: int) -> SizeOf:
    """A result of that many bytes."""
    return SizeOf(nbytes)
