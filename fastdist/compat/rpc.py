"""Ad-hoc calls of the operations of a server, as dask.distributed's `rpc` makes them.

May import: every layer below; `deploy.link`.
"""

from __future__ import annotations

from typing import Any

from fastdist.client.planned import refuse
from fastdist.config import parse_timedelta
from fastdist.deploy.link import SchedulerLink


class rpc(SchedulerLink):
    """Operations of the scheduler at an address: `await rpc("tcp://127.0.0.1:8786").identity()`.

    Parameters
    ----------
    arg : str
        The address.
    timeout : number or str, optional
        How long one call may take.
    comm, deserialize, connection_args, serializers, deserializers
        Only the values that ask for nothing.

    Raises
    ------
    NotImplementedError
        If an argument asks for something that is not available.

    Examples
    --------
    >>> async def names(address):
    ...     async with rpc(address) as scheduler:
    ...         return await scheduler.identity()
    """

    def __init__(
        self,
        arg: str | None = None,
        comm: Any = None,
        deserialize: bool = True,
        timeout: Any = None,
        connection_args: Any = None,
        serializers: Any = None,
        deserializers: Any = None,
    ) -> None:
        wanted = {
            "comm": comm,
            "deserialize": not deserialize,
            "connection_args": connection_args,
            "serializers": serializers,
            "deserializers": deserializers,
        }
        for name, value in wanted.items():
            if value:
                refuse(f"rpc({name}=)")
        if not isinstance(arg, str):
            raise TypeError(f"rpc() takes the address of a scheduler, not {arg!r}")
        super().__init__(arg)
        self._timeout = None if timeout is None else parse_timedelta(timeout)

    async def call(self, op: str, **fields: Any) -> Any:
        """Ask for an operation by its name.

        Raises
        ------
        OSError
            If the scheduler cannot be reached.
        TimeoutError
            If it takes longer than the timeout.
        """
        return await (await self._connected()).call(op, timeout=self._timeout, **fields)

    async def close_rpc(self) -> None:
        """Close the connection."""
        await self.close()

    async def __aenter__(self) -> rpc:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<rpc to {self.address!r}, {int(self._peer is not None)} comms>"


async def connect(
    addr: str, timeout: Any = None, deserialize: bool = True, handshake_overrides: Any = None, **connection_args: Any
) -> Any:
    """Open a raw connection: not available, as messages have another form here (docs/wire.md).

    Raises
    ------
    NotImplementedError
        Always.
    """
    refuse(f"connect({addr!r})", "use rpc(address) to call operations of a scheduler")
