"""The nanny's own connection to the scheduler, over which it is asked to restart its worker or to run functions.

It lives as long as the nanny and is opened again when it breaks. May import: `fastdist.comm`, `fastdist.rpc`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

from fastdist.comm.core import connect
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token
from fastdist.errors import CommClosedError, FastdistError
from fastdist.rpc.peer import Handler, Peer, Reply

logger = logging.getLogger("fastdist.nanny")

#: Seconds between two attempts to connect; the last holds for all later ones.
PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)


class SchedulerLink:
    """Keeps a nanny connected.

    Parameters
    ----------
    nanny : str
        The name under which workers name the nanny.
    handlers : mapping
        What the scheduler may ask.
    token, insecure
        As of `connect`.
    on_registered : callable, optional
        Awaited with the scheduler's answer after each connect.
    """

    def __init__(
        self,
        nanny: str,
        handlers: Mapping[str, Handler],
        token: Token | None,
        insecure: bool,
        on_registered: Callable[[Reply], Awaitable[None]] | None = None,
    ) -> None:
        self._nanny = nanny
        self._handlers = handlers
        self._token = token
        self._insecure = insecure
        self._on_registered = on_registered
        self._task: asyncio.Task[None] | None = None
        #: The connection, while there is one.
        self.peer: Peer | None = None

    def start(self, scheduler_address: str) -> None:
        """Connect in the background, and stay connected; nothing if it does already."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._stay_connected(scheduler_address))

    @property
    def connected(self) -> bool:
        """Whether the scheduler can be talked to now."""
        return self.peer is not None and not self.peer.closed

    def say_goodbye(self) -> None:
        """Tell the scheduler, if there is a connection, that worker and nanny end because they were asked to."""
        if self.peer is not None:
            with contextlib.suppress(CommClosedError):
                self.peer.notify("nanny-leaves")

    def stop(self) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()

    async def stopped(self) -> None:
        """Wait until the connection is closed after `stop`."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _stay_connected(self, address: str) -> None:
        failures = 0
        while True:
            try:
                await self._connect(address)
                failures = 0
                assert self.peer is not None
                await self.peer.wait_closed()
            except (OSError, TimeoutError, asyncio.TimeoutError, FastdistError) as error:
                # Its worker connects too, and says so where it matters.
                logger.debug("the nanny %s cannot reach the scheduler at %s: %s", self._nanny, address, error)
            finally:
                if self.peer is not None:
                    self.peer.abort()
                    self.peer = None
            await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
            failures += 1

    async def _connect(self, address: str) -> None:
        comm = await connect(address, role=Role.NANNY, token=self._token, insecure=self._insecure, retry=True)
        self.peer = Peer(comm, self._handlers, f"the scheduler at {address}")
        reply = await self.peer.call("register-nanny", nanny=self._nanny)
        if self._on_registered is not None:
            await self._on_registered(reply)
