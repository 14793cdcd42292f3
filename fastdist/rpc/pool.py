"""One shared connection for each address that this process talks to.

May import: fastdist.errors, fastdist.comm, fastdist.rpc.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastdist.comm.core import Limits, connect
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token
from fastdist.errors import CommClosedError
from fastdist.rpc.peer import Handler, Peer


class ConnectionPool:
    """Opens connections when they are needed and shares them.

    Parameters
    ----------
    role : Role
        What this process is.
    token : Token or None
        The shared secret; None only with `insecure`.
    insecure : bool
        Go without a token.
    handlers : mapping, optional
        What the other sides may ask over these connections.
    limits : Limits, optional
        Bounds of each connection.
    timeout : float, optional
        Seconds for opening a connection; the setting `comm.timeouts.connect` by default.
    max_connections : int
        Above this many open connections the idle one that was unused for longest is closed.

    Examples
    --------
    >>> async def ask(pool, address):
    ...     peer = await pool.get(address)
    ...     return await peer.call("identity")
    """

    def __init__(
        self,
        role: Role,
        token: Token | None,
        *,
        insecure: bool = False,
        handlers: Mapping[str, Handler] | None = None,
        limits: Limits | None = None,
        timeout: float | None = None,
        max_connections: int = 512,
    ) -> None:
        self._role = role
        self._token = token
        self._insecure = insecure
        self._handlers = handlers or {}
        self._limits = limits
        self._timeout = timeout
        self._max_connections = max_connections
        self._peers: dict[str, Peer] = {}
        self._opening: dict[str, asyncio.Task[Peer]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, address: str) -> bool:
        return address in self._peers

    async def get(self, address: str) -> Peer:
        """The open connection to an address, opened now if there is none.

        Raises
        ------
        OSError
            What `connect` raises.
        CommClosedError
            If the pool is closed.
        """
        if self._closed:
            raise CommClosedError(f"no connection to {address}: the connection pool is closed")
        peer = self._peers.pop(address, None)
        if peer is not None and not peer.closed:
            # The order of the dict is the order of use.
            self._peers[address] = peer
            return peer
        task = self._opening.get(address)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._open(address))
            self._opening[address] = task
            task.add_done_callback(lambda done: self._opened(address, done))
        return await asyncio.shield(task)

    async def _open(self, address: str) -> Peer:
        comm = await connect(
            address,
            role=self._role,
            token=self._token,
            insecure=self._insecure,
            timeout=self._timeout,
            limits=self._limits,
        )
        peer = Peer(comm, self._handlers)
        peer.on_close = lambda closed, reason: self._forget(address, closed)
        self._peers[address] = peer
        self._drop_surplus(peer)
        return peer

    def _opened(self, address: str, task: asyncio.Task[Peer]) -> None:
        self._opening.pop(address, None)
        if not task.cancelled():
            # Whoever waited has seen the error; if all of them were cancelled, nobody needs it.
            task.exception()

    def _forget(self, address: str, peer: Peer) -> None:
        if self._peers.get(address) is peer:
            del self._peers[address]

    def _drop_surplus(self, newest: Peer) -> None:
        for address, peer in list(self._peers.items()):
            if len(self._peers) <= self._max_connections:
                return
            if peer is not newest and peer.idle:
                del self._peers[address]
                peer.abort()

    def drop(self, address: str, reason: Exception | None = None) -> None:
        """Close the connection to an address at once, if there is one."""
        peer = self._peers.pop(address, None)
        if peer is not None:
            peer.abort(reason)

    async def close(self) -> None:
        """Close every connection; those being opened are given up."""
        self._closed = True
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        peers = list(self._peers.values())
        self._peers.clear()
        await asyncio.gather(*[peer.close() for peer in peers])
