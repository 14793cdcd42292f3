"""One background event loop for everything in this process that is called without one.

Clients and clusters used from plain code share a single daemon thread that runs an asyncio loop. It starts
with its first user, stops with its last, and is gone from the child of a fork. May import: `fastdist.config`.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from fastdist.system.selector import QuickSelector

T = TypeVar("T")

logger = logging.getLogger("fastdist.loop")

#: How long the end of the interpreter waits for the loop to wind up its tasks.
EXIT_TIMEOUT = 3.0


class QuickLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop with a shorter way around, which can be told what to do before it sleeps.

    Examples
    --------
    >>> loop = QuickLoop()
    >>> loop.run_until_complete(asyncio.sleep(0, "done"))
    'done'
    >>> loop.close()
    """

    def __init__(self) -> None:
        self.selector = QuickSelector()
        self._asked: list[Callable[[], object]] = []
        self._touched = False
        #: By thread: what it does before it waits for the loop, if it reads a connection in the loop's place.
        self.lent: dict[int, Callable[[], None]] = {}
        super().__init__(self.selector)
        self.selector.before_sleep = self._before_sleep

    def before_sleep(self, callback: Callable[[], object]) -> None:
        """Call this once, when everything that is there now has been dealt with, before the next look at the system.

        It costs no turn of the loop, as `call_soon` does.
        """
        self._asked.append(callback)

    def _before_sleep(self, timeout: float | None) -> float | None:
        if not self._asked:
            return timeout
        asked, self._asked = self._asked, []
        self._touched = False
        for callback in asked:
            try:
                callback()
            except Exception as error:
                message = f"{callback!r} failed before the event loop slept"
                self.call_exception_handler({"message": message, "exception": error})
        # What was planned in here the loop has not seen when it chose the timeout.
        return 0 if self._touched or self._asked else timeout

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        """As of any event loop."""
        self._touched = True
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """As of any event loop."""
        self._touched = True
        return super().call_at(when, callback, *args, context=context)

    def stop(self) -> None:
        """As of any event loop."""
        self._touched = True
        super().stop()


