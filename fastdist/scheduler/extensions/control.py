"""What clients do to the workers as a whole: restart them, wait for them, run functions on them or their nannies.

May import: errors, rpc, _core; of this folder `extension`, `nannies`; `scheduler.membership`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, cast

from fastdist._core.scheduler.reasons import Reason, reason_payload
from fastdist.errors import CommClosedError
from fastdist.rpc.fields import flag, items, number, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import WorkerEntry
from fastdist.scheduler.options import worker_restriction

if TYPE_CHECKING:
    from fastdist.scheduler.extensions.nannies import Nannies

logger = logging.getLogger("fastdist.scheduler")

Answer = dict[str, Any] | tuple[dict[str, Any], list[Any]]
#: Seconds beyond those that a nanny gets for a restart, until its answer is waited for no more.
ANSWER_GRACE = 5.0
#: How often to look for workers that resume, which no event tells of.
LOOK_SECONDS = 0.1


class Control(Extension):
    """Restarts workers and runs functions on them."""

    name = "control"

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {
            "restart": self.restart_asked,
            "restart-workers": self.restart_workers_asked,
            "wait-for-workers": self.wait_for_workers,
            "run": self.run,
        }

    # -- restart -----------------------------------------------------------------------------------------------------

    async def restart_asked(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Handler of `restart`."""
        entry = self.scheduler.client_of(peer)
        await self.restart(
            client=entry.name,
            timeout=number(fields, "patience", 0.0, default=30.0),
            wait_for_workers=flag(fields, "wait_for_workers", default=True),
        )
        return {}

    async def restart(
        self, *, client: str | None = None, timeout: float = 30.0, wait_for_workers: bool = True
    ) -> None:
        """Cancel everything and restart all workers that have a nanny; the others are removed.

        Parameters
        ----------
        client : str, optional
            Who asked for it, for the message.
        timeout : float
            Seconds for each worker to restart, and for all to be back.
        wait_for_workers : bool
            Whether to wait until they are back.

        Raises
        ------
        TimeoutError
            If some are not back in time.
        """
        message = f"the cluster was restarted{f' by client {client}' if client else ''}"
        logger.info("Restarting: %s", message)
        payload = reason_payload(Reason.SCHEDULER_RESTART, message, by=client, when=time.time())
        deadline = time.monotonic() + timeout
        self.scheduler.core.on_restart(payload)
        self.scheduler.wake()
        for extension in self.scheduler.extensions.values():
            extension.restarted()
        workers = list(self.scheduler.members)
        expected = sum(entry.nanny is not None for entry in workers)
        outcomes = await asyncio.gather(*(self._restart_one(entry, timeout) for entry in workers))
        late = [entry for entry, how in zip(workers, outcomes, strict=True) if how == "timed out"]
        if late:
            names = ", ".join(f"{entry.name} at {entry.address}" for entry in late)
            raise TimeoutError(f"{len(late)}/{expected} nanny worker(s) did not shut down within {timeout:g}s: {names}")
        if not wait_for_workers:
            return
        while (there := len(self.scheduler.members.workers)) < expected:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"Waited for {expected} worker(s) to reconnect after restarting, but after {timeout:g}s, only "
                    f"{there} have returned. Consider a longer timeout, or `wait_for_workers=False`."
                )
            await self.scheduler.worker_came(left)

    async def restart_workers_asked(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Handler of `restart-workers`."""
        self.scheduler.client_of(peer)
        return {
            "outcomes": await self.restart_workers(
                items(fields, "workers", (str, int)) if fields.get("workers") is not None else None,
                timeout=number(fields, "patience", 0.0, default=30.0),
            )
        }

    async def restart_workers(self, workers: list[str | int] | None = None, *, timeout: float = 30.0) -> dict[str, str]:
        """Restart some workers through their nannies; their tasks go elsewhere, their data is computed again.

        Parameters
        ----------
        workers : list, optional
            Addresses or names; all by default.
        timeout : float
            Seconds for each.

        Returns
        -------
        dict
            By address `"OK"`, `"removed"` (it had gone, or has no nanny) or `"timed out"`.
        """
        chosen = self.scheduler.members.select(workers)
        outcomes = await asyncio.gather(*(self._restart_one(entry, timeout) for entry in chosen))
        return {entry.address: outcome for entry, outcome in zip(chosen, outcomes, strict=True)}

    async def _restart_one(self, entry: WorkerEntry, timeout: float) -> str:
        """Have a worker's nanny restart it; "removed" where there is no nanny."""
        # From here on its end is expected, and nobody's fault.
        entry.closing = True
        if entry.number in self.scheduler.members.workers:
            self.scheduler.core.on_worker_status(entry.number, entry.takes_work)
        if entry.nanny is None:
            self._remove(entry)
            return "removed"
        try:
            reply = await self._nannies.peer_of(entry).call("restart", timeout=timeout + ANSWER_GRACE, seconds=timeout)
        except TimeoutError:
            return "timed out"
        except CommClosedError as error:
            logger.warning("worker %s cannot be restarted: %s", entry.address, error)
            self._remove(entry)
            return "removed"
        return str(reply["outcome"])

    def _remove(self, entry: WorkerEntry) -> None:
        try:
            entry.peer.notify("close", reason="scheduler-restart")
        except CommClosedError:
            # It goes by itself.
            return
        # What was just sent has to reach it.
        asyncio.get_running_loop().call_later(0.01, self.scheduler.drop_worker, entry, "a restart, without a nanny")

    @property
    def _nannies(self) -> Nannies:
        return cast("Nannies", self.scheduler.extensions["nannies"])

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def wait_for_workers(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Wait until so many workers run, or the timeout; how many there are."""
        self.scheduler.client_of(peer)
        wanted = whole(fields, "n_workers", 0)
        timeout = number(fields, "patience", 0.0, default=None)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            running = sum(entry.takes_work for entry in self.scheduler.members)
            left = LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            if running >= wanted or left <= 0:
                return {"running": running}
            await self.scheduler.worker_came(min(left, LOOK_SECONDS))

    # -- functions ---------------------------------------------------------------------------------------------------

    async def run(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Have workers, or their nannies, call a function; the scheduler only forwards it."""
        self.scheduler.client_of(peer)
        chosen = self.scheduler.members.select(worker_restriction(fields))
        wait = flag(fields, "wait", default=True)
        nanny = flag(fields, "nanny", default=False)
        calls = [self._call(entry, nanny, wait, buffers) for entry in chosen]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        results: list[list[Any]] = []
        payloads: list[Any] = []
        for entry, outcome in zip(chosen, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                results.append([entry.address, "lost", str(outcome)])
            else:
                results.append([entry.address, outcome["status"], len(payloads)])
                payloads.append(outcome.buffers[0] if outcome.buffers else b"")
        return {"results": results}, payloads

    async def _call(self, entry: WorkerEntry, nanny: bool, wait: bool, buffers: list[Any]) -> Any:
        peer = self._nannies.peer_of(entry) if nanny else entry.peer
        return await peer.call("run", wait=wait, buffers=buffers)
