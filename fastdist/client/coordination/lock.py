"""Lock: one holder at a time, anywhere in the cluster. May import: `client.coordination.semaphore`."""

from __future__ import annotations

from typing import Any

from fastdist.client.coordination.primitive import seconds, worker_address
from fastdist.client.coordination.semaphore import Semaphore


class Lock(Semaphore):
    """At most one holder of a name at any time: a semaphore with one lease.

    Parameters
    ----------
    name : str, optional
        The same name is the same lock; a name of its own by default.
    scheduler_rpc, loop : None
        Not available: the client has both.

    Examples
    --------
    >>> lock = Lock("the file")
    >>> with lock:
    ...     write_the_file()
    """

    _is_lock = True

    def __init__(self, name: str | None = None, scheduler_rpc: Any = None, loop: Any = None) -> None:
        super().__init__(1, name, scheduler_rpc, loop)

    def acquire(self, blocking: bool = True, timeout: Any = None) -> Any:  # type: ignore[override]
        """Take the lock; wait until it is free.

        Parameters
        ----------
        blocking : bool
            Whether to wait at all.
        timeout : number or str, optional
            Seconds, or a text such as "200 ms"; without it there is no limit.

        Returns
        -------
        bool
            Whether it was got.

        Raises
        ------
        ValueError
            If there is a timeout for a call that does not wait.
        """
        if not blocking and timeout is not None:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return self._call(self._acquire, seconds(timeout) if blocking else 0.0, worker_address())

    def locked(self) -> Any:
        """Whether somebody holds the lock."""
        return self._call(self._locked)

    async def _locked(self) -> bool:
        return await self._get_value() == 1

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)
