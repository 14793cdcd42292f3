"""Semaphore: so many holders at a time, anywhere in the cluster. May import: `client`, `config`, `errors`."""

from __future__ import annotations

import logging
import math
import uuid
from collections import deque
from collections.abc import Generator
from typing import Any, TypeVar

from fastdist import config
from fastdist.client.coordination.leases import keeper_of
from fastdist.client.coordination.primitive import Primitive, seconds, worker_address
from fastdist.errors import ClosedClientError, CommClosedError

logger = logging.getLogger("fastdist.client")

Self = TypeVar("Self", bound="Semaphore")


class Semaphore(Primitive):
    """At most `max_leases` leases of one name are held at any time.

    A lease ends when it is released, when its holder (its client, or the worker of its task) is gone, and when it was
    not refreshed for the setting `scheduler.locks.lease-timeout`, which happens by itself as long as this object lives.
    A process that cannot run Python for so long loses its lease, and somebody else may get it; a warning says so.

    Parameters
    ----------
    max_leases : int
        How many leases there are; the same for all that use the name.
    name : str, optional
        The same name is the same semaphore; a name of its own by default.
    scheduler_rpc, loop : None
        Not available: the client has both.

    Raises
    ------
    TypeError, ValueError
        If `max_leases` is no number of at least 1.

    Examples
    --------
    >>> semaphore = Semaphore(max_leases=2, name="database")
    >>> def load(number, semaphore):
    ...     with semaphore:
    ...         return query(number)
    >>> futures = client.map(load, range(100), semaphore=semaphore)
    """

    kind = "semaphore"
    _is_lock = False

    def __init__(
        self, max_leases: int = 1, name: str | None = None, scheduler_rpc: Any = None, loop: Any = None
    ) -> None:
        for parameter, value in (("scheduler_rpc", scheduler_rpc), ("loop", loop)):
            if value is not None:
                raise NotImplementedError(
                    f"{parameter}= is not available: the scheduler is asked through the client"
                )
        if isinstance(max_leases, bool) or not isinstance(max_leases, int):
            raise TypeError(f"max_leases= must be a whole number, not {max_leases!r}")
        if max_leases < 1:
            raise ValueError(f"max_leases= must be at least 1, but is {max_leases}")
        super().__init__(name, None)
        self.max_leases = max_leases
        #: Whether the leases are kept alive; without it they end after the timeout.
        self.refresh_leases = True
        self._registered = False
        self._leases: deque[str] = deque()
        #: Those among them that the scheduler has taken back.
        self._ended: set[str] = set()
        lasts = config.get("scheduler.locks.lease-timeout")
        self._lease_timeout = None if lasts == math.inf else lasts

    # -- registering ---------------------------------------------------------------------------------------------------

    def register(self, **kwargs: Any) -> Any:
        """Make it known to the scheduler now; acquiring does it, too.

        Raises
        ------
        ValueError
            If there is a semaphore of this name with another number of leases.
        """
        if kwargs:
            raise TypeError(f"register() takes no arguments, but got {sorted(kwargs)}")
        return self._call(self._register)

    async def _register(self: Self) -> Self:
        if not self._registered:
            await self._ask(
                "semaphore-register", name=self._name, max_leases=self.max_leases, lock=self._is_lock
            )
            self._registered = True
        return self

    def __await__(self: Self) -> Generator[Any, None, Self]:
        return self._call(self._register, asynchronous=True).__await__()

    # -- leases --------------------------------------------------------------------------------------------------------

    def acquire(self, timeout: Any = None) -> Any:
        """Take a lease; wait for one if none is free.

        Parameters
        ----------
        timeout : number or str, optional
            Seconds, or a text such as "200 ms"; without it there is no limit.

        Returns
        -------
        bool
            Whether it was got in time.
        """
        return self._call(self._acquire, seconds(timeout), worker_address())

    async def _acquire(self, timeout: float | None, worker: str | None) -> bool:
        lease = uuid.uuid4().hex
        try:
            reply = await self._ask(
                "semaphore-acquire",
                timeout=timeout,
                name=self._name,
                lease=lease,
                max_leases=self.max_leases,
                lock=self._is_lock,
                registered=self._registered,
                lease_timeout=self._lease_timeout,
                worker=worker,
            )
        except (ClosedClientError, CommClosedError):
            raise
        except BaseException:
            # Nobody waits for it any more: it must not be granted, or stay granted.
            self._later(self._give_back, lease)
            raise
        self._registered = True
        if reply["acquired"]:
            self._leases.append(lease)
            keeper_of(self._client).watch(self)
        return bool(reply["acquired"])

    def release(self) -> Any:
        """Give the oldest lease back.

        Returns
        -------
        bool
            Whether it is given back now. If not, it ended before, or ends by itself, as the log tells.

        Raises
        ------
        RuntimeError
            If this object holds none.
        """
        if not self._leases:
            raise RuntimeError(
                f"Released too often: {self!r} holds no lease; only the object that acquired can release"
            )
        return self._call(self._release, self._leases.popleft())

    async def _release(self, lease: str) -> bool:
        if lease in self._ended:
            self._ended.discard(lease)
            return False
        try:
            await self._give_back(lease)
        except (ClosedClientError, CommClosedError) as error:
            logger.warning("%r could not give its lease back, which ends by itself then: %s", self, error)
            return False
        return True

    async def _give_back(self, lease: str) -> None:
        await self._ask("semaphore-release", name=self._name, lease=lease)

    def _lost(self, lease: str) -> None:
        logger.warning(
            "a lease of %r ended although it is still held, and somebody else may have it now: this process could not "
            "refresh it within %s s (the setting scheduler.locks.lease-timeout), or the semaphore was closed",
            self,
            self._lease_timeout,
        )
        self._ended.add(lease)

    def get_value(self) -> Any:
        """How many leases are taken, by whomever."""
        return self._call(self._get_value)

    async def _get_value(self) -> int:
        return int((await self._ask("semaphore-value", name=self._name))["value"])

    def close(self) -> Any:
        """Have the scheduler forget it: leases end, and those who wait get an error."""
        return self._call(self._close)

    async def _close(self) -> None:
        await self._ask("semaphore-close", name=self._name)

    # -- with ----------------------------------------------------------------------------------------------------------

    def __enter__(self: Self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *details: object) -> None:
        self.release()

    async def __aenter__(self: Self) -> Self:
        await self._call(self._acquire, None, worker_address(), asynchronous=True)
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._call(self._release, self._leases.popleft(), asynchronous=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.max_leases, self.name)
