"""Events: flags by name that requests wait for. May import: `rpc`, `scheduler.extensions.coordination.coordinator`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastdist.rpc.fields import number, text
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.coordination.coordinator import Coordinator, Line, name_of


class Events(Coordinator):
    """Knows which flags are set, and who waits for the others."""

    name = "event-flags"
    kind = "event"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        #: A flag that is not set needs no memory.
        self.flags: set[bytes] = set()
        self.lines: dict[bytes, Line] = {}

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {
            "event-wait": self.wait_for,
            "event-set": self.set,
            "event-clear": self.clear,
            "event-is-set": self.is_set,
        }

    async def wait_for(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Wait until a flag is set."""
        name, owner = name_of(fields), self.owner(peer, fields)
        id, timeout = text(fields, "request", 256), number(fields, "wait_timeout", 0.0, default=None)
        if name in self.flags:
            return {"set": True}
        if name not in self.lines:
            self.check_room(self.lines)
        line = self.lines.setdefault(name, {})
        try:
            return {"set": bool(await self.wait(peer, line, id, owner, timeout))}
        finally:
            if not line and self.lines.get(name) is line:
                del self.lines[name]

    def set(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Set a flag; everybody who waits for it goes on."""
        name = name_of(fields)
        self.entry(peer)
        if name not in self.flags:
            self.check_room(self.flags)
            self.write_down([name, True])
        self.flags.add(name)
        for waiter in self.lines.pop(name, {}).values():
            waiter.finish(True)

    def clear(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Take a flag back."""
        self.entry(peer)
        name = name_of(fields)
        if name in self.flags:
            self.write_down([name, False])
        self.flags.discard(name)

    def apply_fact(self, change: Any) -> None:
        """Set or clear a flag."""
        (self.flags.add if change[1] else self.flags.discard)(change[0])

    def facts(self) -> Iterator[Any]:
        """The flags that are set."""
        for name in self.flags:
            yield [name, True]

    def is_set(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Whether a flag is set."""
        self.entry(peer)
        return {"set": name_of(fields) in self.flags}
