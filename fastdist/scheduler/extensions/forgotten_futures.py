"""Tasks that shall run although nobody keeps a future of them: `fire_and_forget`.

May import: `_core`, `rpc`, `scheduler.extensions`.
"""

from __future__ import annotations

from typing import Any

from fastdist.rpc.fields import items
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.extensions.keeper import Keeper, ended_ids


class FireAndForget(Extension):
    """Wants tasks until they end."""

    name = "fire-and-forget"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._keeper = Keeper(scheduler, "fire-and-forget")

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {"fire-and-forget": self.keep}

    async def started(self) -> None:
        """Hear of the tasks of an earlier life."""
        if self._keeper.known:
            self.scheduler.sinks[self._keeper.number] = self._take_state

    def keep(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Run these tasks to their end, whatever becomes of the client."""
        keys = items(fields, "keys", bytes)
        self.scheduler.sinks[self._keeper.number] = self._take_state
        ids = self._keeper.keep(keys)
        return {"unknown": [key for key, id in zip(keys, ids, strict=True) if not id]}

    def _take_state(self, kind: int, body: bytes) -> None:
        self._keeper.release(ended_ids(body))
