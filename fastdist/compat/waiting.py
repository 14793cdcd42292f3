"""Small helpers about awaiting that libraries import from dask.distributed.

May import: every layer below.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any as AnyType
from typing import TypeVar

from fastdist.system.signals import on_termination

T = TypeVar("T")

logger = logging.getLogger("fastdist.utils")


class NoOpAwaitable:
    """What can be awaited, and does nothing."""

    def __await__(self) -> AnyType:
        return _nothing().__await__()


async def _nothing() -> None:
    pass


class Deadline:
    """A point in time, or none.

    Parameters
    ----------
    expires_at : float, optional
        In seconds since 1970; never, if it is left out.

    Examples
    --------
    >>> Deadline.after(60).expired
    False
    >>> Deadline().remaining is None
    True
    """

    def __init__(self, expires_at: float | None = None) -> None:
        self.started_at = time.time()
        self.expires_at = expires_at
        self._started = time.monotonic()

    @classmethod
    def after(cls, duration: float | None = None) -> Deadline:
        """One that many seconds from now."""
        return cls(None if duration is None else time.time() + duration)

    @property
    def duration(self) -> float | None:
        """How long it was when it was made."""
        return None if self.expires_at is None else self.expires_at - self.started_at

    @property
    def expires(self) -> bool:
        """Whether it ever does."""
        return self.expires_at is not None

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._started

    @property
    def remaining(self) -> float | None:
        """Seconds that are left, 0 at least."""
        return None if self.duration is None else max(0.0, self.duration - self.elapsed)

    @property
    def expired(self) -> bool:
        """Whether none are left."""
        return self.remaining == 0


async def All(args: Iterable[Awaitable[T]], quiet_exceptions: AnyType = ()) -> list[T]:
    """The results of all, in their order; the first error, as soon as there is one.

    Parameters
    ----------
    quiet_exceptions
        Must be left out: nothing is logged.
    """
    if quiet_exceptions:
        raise NotImplementedError("All(quiet_exceptions=): errors are raised and never logged")
    return list(await asyncio.gather(*args))


async def Any(args: Iterable[Awaitable[T]], quiet_exceptions: AnyType = ()) -> list[T]:
    """The results of those that have finished as soon as one has; errors of these are raised.

    Parameters
    ----------
    quiet_exceptions
        Must be left out: nothing is logged.
    """
    if quiet_exceptions:
        raise NotImplementedError("Any(quiet_exceptions=): errors are raised and never logged")
    futures = [asyncio.ensure_future(each) for each in args]
    if not futures:
        return []
    done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    return [future.result() for future in futures if future in done]


async def wait_for(fut: Awaitable[T], timeout: float) -> T:
    """As `asyncio.wait_for`, in every version of Python with the built-in TimeoutError."""
    try:
        return await asyncio.wait_for(fut, timeout)
    except asyncio.TimeoutError as error:
        if isinstance(error, TimeoutError):
            raise
        raise TimeoutError(*error.args) from error


async def offload(fn: Callable[..., T], *args: AnyType, **kwargs: AnyType) -> T:
    """The result of a function that runs in a thread, while the event loop goes on."""
    return await asyncio.to_thread(fn, *args, **kwargs)


async def wait_for_signals(signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM)) -> int:
    """Wait until one of the signals arrives, which then does nothing else; its number."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[int] = loop.create_future()

    def note(number: int) -> None:
        if not arrived.done():
            arrived.set_result(number)

    undo = on_termination(note, loop, tuple(signals))
    try:
        return await arrived
    finally:
        undo()


def asyncio_run(
    main: Coroutine[AnyType, AnyType, T],
    *,
    debug: bool = False,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """As `asyncio.run` of the newest Pythons: with a factory of event loops."""
    if loop_factory is None:
        return asyncio.run(main, debug=debug)
    loop = loop_factory()
    loop.set_debug(debug)
    try:
        return loop.run_until_complete(main)
    finally:
        with contextlib.closing(loop):
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())


async def retry(
    coro: Callable[[], Awaitable[T]],
    count: int,
    delay_min: float,
    delay_max: float,
    jitter_fraction: float = 0.1,
    retry_on_exceptions: tuple[type[BaseException], ...] = (EnvironmentError, IOError),
    operation: str | None = None,
) -> T:
    """Await what a function returns; after an error again, with growing pauses.

    Parameters
    ----------
    coro : callable
        Makes what is awaited.
    count : int
        How often it is tried again.
    delay_min, delay_max : float
        The first pause and the longest, in seconds; each is twice the one before.
    jitter_fraction : float
        By how much of itself a pause may be longer, by chance.
    retry_on_exceptions : tuple of classes
        All others are raised at once.
    operation : str, optional
        What the log calls it.
    """
    for attempt in range(count):
        try:
            return await coro()
        except retry_on_exceptions as error:
            pause = min(delay_min * 2**attempt, delay_max) * (1 + random.random() * jitter_fraction)
            logger.info("%s failed (%r); it is tried again in %.1f s", operation or str(coro), error, pause)
            await asyncio.sleep(pause)
    return await coro()
