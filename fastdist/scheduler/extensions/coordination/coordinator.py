"""What locks, queues and the like have in common: names, who holds something, and waits without polling.

May import: `_core`, `rpc`, `scheduler.extensions`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from fastdist._core.keys.canonical import decode_key
from fastdist.errors import MessageError
from fastdist.rpc.fields import text
from fastdist.rpc.peer import Peer
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import ClientEntry

#: Objects of one kind, and the bytes of a name.
MAX_OBJECTS = 100_000
MAX_NAME_BYTES = 4096
#: Unfinished waits of one client; below what closes its connection.
MAX_WAITS = 5_000


@dataclass(frozen=True)
class Owner:
    """Who holds something: a client, and the worker (by address) if its code runs in a task."""

    client: int
    worker: str | None = None


@dataclass(eq=False)
class Waiter:
    """One request that waits; whoever can fulfil it calls `finish` with the answer."""

    owner: Owner
    future: asyncio.Future[Any]
    detail: Any = None

    def finish(self, answer: Any) -> None:
        """Wake the request up."""
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Have the request raise."""
        if not self.future.done():
            self.future.set_exception(error)


#: Requests that wait for the same object, oldest first, by the ids that their clients chose.
Line = dict[str, Waiter]


class Coordinator(Extension):
    """An extension that lets requests wait for each other.

    A request is a coroutine of its connection: when the connection breaks it is cancelled and leaves its line.
    """

    #: What one of its objects is called in errors.
    kind: ClassVar[str]

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._waits: Counter[Peer] = Counter()

    # -- requests ------------------------------------------------------------------------------------------------------

    def entry(self, peer: Peer) -> ClientEntry:
        """The registered client behind a connection."""
        return self.scheduler._clients.entry(peer)

    def owner(self, peer: Peer, fields: dict[str, Any]) -> Owner:
        """On whose behalf a request is made."""
        return Owner(self.entry(peer).number, text(fields, "worker", 1024, default=None))

    def check_room(self, objects: Sized) -> None:
        """Raise unless one more object may be made."""
        if len(objects) >= MAX_OBJECTS:
            raise RuntimeError(
                f"there are {len(objects)} objects of the kind {self.kind} already, which is the limit: close or "
                "delete those that are not needed, or use fewer names"
            )

    # -- waiting -------------------------------------------------------------------------------------------------------

    async def wait(
        self, peer: Peer, line: Line, id: str, owner: Owner, timeout: float | None, detail: Any = None
    ) -> Any:
        """Wait in line until somebody finishes this request; None when the timeout is over."""
        with self._counted(peer):
            loop = asyncio.get_running_loop()
            waiter = Waiter(owner, loop.create_future(), detail)
            line[id] = waiter
            timer = None if timeout is None else loop.call_later(timeout, waiter.finish, None)
            try:
                return await waiter.future
            finally:
                if timer is not None:
                    timer.cancel()
                # A client that came back may have asked again under the same id.
                if line.get(id) is waiter:
                    del line[id]

    @contextmanager
    def _counted(self, peer: Peer) -> Iterator[None]:
        if self._waits[peer] >= MAX_WAITS:
            raise RuntimeError(
                f"{peer.name} waits {self._waits[peer]} times for a {self.kind}, which is the limit for one client"
            )
        self._waits[peer] += 1
        try:
            yield
        finally:
            self._waits[peer] -= 1
            if not self._waits[peer]:
                del self._waits[peer]

    async def close(self) -> None:
        """The scheduler closes: its connections end, and with them all that waits."""


def name_of(fields: dict[str, Any], field: str = "name") -> bytes:
    """The name of an object: the canonical bytes of a key."""
    return checked_name(fields.get(field), field)


def checked_name(name: Any, field: str) -> bytes:
    """The name, if it is one."""
    if type(name) is not bytes or not 0 < len(name) <= MAX_NAME_BYTES:
        raise MessageError(f"the field {field!r} must be a name of 1 to {MAX_NAME_BYTES} bytes")
    return name


def shown(name: bytes) -> str:
    """A name as its user wrote it."""
    return repr(decode_key(name))


def within(timeout: float | None) -> str:
    """How long a request waited that got nothing."""
    return "until its client gave up" if timeout is None else f"within {timeout:g} s"