def call_before_sleep(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Have a loop of any kind call this once everything that is there has been dealt with; in its thread."""
    if isinstance(loop, QuickLoop):
        loop.before_sleep(callback)
    else:
        loop.call_soon(callback)


def new_event_loop(use_uvloop: bool | None = None) -> asyncio.AbstractEventLoop:
    """Make an event loop of the configured kind.

    Parameters
    ----------
    use_uvloop : bool, optional
        Whether to use uvloop; by default when the setting `event-loop` is `uvloop`.

    Raises
    ------
    ImportError
        If uvloop is asked for and not installed.
    """
    if use_uvloop is None:
        from fastdist import config

        use_uvloop = config.get("event-loop") == "uvloop"
    if not use_uvloop:
        return QuickLoop()
    try:
        import uvloop
    except ImportError as error:
        raise ImportError(
            "the event loop uvloop is asked for; install it with: pip install uvloop"
        ) from error
    return uvloop.new_event_loop()


class LoopThread:
    """A daemon thread that runs an event loop, shared by its users.

    `LoopThread.acquire()` gives the one of this process and counts the user, `release()` gives it back; it
    ends with its last user. In the child of a fork it is inert: `run` raises RuntimeError, `call_soon` gives
    False.

    Examples
    --------
    >>> loop_thread = LoopThread.acquire()
    >>> loop_thread.run(asyncio.sleep(0, "done"))
    'done'
    >>> loop_thread.release()
    """

    _shared: LoopThread | None = None
    _lock = threading.Lock()

    def __init__(self, use_uvloop: bool | None = None):
        self._pid = os.getpid()
        self._users = 0
        self._closed = False
        # The thread makes the loop: Ctrl-C, which only the main thread gets, cannot leave half of one.
        made: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=self._run_loop, args=(made, use_uvloop), name="fastdist-loop", daemon=True
        )
        try:
            self._thread.start()
            self.loop = made.result()
        except BaseException:
            made.add_done_callback(_stop_loop)
            raise

    @classmethod
    def acquire(cls) -> LoopThread:
        """The loop thread of this process, started if need be; give it back with `release`."""
        with cls._lock:
            shared = cls._shared
            if shared is None or not shared.is_alive():
                shared = cls._shared = LoopThread()
            shared._users += 1
            return shared

    def release(self) -> None:
        """Give up one use; with the last one the loop stops. Harmless after a fork."""
        with LoopThread._lock:
            if self._pid != os.getpid():
                return
            self._users -= 1
            if self._users > 0:
                return
            if LoopThread._shared is self:
                LoopThread._shared = None
        self.close()

    def is_alive(self) -> bool:
        """Whether the loop runs in this very process."""
        return not self._closed and self._pid == os.getpid() and self._thread.is_alive()

    def is_current(self) -> bool:
        """Whether the caller is on the loop's own thread."""
        return threading.current_thread() is self._thread

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the loop and wait for its result, as `call` does for a coroutine function."""
        try:
            self._check_may_wait()
        except RuntimeError:
            coroutine.close()
            raise
        return self.call(lambda: coroutine, timeout=timeout)

    def call(
        self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, timeout: float | None = None
    ) -> T:
        """Run `function(*args)` on the loop and wait for its result.

        An interrupt of the wait cancels it. The coroutine is made on the loop, so that an interrupt before
        leaves none that nobody awaits.

        Parameters
        ----------
        function : coroutine function
            What to run.
        *args
            Its arguments.
        timeout : float, optional
            Seconds to wait; the coroutine is cancelled afterwards.

        Raises
        ------
        RuntimeError
            On the loop's own thread (it would wait for itself), after a fork, and when the loop is closed.
        TimeoutError
            If it did not end in time.

        Examples
        --------
        >>> loop_thread.call(asyncio.sleep, 0, "done")  # doctest: +SKIP
        'done'
        """
        self._check_may_wait()
        call = _Call(self.loop, function, args)
        try:
            self.loop.call_soon_threadsafe(call.start)
            return call.outcome.result(timeout)
        except concurrent.futures.TimeoutError as error:
            if call.outcome.done():
                raise
            call.give_up()
            raise TimeoutError(f"timed out after {timeout} s") from error
        except BaseException:
            call.give_up()
            raise

    def _check_may_wait(self) -> None:
        if self.is_current():
            raise RuntimeError(
                "a blocking call on the thread of the event loop would wait for itself; await it"
            )
        if not self.is_alive():
            raise RuntimeError(self._why_unusable())
        if isinstance(self.loop, QuickLoop):
            lay_down = self.loop.lent.get(threading.get_ident())
            if lay_down is not None:
                lay_down()

    def call_soon(self, function: Callable[..., Any], *args: Any) -> bool:
        """Have the loop call `function(*args)` soon; False if there is no loop any more."""
        if not self.is_alive():
            return False
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # closed between the check and the call
            return False
        return True

    def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Stop the loop, cancel what still runs on it and wait for the thread to end."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        if not self.is_current():
            self._thread.join(timeout)

    def _why_unusable(self) -> str:
        if self._pid != os.getpid():
            return "this process is a fork of the one that the event loop runs in; make a new Client here"
        return "the background event loop is closed"

    def _run_loop(
        self, made: concurrent.futures.Future[asyncio.AbstractEventLoop], use_uvloop: bool | None
    ) -> None:
        try:
            loop = new_event_loop(use_uvloop)
        except BaseException as error:
            made.set_exception(error)
            return
        loop.call_soon(made.set_result, loop)
        try:
            loop.run_forever()
        finally:
            self._closed = True
            try:
                _cancel_tasks(loop)
            finally:
                loop.close()


class BorrowedLoop(LoopThread):
    """An event loop that somebody else runs, on another thread; used like a loop thread, and never stopped.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        It must be running.

    Raises
    ------
    RuntimeError
        If it does not run.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop):
        if not loop.is_running():
            raise RuntimeError(f"the event loop given as loop= does not run: {loop!r}")
        self._pid = os.getpid()
        self._closed = False
        self.loop = loop

    def release(self) -> None:
        """Use it no more."""
        self.close()

    def is_alive(self) -> bool:
        """Whether the loop runs in this very process."""
        return not self._closed and self._pid == os.getpid() and self.loop.is_running()

    def is_current(self) -> bool:
        """Whether the caller is on the loop's own thread."""
        return asyncio._get_running_loop() is self.loop

    def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Use it no more; it goes on running."""
        self._closed = True


def asyncio_loop_of(loop: Any) -> asyncio.AbstractEventLoop:
    """The asyncio event loop behind a tornado IOLoop, or the loop itself.

    Raises
    ------
    TypeError
        If it is neither.
    """
    inner = getattr(loop, "asyncio_loop", loop)
    if not isinstance(inner, asyncio.AbstractEventLoop):
        raise TypeError(f"loop= takes an asyncio event loop or a tornado IOLoop, not {loop!r}")
    return inner


def loop_thread_for(loop: Any = None) -> LoopThread:
    """The thread to run blocking calls on: the shared one, or that of the loop that a user gave.

    Raises
    ------
    TypeError, RuntimeError
        If `loop` is no event loop, or does not run.
    """
    if loop is None:
        return LoopThread.acquire()
    inner = asyncio_loop_of(loop)
    shared = LoopThread._shared
    return LoopThread.acquire() if shared is not None and shared.loop is inner else BorrowedLoop(inner)


def check_running_loop(loop: Any) -> asyncio.AbstractEventLoop:
    """The running loop, which `loop` must be if it is given.

    Raises
    ------
    RuntimeError
        If no loop runs here, or another one.
    """
    running = asyncio.get_running_loop()
    if loop is not None and asyncio_loop_of(loop) is not running:
        raise RuntimeError(f"asynchronous=True lives on the running event loop, which loop={loop!r} is not")
    return running


class _Call(Generic[T]):
    """A coroutine that another thread waits for; its error is read even if the wait was given up."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Coroutine[Any, Any, T]],
        args: tuple[Any, ...],
    ) -> None:
        self.outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._loop = loop
        self._function = function
        self._args = args
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        """Start the coroutine, on the loop."""
        try:
            self._task = self._loop.create_task(self._function(*self._args))
        except Exception as error:
            if self.outcome.set_running_or_notify_cancel():
                self.outcome.set_exception(error)
            return
        self._task.add_done_callback(self._finish)

    def give_up(self) -> None:
        """Cancel the coroutine, from the thread that waited for it."""
        self.outcome.cancel()
        with contextlib.suppress(RuntimeError):  # closed: then it was cancelled with all others
            self._loop.call_soon_threadsafe(self._cancel_task)

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.outcome.cancel()
            return
        error = task.exception()
        if not self.outcome.set_running_or_notify_cancel():
            if error is not None:
                logger.debug("a call that nobody waits for any more failed", exc_info=error)
        elif error is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


def _stop_loop(made: concurrent.futures.Future[asyncio.AbstractEventLoop]) -> None:
    if made.exception() is None:
        loop = made.result()
        loop.call_soon_threadsafe(loop.stop)


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=EXIT_TIMEOUT))
    loop.run_until_complete(loop.shutdown_asyncgens())


def _forget_after_fork() -> None:
    # The thread does not exist in the child, and the lock may have been held by one that does not either.
    LoopThread._lock = threading.Lock()
    LoopThread._shared = None


def _close_at_exit() -> None:
    shared = LoopThread._shared
    if shared is not None:
        shared.close()


os.register_at_fork(after_in_child=_forget_after_fork)
# Registered before any client or cluster registers its own, therefore called after them.
atexit.register(_close_at_exit)
