"""What every cluster has in common: a life, a name, a loop to live on, blocking and awaitable calls alike.

May import: every layer below `deploy`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import logging
import os
import uuid
import warnings
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from fastdist.comm.token import Token
from fastdist.compat.loops import io_loop
from fastdist.config import parse_timedelta
from fastdist.deploy.information import Information
from fastdist.deploy.link import SchedulerLink
from fastdist.loop import LoopThread, check_running_loop, loop_thread_for
from fastdist.status import Status

if TYPE_CHECKING:
    from fastdist.client import Client

logger = logging.getLogger("fastdist.deploy")

C = TypeVar("C", bound="Cluster")

#: Seconds that closing may take when none are given, and at the end of the interpreter.
CLOSE_TIMEOUT = 10.0

_open_clusters: weakref.WeakSet[Cluster] = weakref.WeakSet()


class Cluster(Information):
    """A scheduler and its workers, used from plain code or from coroutines.

    Subclasses implement `_start`, `_close` and `_abandon`, all of which run on the cluster's event
    loop except `_abandon`.

    Parameters
    ----------
    asynchronous:
        Whether the cluster lives on the running event loop and its methods are awaited.
    loop:
        A running event loop (asyncio's or tornado's) to live on, in place of a background thread of its own.
    quiet:
        Whether to keep what `_log` is told to itself.
    name:
        Name of the cluster; 8 random hexadecimal digits if None.
    scheduler_sync_interval:
        Seconds between two looks at a scheduler that lives elsewhere.
    """

    _status = Status.created
    _owner = 0

    def __init__(
        self,
        asynchronous: bool = False,
        loop: Any = None,
        quiet: bool = False,
        name: str | None = None,
        scheduler_sync_interval: float | str = 1,
    ) -> None:
        self.asynchronous = asynchronous
        self.quiet = quiet
        self.scheduler_sync_interval = parse_timedelta(scheduler_sync_interval)
        self.security: Any = None
        self.periodic_callbacks: dict[str, Any] = {}
        self._given_loop = loop
        if asynchronous and loop is not None:
            check_running_loop(loop)
        self._log_lines = []
        self._link: SchedulerLink | None = None
        self._name = str(name) if name is not None else uuid.uuid4().hex[:8]
        self._owner = os.getpid()
        self._loop_thread: LoopThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._start_lock: asyncio.Lock | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    # -- what it is ------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the cluster."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = str(name)

    @property
    def status(self) -> Status:
        """What the cluster does at the moment; closed in the child of a fork."""
        return self._status if self._is_ours() else Status.closed

    @status.setter
    def status(self, status: Status) -> None:
        if not isinstance(status, Status):
            raise TypeError(f"expected Status, got {type(status).__name__}")
        self._status = status

    @property
    def loop(self) -> Any:
        """The event loop that the cluster lives on, with the interface of tornado's IOLoop; None before the start.

        `cluster.loop.asyncio_loop` is asyncio's.
        """
        return None if self._loop is None else io_loop(self._loop)

    @property
    def scheduler_comm(self) -> SchedulerLink:
        """Operations of the scheduler: `await cluster.scheduler_comm.identity()`."""
        if self._link is None or self._link.address != self.scheduler_address:
            self._link = SchedulerLink(self.scheduler_address, self.token)
        return self._link

    @property
    def scheduler_address(self) -> str:
        """Address of the scheduler."""
        return "<Not Connected>"

    @property
    def token(self) -> Token | None:
        """The secret that clients and workers of this cluster show."""
        return None

    # -- blocking and awaitable ------------------------------------------------------------------------------

    def sync(
        self,
        func: Callable[..., Coroutine[Any, Any, Any]],
        *args: Any,
        asynchronous: bool | None = None,
        callback_timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run a coroutine function on the cluster's loop and wait; the coroutine itself where calls are
        awaited.

        Raises
        ------
        RuntimeError
            The cluster belongs to the process that this one was forked from.
        TimeoutError
            It took longer than `callback_timeout` seconds.
        """
        if not self._is_ours():
            raise RuntimeError(
                f"{self._name} belongs to process {self._owner}, which this one was forked from; make another"
            )
        on_loop = self._loop_thread is not None and self._loop_thread.is_current()
        if asynchronous or (asynchronous is None and (self.asynchronous or on_loop)):
            return func(*args, **kwargs)
        return self._threaded_loop().call(
            functools.partial(func, *args, **kwargs), timeout=callback_timeout
        )

    def scale(self, n: int) -> Any:
        """Have `n` workers: start new ones, or close some."""
        raise NotImplementedError(f"{type(self).__name__} cannot be scaled")

    def close(self, timeout: float | None = None) -> Any:
        """Close workers and scheduler; harmless when closed already, and in the child of a fork.

        Parameters
        ----------
        timeout:
            Seconds until processes that do not end by themselves are killed.
        """
        if not self._is_ours():
            return _nothing_to_do() if self.asynchronous else None
        if self.asynchronous:
            return self._close_once(timeout)
        if self._loop_thread is None:
            self._status = Status.closed
            return None
        try:
            if self._status is not Status.closed and self._loop_thread.is_alive():
                self.sync(self._close_once, timeout)
        finally:
            self._give_up_loop()
        return None

    def get_client(self) -> Client:
        """The current client if it belongs to this cluster, else a new one."""
        from fastdist.client import Client, default_client

        try:
            current = default_client()
        except ValueError:
            current = None
        if current is not None and current.cluster is self:
            return current
        return Client(self, asynchronous=self.asynchronous)

    def __enter__(self: C) -> C:
        if self.asynchronous:
            raise TypeError(f"this {type(self).__name__} is asynchronous: use 'async with' instead of 'with'")
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self: C) -> C:
        return await self._start_once()

    async def __aexit__(self, *exception: object) -> None:
        await self._close_once(None)

    def __await__(self: C) -> Generator[Any, None, C]:
        return self._start_once().__await__()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.name == self.name

    def __hash__(self) -> int:
        return id(self)

    def __del__(self) -> None:
        ended = self._status in (Status.created, Status.closed)
        if ended or not self._is_ours() or self._loop_thread is None:
            return
        warnings.warn(f"unclosed cluster {self._name}", ResourceWarning, source=self, stacklevel=2)
        # A finaliser must not wait: the loop closes the cluster when it gets to it.
        self._loop_thread.call_soon(self._close_in_background)

    # -- for subclasses --------------------------------------------------------------------------------------

    async def _start(self) -> None:
        raise NotImplementedError

    async def _close(self, timeout: float) -> None:
        raise NotImplementedError

    def _abandon(self) -> None:
        """End all processes at once, without an event loop."""
        raise NotImplementedError

    # -- life ------------------------------------------------------------------------------------------------

    def _start_blocking(self) -> None:
        """Start from the constructor; whatever interrupts it leaves nothing behind."""
        try:
            self._threaded_loop().call(self._start_once)
        except BaseException:
            with contextlib.suppress(TimeoutError):
                self.close(timeout=1.0)
            raise

    async def _start_once(self: C) -> C:
        if self._start_lock is None:
            self._start_lock = asyncio.Lock()
        async with self._start_lock:
            if self._status is not Status.created:
                return self
            self._loop = asyncio.get_running_loop()
            self._status = Status.starting
            _open_clusters.add(self)
            try:
                self._starting = asyncio.ensure_future(self._start())
                # Only `_wind_up` cancels it, and only once: a second time would interrupt its tidying up.
                await asyncio.shield(self._starting)
            except BaseException as error:
                closed_meanwhile = self._closing is not None
                await self._close_once(1.0)
                if closed_meanwhile:
                    raise RuntimeError(f"cluster {self._name} was closed while it started") from error
                if isinstance(error, Exception):
                    self._status = Status.failed
                    raise RuntimeError(f"Cluster failed to start: {error}") from error
                raise
            self._status = Status.running
        return self

    async def _close_once(self, timeout: float | None) -> None:
        if self._status is Status.closed:
            return
        if self._status is Status.created:
            self._status = Status.closed
            return
        if self._closing is None:
            self._status = Status.closing
            self._closing = asyncio.ensure_future(self._wind_up(CLOSE_TIMEOUT if timeout is None else timeout))
            # Who waits for it may be cancelled, and then nobody reads the error.
            self._closing.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.shield(self._closing)
        finally:
            if self._closing.done():
                self._status = Status.closed
                _open_clusters.discard(self)

    async def _wind_up(self, timeout: float) -> None:
        """Close, after a start that is under way has ended: what it made belongs to the cluster then."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        await self._close(timeout)

    def _close_in_background(self) -> None:
        closing = asyncio.ensure_future(self._close_once(None))
        closing.add_done_callback(lambda _: self._give_up_loop())

    def _threaded_loop(self) -> LoopThread:
        if self._loop_thread is None:
            self._loop_thread = loop_thread_for(self._given_loop)
        return self._loop_thread

    def _give_up_loop(self) -> None:
        loop_thread, self._loop_thread = self._loop_thread, None
        if loop_thread is not None:
            loop_thread.release()

    def _is_ours(self) -> bool:
        return self._owner == os.getpid()


async def _nothing_to_do() -> None:
    return None


def _close_at_exit() -> None:
    """Close what was left open when the interpreter ends; nothing of it concerns the user any more."""
    for cluster in list(_open_clusters):
        if not cluster._is_ours():
            continue
        try:
            loop_thread = cluster._loop_thread
            if loop_thread is not None and loop_thread.is_alive():
                cluster.close(timeout=CLOSE_TIMEOUT)
            else:
                cluster._abandon()
                cluster._status = Status.closed
        except Exception:
            logger.debug("closing %s at the end of the interpreter failed", cluster.name, exc_info=True)
            cluster._abandon()


# After the import of `fastdist.loop`, so that this is called before the loop is stopped.
atexit.register(_close_at_exit)
