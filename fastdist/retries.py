"""When a task that raised is tried again: `Retry` and the waits for it.

A policy travels as bytes with its task and is asked by the worker; the scheduler counts and waits.
May import: `config`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from fastdist.config import parse_timedelta

#: What the scheduler can count.
MAX_RETRIES = 65_535
#: The longest wait, in seconds.
MAX_WAIT = 1e9

#: What a policy says of a failure, as a worker reports it: it is final, or the task is tried again after the
#: microseconds in the lower bits, and on another worker.
FINAL = 1
ELSEWHERE = 1 << 62
AGAIN = 1 << 63


class Retry:
    """How often a task that raises is tried again, after which errors, when and where.

    While it waits, a task takes no slot of any worker. Workers that die while they execute a task do not count here:
    the setting `scheduler.allowed-failures` is about them.

    Parameters
    ----------
    n : int
        How often it is tried again at most.
    on : exception class, tuple of them, or callable
        The errors after which it is tried again: instances of these classes, or those for which `on(error)` is
        true. Any other error is final at once.
    wait : number, str or callable
        Seconds before the next attempt, a text such as "500 ms", or a function that gives the seconds after the
        first, second, ... failure, such as `exponential(1, 60)`. It is called with 63 for any later one.
    jitter : bool
        Whether the wait is shortened at random, to not less than half, so that many tasks that failed together do not
        come back together.
    not_on_worker : bool
        Whether the next attempt goes to another worker than the last one, if there is one that may run it.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type or makes no sense.

    Examples
    --------
    >>> future = client.submit(download, url, retries=Retry(5, on=(OSError,), wait=exponential(1, 60)))
    >>> future.attempts
    2
    """

    def __init__(
        self,
        n: int,
        on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], Any] = Exception,
        wait: float | str | Callable[[int], float] = 0.0,
        jitter: bool = True,
        not_on_worker: bool = False,
    ) -> None:
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"a Retry needs a whole number of attempts, not {n!r}")
        if not 0 <= n <= MAX_RETRIES:
            raise ValueError(f"a Retry tries between 0 and {MAX_RETRIES} times again, not {n}")
        if not isinstance(jitter, bool) or not isinstance(not_on_worker, bool):
            raise TypeError("jitter= and not_on_worker= of a Retry must be True or False")
        self.n = n
        self.on = _checked_on(on)
        self.wait = wait if callable(wait) else constant(wait)
        self.jitter = jitter
        self.not_on_worker = not_on_worker

    def verdict(self, error: BaseException, failures: int) -> int:
        """What is reported of a failure to the scheduler.

        Parameters
        ----------
        error : BaseException
            What the task raised.
        failures : int
            How often it has failed, with this time.
        """
        again = isinstance(error, self.on) if isinstance(self.on, type | tuple) else bool(self.on(error))
        if not again or failures > self.n:
            return FINAL
        seconds = float(self.wait(failures))
        if not 0 <= seconds <= MAX_WAIT:
            raise ValueError(
                f"wait= of a Retry gave {seconds!r} after failure {failures}; it must give 0 or more seconds"
            )
        if self.jitter:
            seconds *= random.uniform(0.5, 1.0)
        return AGAIN | (ELSEWHERE if self.not_on_worker else 0) | int(seconds * 1e6)

    def __repr__(self) -> str:
        names = self.on.__name__ if isinstance(self.on, type) else repr(self.on)
        if isinstance(self.on, tuple):
            names = f"({', '.join(each.__name__ for each in self.on)})"
        where = ", not_on_worker=True" if self.not_on_worker else ""
        return f"Retry({self.n}, on={names}, wait={self.wait!r}, jitter={self.jitter}{where})"


def _checked_on(on: Any) -> Any:
    if isinstance(on, list):
        on = tuple(on)
    classes = on if isinstance(on, tuple) else (on,)
    if not classes:
        raise ValueError("on= of a Retry names no error at all; leave it out to try again after any")
    if all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
        return on
    if callable(on) and not isinstance(on, type):
        return on
    raise TypeError(f"on= of a Retry takes classes of exceptions or a function of the error, not {on!r}")


class constant:
    """The same wait after each failure.

    Parameters
    ----------
    seconds : number or str
        How long.
    """

    def __init__(self, seconds: float | str) -> None:
        self.seconds = _seconds(seconds, "wait")

    def __call__(self, failures: int) -> float:
        return self.seconds

    def __repr__(self) -> str:
        return f"{self.seconds:g}"


class exponential:
    """A wait that grows with each failure: for `Retry(wait=...)`.

    Parameters
    ----------
    first : number or str
        The wait after the first failure.
    limit : number or str
        The longest wait.
    factor : number
        By how much it grows each time.

    Raises
    ------
    TypeError, ValueError
        If a wait is negative or longer than the limit, or the factor below 1.

    Examples
    --------
    >>> [exponential(1, 60)(failures) for failures in (1, 2, 3, 7)]
    [1.0, 2.0, 4.0, 60.0]
    """

    def __init__(self, first: float | str = 1.0, limit: float | str = 60.0, factor: float = 2.0) -> None:
        self.first, self.limit = _seconds(first, "first"), _seconds(limit, "limit")
        if self.first > self.limit:
            raise ValueError(f"the first wait, {self.first:g} s, is longer than the limit, {self.limit:g} s")
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            raise TypeError(f"factor= must be a number, not {factor!r}")
        if not 1 <= factor < math.inf:
            raise ValueError(f"factor= must be at least 1 and finite, but is {factor!r}")
        self.factor = float(factor)

    def __call__(self, failures: int) -> float:
        try:
            return min(self.limit, self.first * self.factor ** (failures - 1))
        except OverflowError:
            return self.limit

    def __repr__(self) -> str:
        return f"exponential({self.first:g}, {self.limit:g}, {self.factor:g})"


def _seconds(value: Any, what: str) -> float:
    try:
        seconds = parse_timedelta(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}= must be seconds or a text such as '500 ms': {error}") from None
    if seconds > MAX_WAIT:
        raise ValueError(f"{what}= must be at most {MAX_WAIT:g} s, but is {seconds:g}")
    return seconds
