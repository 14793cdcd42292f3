"""How often tasks were tried. May import: `_core`, `rpc`, `scheduler.extensions`."""

from __future__ import annotations

from typing import Any

from fastdist._core.scheduler.inspect import attempts
from fastdist.rpc.fields import ids
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension


class Attempts(Extension):
    """Answers for the futures of a client."""

    name = "attempts"

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {"attempts": self.attempts}

    def attempts(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """The attempts of each task, by client ids; None for those that the client does not want."""
        number = self.scheduler._clients.entry(peer).number
        return {"attempts": attempts(self.scheduler.core.model, number, ids(fields, "ids"))}
