"""The operations that clients may ask of the scheduler.

Each method takes the peer, the checked fields and opaque buffers, and returns plain values. May import: the layers
below and the other modules of this folder.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from fastdist._core.codec.frames import ColumnReader, FrameKind
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.reasons import Reason, reason_payload
from fastdist.errors import ClosedClientError, CommClosedError
from fastdist.rpc.fields import flag, ids, items, mapping, text, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.stopping import WAYS
from fastdist.scheduler.membership import ClientEntry
from fastdist.scheduler.options import read_options, worker_restriction
from fastdist.versions import refuse_other_python

if TYPE_CHECKING:
    from fastdist.scheduler.extensions.output import Output
    from fastdist.scheduler.extensions.stopping import Stopping
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

TASKS_COLUMNS = 14
OPTIONS_COLUMN = 13
#: A client that can return hears what was applied after so many frames or bytes, and with its heartbeats.
FRAMES_PER_APPLIED = 32
BYTES_PER_APPLIED = 8 << 20
Answer = dict[str, Any] | tuple[dict[str, Any], list[Any]]


class ClientHandlers:
    """What a client may ask.

    Parameters
    ----------
    scheduler : Scheduler
        The server that they act on.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.entries: dict[Peer, ClientEntry] = {}
        #: Clients whose connection broke, by number, until they return or the core gives them up.
        self.away: dict[int, ClientEntry] = {}

    def table(self) -> dict[str, Handler]:
        """Operations by name."""
        return {
            "register-client": self.register,
            "heartbeat": self.heartbeat,
            "close-client": self.goodbye,
            "identity": self.identity,
            "ncores": self.ncores,
            "who-has": self.who_has,
            "has-what": self.has_what,
            "processing": self.processing,
            "cancel": self.cancel,
            "retry": self.retry,
            "terminate": self.terminate,
        }

    # -- coming and going --------------------------------------------------------------------------------------------

    def register(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """A client introduces itself; from now on it may send tasks."""
        name = text(fields, "client", 256)
        if peer in self.entries:
            raise ValueError(f"the client {name!r} has registered on this connection already")
        versions = mapping(fields, "versions", 1_000, default={})
        refuse_other_python(versions, "this client")
        returning = whole(fields, "returning", -1, default=-1)
        if returning >= 0:
            entry = self._take_back(name, returning)
        else:
            entry = ClientEntry(
                self.scheduler.core.on_client(name),
                peer,
                name,
                dict(versions),
                returns=flag(fields, "returns", default=False),
            )
        entry.peer = peer
        entry.last_seen = time.time()
        self.entries[peer] = entry
        self.scheduler.members.clients[entry.number] = entry
        peer.name = f"client {name}"
        peer.on_frame[FrameKind.TASKS] = self.take_tasks
        peer.on_frame[FrameKind.RELEASE] = self.take_release
        entry.told_applied, entry.untold_bytes = entry.applied, 0
        if returning < 0 or entry.recovered:
            entry.recovered = False
            for extension in self.scheduler.extensions.values():
                extension.client_came(entry)
        return {
            "epoch": self.scheduler.epoch,
            "info": self.scheduler.identity(n_workers=0),
            "number": entry.number,
            "applied": entry.applied,
        }

    def _take_back(self, name: str, number: int) -> ClientEntry:
        """The entry of a client that comes again, after its connection broke.

        Raises
        ------
        ClosedClientError
            If it is not known any more.
        """
        core, connected = self.scheduler.core, self.scheduler.members.clients
        entry = self.away.get(number) or connected.get(number)
        if entry is not None and entry.name == name and number in connected:
            # The connection is half-open: its end was noticed at the other side only.
            self._replace(entry)
        if entry is None or entry.name != name or not core.on_client_back(number):
            raise ClosedClientError(
                f"the scheduler does not know the client {name!r} (any more): it was away for longer than the setting "
                "scheduler.client-grace allows, or it was given up because of what it sent"
            )
        self.away.pop(number, None)
        entry.inline_allowed = True
        self.scheduler.wake()
        logger.info("the client %s is back", name)
        return entry

    def _replace(self, entry: ClientEntry) -> None:
        old = entry.peer
        del self.entries[old]
        # Until it is closed, what it still delivers has to be dropped: the client sends that again.
        old.on_frame[FrameKind.TASKS] = old.on_frame[FrameKind.RELEASE] = ignore_frame
        old.abort(CommClosedError(f"the client {entry.name} came back on another connection"))
        self.scheduler.core.on_client_lost(entry.number, time.monotonic())

    def heartbeat(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A sign of life."""
        entry = self.entry(peer)
        entry.last_seen = time.time()
        if entry.returns and entry.told_applied != entry.applied:
            self._tell_applied(entry)

    def goodbye(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """The client closes: its futures are released at once."""
        entry = self.entries.pop(peer, None)
        if entry is not None:
            self.scheduler.members.clients.pop(entry.number, None)
            self.scheduler.core.on_client_closed(entry.number)
            self._tell_gone(entry)
            self.scheduler.wake()

    def lost(self, peer: Peer, reason: Exception | None) -> None:
        """The connection broke without a goodbye.

        The client may come back, unless it was cut off because of what it sent: it would send that again.
        """
        if reason is not None and not isinstance(reason, OSError):
            self.goodbye(peer, {}, [])
            return
        entry = self.entries.pop(peer, None)
        if entry is not None:
            self.scheduler.members.clients.pop(entry.number, None)
            self.away[entry.number] = entry
            self.scheduler.core.on_client_lost(entry.number, time.monotonic())
            self.scheduler.wake()

    def forget(self, numbers: Iterable[int]) -> None:
        """The core gave clients up that did not return in time."""
        for given_up in numbers:
            entry = self.away.pop(given_up, None)
            if entry is not None:
                logger.info("the client %s did not return in time: its futures are released", entry.name)
                self._tell_gone(entry)

    def _tell_gone(self, entry: ClientEntry) -> None:
        for extension in self.scheduler.extensions.values():
            extension.client_gone(entry)

    def entry(self, peer: Peer) -> ClientEntry:
        """The registered client behind a connection."""
        try:
            return self.entries[peer]
        except KeyError:
            raise PermissionError("register-client must come first on this connection") from None

    # -- hot frames --------------------------------------------------------------------------------------------------

    def take_tasks(self, peer: Peer, body: memoryview) -> None:
        """A TASKS frame."""
        core = self.scheduler.core
        packed = ColumnReader(body, TASKS_COLUMNS).column_bytes(OPTIONS_COLUMN)
        entry = self.entry(peer)
        options = read_options(core, packed, self.scheduler.members.candidates) if packed else []
        newest = core.model.generation
        core.on_tasks(entry.number, body, options, time.monotonic())
        if core.model.generation != newest:
            output = cast("Output", self.scheduler.extensions["output"])
            output.submitters.note(core.model.generation, entry.number)
        if self.scheduler.graph_listener is not None:
            self.scheduler.graph_listener(entry, body)
        self._count_applied(entry, len(body))
        self.scheduler.wake()

    def take_release(self, peer: Peer, body: memoryview) -> None:
        """A RELEASE frame."""
        entry = self.entry(peer)
        self.scheduler.core.on_release(entry.number, body)
        self._count_applied(entry, len(body))
        self.scheduler.wake()

    def _count_applied(self, entry: ClientEntry, size: int) -> None:
        entry.applied += 1
        entry.untold_bytes += size
        if entry.returns and (
            entry.applied - entry.told_applied >= FRAMES_PER_APPLIED or entry.untold_bytes >= BYTES_PER_APPLIED
        ):
            self._tell_applied(entry)

    def _tell_applied(self, entry: ClientEntry) -> None:
        if self.scheduler.journal is not None and not self.scheduler.journal.flush():
            # The client keeps what would be lost with this process.
            return
        entry.told_applied, entry.untold_bytes = entry.applied, 0
        # A connection that is closed already is dealt with in `lost`; at the return the client hears the count.
        with contextlib.suppress(CommClosedError):
            entry.peer.notify("applied", frames=entry.applied)

    # -- questions ---------------------------------------------------------------------------------------------------

    def identity(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """What the cluster is made of."""
        return {"identity": self.scheduler.identity(whole(fields, "n_workers", -1, default=-1))}

    def ncores(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Threads by worker address."""
        chosen = self.scheduler.members.select(worker_restriction(fields))
        return {"ncores": {entry.address: entry.nthreads for entry in chosen}}

    def who_has(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Where data lies: by client ids (task id, size, addresses), by keys, or of all tasks."""
        core = self.scheduler.core
        if "ids" in fields:
            return {"tasks": core.who_has(self.entry(peer).number, ids(fields, "ids"))}
        if fields.get("keys") is not None:
            views = [core.task_view(key) for key in items(fields, "keys", bytes)]
            named = [(key, view) for key, view in zip(fields["keys"], views, strict=True)]
            return {"who_has": [[key, view["who_has"] if view else []] for key, view in named]}
        return {"who_has": [[encode_key(view["key"]), view["who_has"]] for view in core.tasks()]}

    def has_what(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Keys by the worker that holds them."""
        chosen = self.scheduler.members.select(worker_restriction(fields))
        keys = self.scheduler.core.has_what
        return {"has_what": {entry.address: [encode_key(key) for key in keys(entry.number)] for entry in chosen}}

    def processing(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Keys by the worker that was given them and has not finished them."""
        chosen = self.scheduler.members.select(worker_restriction(fields))
        keys = self.scheduler.core.processing
        return {"processing": {entry.address: [encode_key(key) for key in keys(entry.number)] for entry in chosen}}

    # -- control -----------------------------------------------------------------------------------------------------

    def cancel(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Cancel tasks and what depends on them."""
        entry = self.entry(peer)
        reason = text(fields, "reason", default=None) or Reason.CANCELLED.value
        message = text(fields, "message", default=None) or f"cancelled by client {entry.name}"
        payload = reason_payload(Reason.CANCELLED, message, cause=reason, by=entry.name, when=time.time())
        force = flag(fields, "force", default=False)
        keys = items(fields, "keys", bytes)
        way = text(fields, "stop", 64, default=None)
        if way is None:
            count = self.scheduler.core.on_cancel(entry.number, keys, force, payload)
            self.scheduler.wake()
            return {"count": count}
        if way not in WAYS:
            raise ValueError(f"a task can be stopped by {' or '.join(WAYS)}, not by {way!r}")
        stopping = cast("Stopping", self.scheduler.extensions["stopping"])
        gone = [key for key in keys if self.scheduler.core.task_view(key) is None]
        before = stopping.assigned()
        count = self.scheduler.core.on_cancel(entry.number, keys, force, payload)
        return {"count": count, "unkillable": stopping.stop(before, gone, way)}

    def retry(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Try failed tasks again."""
        entry = self.entry(peer)
        keys = items(fields, "keys", bytes)
        known_as = ids(fields, "ids")
        if len(keys) != len(known_as):
            raise ValueError(f"retry names {len(keys)} keys and {len(known_as)} ids")
        self.scheduler.core.on_retry(keys, entry.number, known_as)
        self.scheduler.wake()
        return {}

    async def terminate(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Close the whole cluster."""
        self.scheduler.close_soon(f"client {self.entry(peer).name} asked for it")
        return {}


def ignore_frame(peer: Peer, body: memoryview) -> None:
    """Drop a frame of a connection that has been replaced."""
