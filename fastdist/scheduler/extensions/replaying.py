"""Gives clients what computes a task, unopened, so that they can run it in their own process.

May import: `_core`, `rpc`; of this folder `extension`.
"""

from __future__ import annotations

from typing import Any

from fastdist._core.keys.canonical import decode_key
from fastdist._core.scheduler.inspect import find, key_of
from fastdist._core.scheduler.work import work_of
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension


class Replaying(Extension):
    """Answers what a task would execute."""

    name = "replay-tasks"

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {"get-work": self.give}

    def give(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Any:
        """The function and the arguments of a task, and the keys of its inputs."""
        self.scheduler.client_of(peer)
        model = self.scheduler.core.model
        key = fields.get("key")
        if type(key) is not bytes:
            raise TypeError("the field 'key' must be bytes")
        id = find(model, key)
        if id is None:
            raise KeyError(f"the scheduler has no task {decode_key(key)!r}")
        work = work_of(model, id)
        if work is None:
            raise ValueError(f"{key_of(model, id)!r} is data that was scattered: there is nothing to execute")
        function, arguments, inputs = work
        return {"inputs": inputs}, [function, arguments]
