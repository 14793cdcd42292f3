"""What a cluster asks of a scheduler that it cannot touch: operations over a connection of its own.

May import: every layer below `deploy`.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from typing import Any

from fastdist.comm.core import connect
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token, find_token
from fastdist.errors import CommClosedError
from fastdist.rpc.peer import Peer


class SchedulerLink:
    """Operations of a scheduler, each a coroutine method: `await link.identity()`.

    The connection is made at the first call.

    Parameters
    ----------
    address : str
        Of the scheduler.
    token : Token, optional
        The secret to show; looked up by default.
    """

    def __init__(self, address: str, token: Token | None = None) -> None:
        self.address = address
        self._token = token
        self._peer: Peer | None = None
        self._connecting: asyncio.Lock | None = None

    @property
    def addr(self) -> str:
        """As `address`."""
        return self.address

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        async def operation(**fields: Any) -> Any:
            reply = await self.call(name.replace("_", "-"), **fields)
            # Most replies are one thing, under the name of the operation.
            return reply.get(name, reply)

        return operation

    async def call(self, op: str, **fields: Any) -> Any:
        """Ask for an operation by its name.

        Raises
        ------
        OSError
            If the scheduler cannot be reached.
        """
        return await (await self._connected()).call(op, **fields)

    async def _connected(self) -> Peer:
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if self._peer is None:
                token = self._token
                if token is None and not self.address.startswith("inproc://"):
                    token = find_token()
                comm = await connect(self.address, role=Role.CLIENT, token=token)
                # What it tells every client is of no use here.
                told = dict.fromkeys(("close", "scheduler-info"), lambda peer, fields, buffers: None)
                peer = Peer(comm, told, name="the scheduler")
                peer.on_close = self._closed
                await peer.call("register-client", client=f"cluster-{uuid.uuid4().hex}")
                self._peer = peer
            return self._peer

    def _closed(self, peer: Peer, reason: Exception | None) -> None:
        if self._peer is peer:
            self._peer = None

    async def close(self) -> None:
        """Close the connection."""
        peer, self._peer = self._peer, None
        if peer is not None:
            with contextlib.suppress(CommClosedError):
                await peer.close()

    def __repr__(self) -> str:
        return f"<SchedulerLink to {self.address!r}>"
