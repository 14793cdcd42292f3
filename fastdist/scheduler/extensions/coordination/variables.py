"""Variables: one value by name, which requests wait for. May import: `rpc`, `scheduler.extensions.coordination`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastdist.rpc.fields import number, text
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.coordination.coordinator import Coordinator, Line, name_of, shown, within
from fastdist.scheduler.extensions.coordination.values import Value, Values, fact_of
from fastdist.scheduler.membership import ClientEntry


class Variables(Coordinator):
    """Sets, gives and deletes values.

    What is given to a client is kept for it, too, until it says that it has got it: the variable may be set anew in
    between, and the tasks of the futures in it must not be lost then.
    """

    name = "variables"
    kind = "variable"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self.variables: dict[bytes, Value] = {}
        self.lines: dict[bytes, Line] = {}
        self.given: dict[tuple[int, str], Value] = {}
        self._values = Values(scheduler, "variables")

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {
            "variable-set": self.set,
            "variable-get": self.get,
            "variable-received": self.received,
            "variable-delete": self.delete,
        }

    def set(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Set a value; everybody who waits for one gets it."""
        self.entry(peer)
        name = name_of(fields)
        if name not in self.variables:
            self.check_room(self.variables)
        value = self._values.take(fields, buffers)
        self._drop(name)
        self.variables[name] = value
        self.write_down([name, fact_of(value)])
        for waiter in self.lines.pop(name, {}).values():
            waiter.finish(True)

    async def get(
        self, peer: Peer, fields: dict[str, Any], buffers: list[Any]
    ) -> tuple[dict[str, Any], list[Any]]:
        """The value, once there is one."""
        name, owner, request = name_of(fields), self.owner(peer, fields), text(fields, "request", 256)
        timeout = number(fields, "wait_timeout", 0.0, default=None)
        while name not in self.variables:
            if name not in self.lines:
                self.check_room(self.lines)
            line = self.lines.setdefault(name, {})
            try:
                found = await self.wait(peer, line, request, owner, timeout)
            finally:
                if not line and self.lines.get(name) is line:
                    del self.lines[name]
            if not found:
                raise TimeoutError(f"the variable {shown(name)} was not set {within(timeout)}")
        value = self.variables[name]
        if value.keys and (owner.client, request) not in self.given:
            self.given[owner.client, request] = self._values.share(value)
        return {"confirm": bool(value.keys)}, [value.payload]

    def received(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A client has its own references now to the futures of a value."""
        self._forget(self.entry(peer).number, text(fields, "request", 256))

    def delete(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Forget a value."""
        self.entry(peer)
        name = name_of(fields)
        if name in self.variables:
            self._drop(name)
            self.write_down([name, None])

    def apply_fact(self, change: Any) -> None:
        """Set or delete a value."""
        name, fact = change
        old = self.variables.pop(name, None)
        if old is not None:
            self._values.forget(old)
        if fact is not None:
            self.variables[name] = self._values.restore(fact)

    def facts(self) -> Iterator[Any]:
        """One change for each variable."""
        for name, value in self.variables.items():
            yield [name, fact_of(value)]

    async def started(self) -> None:
        """What was on its way to clients in an earlier life is asked for again."""
        self._values.keep_only(self.variables.values())

    def client_gone(self, entry: ClientEntry) -> None:
        """What was given to it need not be kept for it."""
        for client, request in [given for given in self.given if given[0] == entry.number]:
            self._forget(client, request)

    def _forget(self, client: int, request: str) -> None:
        value = self.given.pop((client, request), None)
        if value is not None:
            self._values.drop(value)

    def _drop(self, name: bytes) -> None:
        value = self.variables.pop(name, None)
        if value is not None:
            self._values.drop(value)
