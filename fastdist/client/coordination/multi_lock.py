"""MultiLock: several names locked at once. May import: `client`, `errors`."""

from __future__ import annotations

import uuid
from typing import Any

from fastdist._core.keys.canonical import encode_key
from fastdist.client.coordination.primitive import Primitive, seconds, worker_address
from fastdist.errors import ClosedClientError, CommClosedError


class MultiLock(Primitive):
    """Takes several locks in one step, so that two that want the same cannot wait for each other.

    Its names are its own kind: a `Lock` of the same name is another one. What it holds is free again when its client,
    or the worker of its task, is gone.

    Parameters
    ----------
    names : list of str, optional
        What to lock.
    client : Client, optional
        The client to ask; the one of the task or the current one by default.

    Examples
    --------
    >>> with MultiLock(["left fork", "right fork"]):
    ...     eat()
    """

    kind = "multi-lock"

    def __init__(self, names: list[str] | None = None, client: Any = None) -> None:
        if isinstance(names, str):
            raise TypeError(f"names= must be a list of names, not the text {names!r}")
        self.names = list(names or [])
        self._names = [encode_key(tuple(name) if isinstance(name, list) else name) for name in self.names]
        super().__init__(None, client)
        #: What the scheduler knows its holder by.
        self.id = uuid.uuid4().hex
        self._locked = False

    def acquire(self, blocking: bool = True, timeout: Any = None, num_locks: int | None = None) -> Any:
        """Take the locks; wait until enough of them are free.

        Parameters
        ----------
        blocking : bool
            Whether to wait at all.
        timeout : number or str, optional
            Seconds, or a text such as "200 ms"; without it there is no limit.
        num_locks : int, optional
            How many of the names are enough; all by default.

        Returns
        -------
        bool
            Whether they were got.

        Raises
        ------
        ValueError
            If there is a timeout for a call that does not wait, or `num_locks` is more than there are names.
        RuntimeError
            If this object holds its locks already.
        """
        if not blocking and timeout is not None:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if num_locks is not None and (isinstance(num_locks, bool) or not isinstance(num_locks, int)):
            raise TypeError(f"num_locks= must be a whole number, not {num_locks!r}")
        count = num_locks or len(self.names)
        if not 0 <= count <= len(self.names):
            raise ValueError(f"num_locks={num_locks} cannot be had of {len(self.names)} names")
        if self._locked:
            raise RuntimeError(f"{self!r} holds its locks already; release them first, or use another MultiLock")
        return self._call(self._acquire, seconds(timeout) if blocking else 0.0, count, worker_address())

    async def _acquire(self, timeout: float | None, count: int, worker: str | None) -> bool:
        try:
            reply = await self._ask(
                "multi-lock-acquire", timeout=timeout, lease=self.id, names=self._names, count=count, worker=worker
            )
        except (ClosedClientError, CommClosedError):
            raise
        except BaseException:
            # Nobody waits for them any more: they must not be granted, or stay granted.
            self._later(self._give_back)
            raise
        self._locked = bool(reply["acquired"])
        return self._locked

    def release(self) -> Any:
        """Give the locks back.

        Raises
        ------
        ValueError
            If they are not held.
        """
        if not self._locked:
            raise ValueError("Lock is not yet acquired")
        return self._call(self._release)

    async def _release(self) -> None:
        await self._give_back()
        self._locked = False

    async def _give_back(self) -> None:
        await self._ask("multi-lock-release", lease=self.id)

    def locked(self) -> bool:
        """Whether this object holds its locks."""
        return self._locked

    def __enter__(self) -> MultiLock:
        self.acquire()
        return self

    def __exit__(self, *details: object) -> None:
        self.release()

    async def __aenter__(self) -> MultiLock:
        await self._call(self._acquire, None, len(self.names), worker_address(), asynchronous=True)
        return self

    async def __aexit__(self, *details: object) -> None:
        await self._call(self._release, asynchronous=True)

    def __repr__(self) -> str:
        return f"<MultiLock: {', '.join(map(str, self.names))}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.names,)
