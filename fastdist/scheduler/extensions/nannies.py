"""The connections of nannies: over them workers are restarted, and nannies asked to run functions.

May import: errors, rpc; of this folder `extension`; `scheduler.membership`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdist.errors import CommClosedError
from fastdist.rpc.fields import text
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import WorkerEntry

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

#: So many of the nannies that said goodbye are remembered.
MAX_LEFT = 10_000


class Nannies(Extension):
    """Knows the nanny of each worker.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "nannies"

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self._peers: dict[str, Peer] = {}
        #: Those that said goodbye, oldest first.
        self._left: dict[str, None] = {}

    def nanny_handlers(self) -> dict[str, Handler]:
        """Operations of nannies by name."""
        return {"register-nanny": self.register, "nanny-leaves": self.leave}

    def register(
        self, peer: Peer, fields: dict[str, Any], buffers: list[Any]
    ) -> tuple[dict[str, Any], list[Any]]:
        """A nanny introduces itself, under the name that its workers give as their nanny."""
        name = text(fields, "nanny", 1024)
        for known, other in list(self._peers.items()):
            if other.closed:
                del self._peers[known]
        if name in self._peers:
            raise ValueError(f"there is a nanny {name!r} already")
        self._peers[name] = peer
        self._left.pop(name, None)
        peer.name = f"nanny {name}"
        reply: dict[str, Any] = {"epoch": self.scheduler.epoch}
        payloads: list[Any] = []
        for extension in self.scheduler.extensions.values():
            extension.welcome_nanny(name, reply, payloads)
        return reply, payloads

    def leave(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A nanny is about to end its worker and itself, as it was asked to."""
        name = next((name for name, known in self._peers.items() if known is peer), None)
        if name is None:
            raise PermissionError("register-nanny must come first on this connection")
        self._left[name] = None
        if len(self._left) > MAX_LEFT:
            del self._left[next(iter(self._left))]

    def has_left(self, name: str | None) -> bool:
        """Whether a nanny said goodbye."""
        return name in self._left

    def connected(self) -> dict[str, Peer]:
        """The connections to all nannies, by the names that their workers give as their nannies."""
        return {name: peer for name, peer in self._peers.items() if not peer.closed}

    def peer_of(self, worker: WorkerEntry) -> Peer:
        """The connection to the nanny of a worker.

        Raises
        ------
        CommClosedError
            If the worker has no nanny, or its nanny is not connected.
        """
        if worker.nanny is None:
            raise CommClosedError(f"the worker at {worker.address} has no nanny")
        peer = self._peers.get(worker.nanny)
        if peer is None or peer.closed:
            raise CommClosedError(f"the nanny of the worker at {worker.address} is not connected")
        return peer
