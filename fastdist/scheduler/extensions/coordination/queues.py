"""Queues: values in order, put and got by requests that wait for room or for a value.

What is given to a client is kept until it says that it has got it; when it gives it back, or is gone before, it is the
first in the queue again. May import: `rpc`, `scheduler.extensions.coordination`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastdist.rpc.fields import number, text, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.coordination.coordinator import Coordinator, Line, name_of, shown, within
from fastdist.scheduler.extensions.coordination.values import Value, Values, fact_of
from fastdist.scheduler.membership import ClientEntry

#: Bytes in one answer, beyond the first value, and values in it.
ANSWER_BYTES = 32 << 20
ANSWER_VALUES = 1_000
#: Values in one queue.
MAX_VALUES = 10_000_000
#: Requests of a client that are remembered, so that one that is repeated after a broken connection puts nothing twice.
REMEMBERED_PUTS = 10_000


@dataclass(eq=False)
class OneQueue:
    """The values of one name; lines of those who wait for room and of those who wait for a value."""

    maxsize: int
    n_handles: int = 1
    values: deque[Value] = field(default_factory=deque)
    putting: Line = field(default_factory=dict)
    getting: Line = field(default_factory=dict)

    @property
    def full(self) -> bool:
        """Whether a put has to wait."""
        return 0 < self.maxsize <= len(self.values)


@dataclass(eq=False)
class Given:
    """Values that are on their way to a client."""

    name: bytes
    values: list[Value]


class Queues(Coordinator):
    """Puts and gives values, oldest request first."""

    name = "queues"
    kind = "queue"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self.queues: dict[bytes, OneQueue] = {}
        self.given: dict[tuple[int, str], Given] = {}
        self._put: dict[int, OrderedDict[str, None]] = {}
        self._values = Values(scheduler, "queues")

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {
            "queue-create": self.create,
            "queue-put": self.put,
            "queue-get": self.get,
            "queue-received": self.received,
            "queue-give-back": self.give_back,
            "queue-size": self.size,
            "queue-release": self.release,
        }

    # -- requests ------------------------------------------------------------------------------------------------------

    def create(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Make a queue, or count one more that uses it; the first one says how many values it may have."""
        name, request = name_of(fields), text(fields, "request", 256)
        if not self._is_new(self.entry(peer).number, request):
            return
        maxsize = whole(fields, "maxsize", default=0)
        queue = self.queues.get(name)
        if queue is None:
            self.check_room(self.queues)
            queue = self.queues[name] = OneQueue(max(0, maxsize))
        else:
            queue.n_handles += 1
        self.write_down(["uses", name, queue.maxsize, queue.n_handles])

    async def put(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Put a value at the end, once there is room."""
        name, owner, request = name_of(fields), self.owner(peer, fields), text(fields, "request", 256)
        timeout = number(fields, "wait_timeout", 0.0, default=None)
        queue = self._queue(name)
        if request in self._put.get(owner.client, ()):
            return
        value = self._values.take(fields, buffers)
        if not queue.full:
            self._remember(owner.client, request)
            self._add(name, queue, value)
            return
        try:
            added = await self.wait(peer, queue.putting, request, owner, timeout, value)
        except BaseException:
            # Unless it was added just before its connection broke.
            if request not in self._put.get(owner.client, ()):
                self._values.drop(value)
            raise
        if not added:
            self._values.drop(value)
            raise TimeoutError(f"the queue {shown(name)} had no room {within(timeout)}")

    async def get(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        """The first values, at most `limit`; if `wait`, once there is one."""
        name, owner, request = name_of(fields), self.owner(peer, fields), text(fields, "request", 256)
        limit, wait = whole(fields, "limit", 1), bool(fields.get("wait"))
        timeout = number(fields, "wait_timeout", 0.0, default=None)
        queue = self._queue(name)
        given = self.given.get((owner.client, request))
        if given is None and wait and not queue.values:
            given = await self.wait(peer, queue.getting, request, owner, timeout, (name, limit))
            if given is None:
                raise TimeoutError(f"the queue {shown(name)} had no value {within(timeout)}")
        if given is None:
            given = self._give(queue, name, owner.client, request, limit)
        return {"more": bool(queue.values)}, [value.payload for value in given.values]

    def received(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A client has what it was given."""
        request = self.entry(peer).number, text(fields, "request", 256)
        given = self.given.pop(request, None)
        for value in given.values if given else ():
            self._values.drop(value)
        if given:
            self.write_down(["received", given.name, *request])

    def give_back(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A client does not wait any more, or does not want what it was given."""
        client, request = self.entry(peer).number, text(fields, "request", 256)
        queue = self.queues.get(name_of(fields))
        for line in (queue.getting, queue.putting) if queue else ():
            waiter = line.pop(request, None)
            if waiter is not None:
                waiter.finish(None)
        self._take_back(client, request)

    def size(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """How many values there are."""
        self.entry(peer)
        return {"size": len(self._queue(name_of(fields)).values)}

    def release(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """One less uses a queue; with the last one it is gone."""
        self.entry(peer)
        name = name_of(fields)
        queue = self.queues.get(name)
        if queue is None:
            return
        queue.n_handles -= 1
        self.write_down(["uses", name, queue.maxsize, queue.n_handles])
        if queue.n_handles > 0:
            return
        del self.queues[name]
        for value in queue.values:
            self._values.drop(value)
        for waiter in (*queue.putting.values(), *queue.getting.values()):
            waiter.fail(RuntimeError(f"the queue {shown(name)} was closed while this waited"))

    # -- values --------------------------------------------------------------------------------------------------------

    def _queue(self, name: bytes) -> OneQueue:
        queue = self.queues.get(name)
        if queue is None:
            raise RuntimeError(f"the queue {shown(name)} does not exist (any more): all that used it have closed it")
        return queue

    def _add(self, name: bytes, queue: OneQueue, value: Value) -> None:
        if len(queue.values) >= MAX_VALUES:
            raise RuntimeError(f"the queue has {MAX_VALUES} values, which is the limit: give it a maxsize=")
        queue.values.append(value)
        self.write_down(["added", name, fact_of(value)])
        self._serve(name, queue)

    def _serve(self, name: bytes, queue: OneQueue) -> None:
        """Give values to those who wait for them, and room to those who wait for that, as long as both are there."""
        while True:
            if queue.values and queue.getting:
                request = next(iter(queue.getting))
                waiter = queue.getting.pop(request)
                if not waiter.future.done():
                    _, limit = waiter.detail
                    waiter.finish(self._take(queue, name, waiter.owner.client, request, limit))
            elif queue.putting and not queue.full:
                request = next(iter(queue.putting))
                waiter = queue.putting.pop(request)
                if not waiter.future.done():
                    self._remember(waiter.owner.client, request)
                    queue.values.append(waiter.detail)
                    self.write_down(["added", name, fact_of(waiter.detail)])
                    waiter.finish(True)
            else:
                return

    def _give(self, queue: OneQueue, name: bytes, client: int, request: str, limit: int) -> Given:
        given = self._take(queue, name, client, request, limit)
        self._serve(name, queue)
        return given

    def _take(self, queue: OneQueue, name: bytes, client: int, request: str, limit: int) -> Given:
        values: list[Value] = []
        size = 0
        while queue.values and len(values) < min(limit, ANSWER_VALUES):
            size += len(queue.values[0].payload)
            if values and size > ANSWER_BYTES:
                break
            values.append(queue.values.popleft())
        given = Given(name, values)
        if values:
            self.given[client, request] = given
            self.write_down(["given", name, client, request, len(values)])
        return given

    def _take_back(self, client: int, request: str) -> None:
        given = self.given.pop((client, request), None)
        if given is None:
            return
        self.write_down(["back", given.name, client, request])
        queue = self.queues.get(given.name)
        for value in reversed(given.values):
            if queue is None:
                self._values.drop(value)
            else:
                queue.values.appendleft(value)
        if queue is not None:
            self._serve(given.name, queue)

    def _is_new(self, client: int, request: str) -> bool:
        if request in self._put.get(client, ()):
            return False
        self._remember(client, request)
        return True

    def _remember(self, client: int, request: str) -> None:
        known = self._put.setdefault(client, OrderedDict())
        known[request] = None
        self.write_down(["asked", b"", client, request])
        if len(known) > REMEMBERED_PUTS:
            known.popitem(last=False)

    # -- the journal ---------------------------------------------------------------------------------------------------

    def apply_fact(self, change: Any) -> None:
        """Do again what was done with one queue; the core's own record keeps the tasks."""
        what, name, *more = change
        queue = self.queues.get(name)
        if what == "uses":
            maxsize, n_handles = more
            if n_handles <= 0:
                for value in self.queues.pop(name).values:
                    self._values.forget(value)
            else:
                self.queues.setdefault(name, OneQueue(maxsize)).n_handles = n_handles
        elif what == "asked":
            self._remember(*more)
        elif what == "added":
            self.queues[name].values.append(self._values.restore(more[0]))
        elif what == "given":
            client, request, count = more
            self.given[client, request] = Given(name, [self.queues[name].values.popleft() for _ in range(count)])
        else:
            values = self.given.pop((more[0], more[1])).values
            if what == "back" and queue is not None:
                queue.values.extendleft(reversed(values))
            else:
                for value in values:
                    self._values.forget(value)

    def facts(self) -> Iterator[Any]:
        """Each queue with its values, and what is on its way to clients."""
        for name, queue in self.queues.items():
            yield ["uses", name, queue.maxsize, queue.n_handles]
            for (client, request), given in self.given.items():
                if given.name == name:
                    yield from (["added", name, fact_of(value)] for value in given.values)
                    yield ["given", name, client, request, len(given.values)]
            yield from (["added", name, fact_of(value)] for value in queue.values)
        for client, requests in self._put.items():
            yield from (["asked", b"", client, request] for request in requests)

    async def started(self) -> None:
        """Requests of clients that are gone are not repeated; tasks that only they were given are let go."""
        self._put = {client: known for client, known in self._put.items() if client in self.scheduler.clients_away}
        waiting = (value for queue in self.queues.values() for value in queue.values)
        self._values.keep_only([*waiting, *(value for given in self.given.values() for value in given.values)])

    def client_gone(self, entry: ClientEntry) -> None:
        """What it was given and never got is in the queue again."""
        self._put.pop(entry.number, None)
        for client, request in [given for given in reversed(self.given) if given[0] == entry.number]:
            self._take_back(client, request)
