"""The interface of tornado's IOLoop for an asyncio event loop, for libraries that expect one.

With tornado installed it is tornado's own; else `PlainLoop` has the methods that libraries use. May import: nothing
of fastdist; tornado only when somebody asks for a loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

logger = logging.getLogger("fastdist.loop")

_known: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = weakref.WeakKeyDictionary()


def io_loop(loop: asyncio.AbstractEventLoop) -> Any:
    """The IOLoop of an asyncio event loop, always the same one.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        It may run on another thread.

    Returns
    -------
    tornado.ioloop.IOLoop or PlainLoop
        With `asyncio_loop`, and `add_callback` and the like.

    Examples
    --------
    >>> client.loop.add_callback(print, "hello")  # doctest: +SKIP
    """
    found = _known.get(loop)
    if found is None:
        found = _known[loop] = _make(loop)
    return found


def _make(loop: asyncio.AbstractEventLoop) -> Any:
    try:
        from tornado.ioloop import IOLoop
        from tornado.platform.asyncio import AsyncIOLoop
    except ImportError:
        return PlainLoop(loop)
    # Tornado allows one IOLoop for each event loop, and says nowhere else which one it is.
    existing = getattr(IOLoop, "_ioloop_for_asyncio", {}).get(loop)
    return existing if existing is not None else AsyncIOLoop(asyncio_loop=loop, make_current=False)


class PlainLoop:
    """What libraries use of tornado's IOLoop, without tornado.

    Parameters
    ----------
    asyncio_loop : asyncio.AbstractEventLoop
        Where everything is run.
    """

    def __init__(self, asyncio_loop: asyncio.AbstractEventLoop) -> None:
        self.asyncio_loop = asyncio_loop

    def add_callback(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Have `callback(*args, **kwargs)` called soon; from any thread. Harmless when the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self.asyncio_loop.call_soon_threadsafe(self._run, functools.partial(callback, *args, **kwargs))

    add_callback_from_signal = add_callback
    spawn_callback = add_callback

    def _run(self, callback: Callable[[], Any]) -> None:
        try:
            result = callback()
        except Exception:
            logger.exception("a callback of the event loop failed")
            return
        if asyncio.iscoroutine(result) or asyncio.isfuture(result):
            task = asyncio.ensure_future(result, loop=self.asyncio_loop)
            task.add_done_callback(_log_failure)

    def add_future(self, future: Any, callback: Callable[[Any], Any]) -> None:
        """Have `callback(future)` called when the future is done."""
        future.add_done_callback(lambda done: self.add_callback(callback, done))

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> asyncio.TimerHandle:
        """Have a callback called after `delay` seconds; on the loop's own thread."""
        return self.asyncio_loop.call_later(delay, self._run, functools.partial(callback, *args, **kwargs))

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> asyncio.TimerHandle:
        """Have a callback called when `time()` is `when`; on the loop's own thread."""
        return self.asyncio_loop.call_at(when, self._run, functools.partial(callback, *args, **kwargs))

    def remove_timeout(self, timeout: asyncio.TimerHandle) -> None:
        """Forget what `call_later` or `call_at` returned."""
        timeout.cancel()

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> Any:
        """Call a function in a thread; a future of its result."""
        return self.asyncio_loop.run_in_executor(executor, func, *args)

    def time(self) -> float:
        """The loop's clock."""
        return self.asyncio_loop.time()

    def __repr__(self) -> str:
        return f"<PlainLoop of {self.asyncio_loop!r}>"


def _log_failure(task: Any) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("a coroutine of the event loop failed", exc_info=task.exception())
