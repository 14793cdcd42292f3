"""Events by topic: small messages that clients, workers and the scheduler note, and that clients can follow.

A message is opaque bytes here (`protocol.messages`). Each topic is a ring; all rings together are bounded, too.
May import: `_core`, `rpc`, `protocol`, `config`, `scheduler.membership`.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgpack

from fastdist import config
from fastdist.errors import CommClosedError, MessageError
from fastdist.protocol.messages import pack_message, unpack_message
from fastdist.rpc.fields import items, text
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import ClientEntry, WorkerEntry

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

#: What one event may hold, and what all of them may hold together before the oldest of the idlest topic go.
MAX_EVENT_BYTES = 16 << 20
MAX_TOTAL_BYTES = 32 << 20
#: Above this queue for a client it gets no events; on top of the rings, one that does not read costs no more.
MAX_QUEUED_BYTES = 16 << 20
MAX_TOPICS = 10_000
MAX_TOPICS_PER_EVENT = 100
MAX_TOPIC_LENGTH = 1_024

Event = tuple[float, bytes]


class Events(Extension):
    """The rings of events, and who follows which topic.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "events"

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self.length = config.get("admin.low-level-log-length")
        #: The topic that got an event last is the last.
        self.topics: OrderedDict[str, deque[Event]] = OrderedDict()
        self.subscribers: dict[str, dict[ClientEntry, None]] = {}
        #: Events that were not sent to a client whose queue is long, or that is away.
        self.unsent = 0
        #: Called with each topic and message; set while a plugin listens.
        self.listener: Callable[[str, bytes], None] | None = None
        self._n_bytes = 0

    def client_handlers(self) -> dict[str, Handler]:
        return {
            "log-event": self.take_event,
            "get-events": self.give_events,
            "subscribe-topic": self.subscribe,
            "unsubscribe-topic": self.unsubscribe,
        }

    def worker_handlers(self) -> dict[str, Handler]:
        return {"log-event": self.take_event}

    def nanny_handlers(self) -> dict[str, Handler]:
        return {"log-event": self.take_event}

    # -- operations --------------------------------------------------------------------------------------------------

    def take_event(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Note an event of another process."""
        topics = items(fields, "topics", str, MAX_TOPICS_PER_EVENT)
        if len(buffers) != 1:
            raise MessageError(f"an event has one message, not {len(buffers)}")
        self.note(topics, bytes(buffers[0]))

    def give_events(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Any:
        """The events of one topic or of all, as one payload: (time, message) by topic."""
        topic = text(fields, "topic", MAX_TOPIC_LENGTH, default=None)
        chosen = {topic: self.topics.get(topic, deque())} if topic is not None else self.topics
        return {}, [msgpack.packb({name: list(ring) for name, ring in chosen.items()})]

    def subscribe(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """From now on a client gets the events of a topic."""
        self.follow(text(fields, "topic", MAX_TOPIC_LENGTH), self.scheduler.client_of(peer))

    def unsubscribe(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A client does not want the events of a topic any more."""
        self.unfollow(text(fields, "topic", MAX_TOPIC_LENGTH), self.scheduler.client_of(peer))

    # -- in this process ---------------------------------------------------------------------------------------------

    def log_event(self, topics: str | Iterable[str], message: object) -> None:
        """Note an event of the scheduler itself.

        Parameters
        ----------
        topics : str or iterable of str
            Where it belongs.
        message : object
            Plain values.
        """
        self.note([topics] if isinstance(topics, str) else list(topics), pack_message(message))

    def get_events(self, topic: str | None = None) -> Any:
        """(time, message) of each event of a topic, oldest first; of every topic, by its name, without one."""
        if topic is not None:
            return tuple((when, unpack_message(packed)) for when, packed in self.topics.get(topic, ()))
        return {name: self.get_events(name) for name in self.topics}

    def note(self, topics: list[str], packed: bytes) -> None:
        """Keep an event, and tell those who follow its topics.

        Raises
        ------
        ValueError
            If it is too large, or the name of a topic too long.
        """
        if len(packed) > MAX_EVENT_BYTES:
            raise ValueError(f"an event may have {MAX_EVENT_BYTES} bytes; this one has {len(packed)}")
        for topic in topics:
            if len(topic) > MAX_TOPIC_LENGTH:
                raise ValueError(f"the name of a topic may have {MAX_TOPIC_LENGTH} characters, not {len(topic)}")
        now = time.time()
        for topic in topics:
            self._keep(topic, (now, packed))
            for entry in list(self.subscribers.get(topic, ())):
                self._send(entry, topic, now, packed)
            if self.listener is not None:
                self.listener(topic, packed)

    def _keep(self, topic: str, event: Event) -> None:
        if not self.length:
            return
        ring = self.topics.get(topic)
        if ring is None:
            ring = self.topics[topic] = deque()
        self.topics.move_to_end(topic)
        ring.append(event)
        self._n_bytes += len(event[1])
        while len(ring) > self.length:
            self._n_bytes -= len(ring.popleft()[1])
        while len(self.topics) > MAX_TOPICS:
            self._n_bytes -= sum(len(packed) for _, packed in self.topics.popitem(last=False)[1])
        while self._n_bytes > MAX_TOTAL_BYTES:
            self._drop_one()

    def _drop_one(self) -> None:
        """Drop the oldest event of the topic that has been quiet for the longest time."""
        name, ring = next(iter(self.topics.items()))
        self._n_bytes -= len(ring.popleft()[1])
        if not ring:
            del self.topics[name]

    def _send(self, entry: ClientEntry, topic: str, when: float, packed: bytes) -> None:
        comm = entry.peer.comm
        if comm.closed or comm.queued_bytes > min(MAX_QUEUED_BYTES, comm.limits.high_water):
            self.unsent += 1
            return
        try:
            entry.peer.notify("event", topic=topic, time=when, buffers=[packed])
        except CommClosedError:
            # It may come back; what happened meanwhile it can ask for.
            self.unsent += 1

    # -- who comes and goes ------------------------------------------------------------------------------------------

    def client_came(self, entry: ClientEntry) -> None:
        self.log_event(["all", entry.name], {"action": "add-client", "client": entry.name})

    def client_gone(self, entry: ClientEntry) -> None:
        for topic in list(self.subscribers):
            self.unfollow(topic, entry)
        self.log_event(["all", entry.name], {"action": "remove-client", "client": entry.name})

    def worker_came(self, entry: WorkerEntry) -> None:
        self.log_event(entry.address, {"action": "add-worker"})
        self.log_event("all", {"action": "add-worker", "worker": entry.address})

    def worker_gone(self, entry: WorkerEntry, why: str) -> None:
        event = {
            "action": "remove-worker",
            "worker": entry.address,
            "reason": why,
            "expected": entry.closing or self.scheduler.closing,
        }
        self.log_event([entry.address, "all"], event)

    def follow(self, topic: str, entry: ClientEntry) -> None:
        """From now on a client gets the events of a topic.

        Raises
        ------
        ValueError
            If too many topics are followed.
        """
        if topic not in self.subscribers and len(self.subscribers) >= MAX_TOPICS:
            raise ValueError(f"clients follow {MAX_TOPICS} topics already; that is the limit")
        self.subscribers.setdefault(topic, {})[entry] = None

    def unfollow(self, topic: str, entry: ClientEntry) -> None:
        """A client gets the events of a topic no more."""
        followers = self.subscribers.get(topic, {})
        followers.pop(entry, None)
        if not followers:
            self.subscribers.pop(topic, None)
