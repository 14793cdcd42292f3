"""The active memory manager: from time to time it drops copies of results that nobody needs.

What its policy `ReduceReplicas` does is in `_core/scheduler/replicas`; that of dask's `RetireWorker` in `retiring`.
May import: config, errors, rpc; of this folder `extension`; `scheduler.membership`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from fastdist import config
from fastdist.rpc.fields import text
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import WorkerEntry

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

#: The policies that there are, by the last part of their names in the settings.
POLICIES = ("ReduceReplicas",)
_METHODS = ("start", "stop", "run_once", "running")


class MemoryManager(Extension):
    """Runs its policies every `scheduler.active-memory-manager.interval`.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "amm"

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self.interval: float = config.get("scheduler.active-memory-manager.interval")
        self.policies = policies_of(config.get("scheduler.active-memory-manager.policies"))
        self._timer: asyncio.TimerHandle | None = None
        # With the first worker, when there is an event loop.
        self._start_later: bool = config.get("scheduler.active-memory-manager.start")

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {"memory-manager": self.call}

    def worker_came(self, entry: WorkerEntry) -> None:
        """The first worker starts it, unless the settings say otherwise."""
        if self._start_later:
            self.start()

    async def close(self) -> None:
        """The scheduler closes."""
        self.stop()

    def call(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Handler of `memory-manager`: call a method."""
        self.scheduler.client_of(peer)
        method = text(fields, "method", 100)
        if method not in _METHODS:
            raise ValueError(f"the memory manager has no method {method!r}; it has {', '.join(_METHODS)}")
        if method == "running":
            return {"result": self.running}
        getattr(self, method)()
        return {"result": None}

    @property
    def running(self) -> bool:
        """Whether it runs from time to time."""
        return self._timer is not None

    def start(self) -> None:
        """Run from now on; nothing if it does already."""
        self._start_later = False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.interval, self._run)

    def stop(self) -> None:
        """Run only when it is asked to."""
        self._start_later = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def run_once(self) -> None:
        """Run all policies now."""
        if "ReduceReplicas" in self.policies:
            dropped = self.scheduler.core.on_reduce_copies()
            if dropped:
                logger.debug("the memory manager dropped %d copies", dropped)
                self.scheduler.wake()

    def _run(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.interval, self._run)
        self.run_once()


def policies_of(described: list[dict[str, Any]]) -> list[str]:
    """The names of the policies that a setting asks for.

    Raises
    ------
    NotImplementedError
        If there is no such policy here.
    """
    names = []
    for each in described:
        name = str(each.get("class", "")).rpartition(".")[2]
        if name not in POLICIES or len(each) != 1:
            raise NotImplementedError(
                f"the policy {each!r} of scheduler.active-memory-manager.policies is not available yet; "
                f"there is {', '.join(POLICIES)}, without arguments"
            )
        names.append(name)
    return names
