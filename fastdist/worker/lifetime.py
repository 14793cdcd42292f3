"""How a worker leaves: after its lifetime or when it is asked to, and only once others have its data.

Also what runs in its background meanwhile. May import: layers L0 to L3, and of this folder the transfer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any

from fastdist import config
from fastdist.errors import CommClosedError, FastdistError
from fastdist.status import Status

if TYPE_CHECKING:
    from fastdist.rpc.peer import Peer
    from fastdist.rpc.pool import ConnectionPool
    from fastdist.worker.transfer import Transfer

logger = logging.getLogger("fastdist.worker")

#: Seconds that retiring may take beyond the patience with what executes; then the worker closes anyway.
RETIRE_SECONDS = 600.0


def echo(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Any:
    """Handler: give back what came, for who measures the network."""
    return {}, buffers


class Lifetime:
    """The part of Worker that leaves in good order."""

    if TYPE_CHECKING:
        name: Any
        status: Status
        scheduler: Peer
        transfer: Transfer
        background: set[asyncio.Task[Any]]
        _pool: ConnectionPool

        async def close(self, *, reason: str = "", nanny: bool = True) -> str: ...

    def _init_lifetime(self, options: dict[str, Any]) -> None:
        """Take the options of the lifetime out of `options`; those of the settings hold where there are none."""
        values = {}
        for name in ("lifetime", "lifetime_stagger", "lifetime_restart"):
            value = options.pop(name, None)
            if value is None:
                value = config.get(f"worker.lifetime.{name.partition('_')[2] or 'duration'}")
            values[name] = value
        self.lifetime = None if values["lifetime"] is None else config.parse_timedelta(values["lifetime"])
        self.lifetime_stagger = config.parse_timedelta(values["lifetime_stagger"])
        self.lifetime_restart = bool(values["lifetime_restart"])
        if self.lifetime is not None and self.lifetime_stagger > self.lifetime:
            raise ValueError(
                f"lifetime_stagger ({self.lifetime_stagger:g} s) is longer than lifetime ({self.lifetime:g} s)"
            )
        #: Whether the nanny shall start another worker when this one has closed.
        self.restart_wanted = False

    def _lifetime_handlers(self) -> dict[str, Any]:
        return {"acquire-replicas": self._acquire_replicas}

    @property
    def peers(self) -> ConnectionPool:
        """Connections to other workers."""
        return self._pool

    async def _acquire_replicas(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Any:
        return await self.transfer.acquire(peer, fields, buffers)

    def _start_lifetime(self) -> None:
        if self.lifetime:
            # Workers that started together shall not leave together.
            stagger = self.lifetime_stagger * random.uniform(-1, 1)
            self._start_background(self._live(max(0.0, self.lifetime + stagger)))

    async def _live(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        logger.info("worker %s has lived for %g s and retires", self.name, seconds)
        # Closing cancels what runs in the background, and so must not run there.
        self._leaving = asyncio.ensure_future(
            self.close_gracefully(restart=self.lifetime_restart, reason="worker-lifetime-reached")
        )

    async def close_gracefully(self, restart: bool | None = None, reason: str = "worker-close-gracefully") -> None:
        """Take no more tasks, have other workers copy the data that only this one has, and close.

        Parameters
        ----------
        restart : bool, optional
            Whether the nanny, if there is one, starts another worker; the option `lifetime_restart` by default.
        reason : str
            For logs.
        """
        if self.status in (Status.closing, Status.closed, Status.closing_gracefully):
            return
        self.status = Status.closing_gracefully
        try:
            patience = config.get("scheduler.retire-patience") + RETIRE_SECONDS
            reply = await self.scheduler.call("retire", timeout=patience)
            if not reply["retired"]:
                logger.warning("no other worker could take all data of worker %s, which closes", self.name)
        except (CommClosedError, TimeoutError, FastdistError) as error:
            logger.warning("worker %s closes without having retired: %s", self.name, error)
        self.restart_wanted = self.lifetime_restart if restart is None else restart
        await self.close(reason=reason, nanny=not self.restart_wanted)

    # Background

    def _start_background(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self.background.add(task)
        task.add_done_callback(self._on_background_done)

    def _on_background_done(self, task: asyncio.Task[Any]) -> None:
        self.background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a background task of worker %s failed", self.name, exc_info=task.exception())
