"""Which events of the core are facts, how they are written, and how they are applied again.

TASKS and RELEASE frames are written as they came; rarer events as msgpack. Placements are not written: workers declare
what they hold and execute. An error is written with the key of its task, since task ids mean something to one life of a
scheduler only. May import: `_core`, errors, `scheduler.options`, the other modules of this folder.
"""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgpack

from fastdist._core.codec.frames import ColumnReader
from fastdist._core.scheduler import facts
from fastdist._core.scheduler.core import SchedulerCore
from fastdist.errors import FrameError, JournalError
from fastdist.scheduler.journal.records import RecordKind
from fastdist.scheduler.options import Placing, read_options

logger = logging.getLogger("fastdist.scheduler")

TASKS_COLUMNS = 14
OPTIONS_COLUMN = 13
#: client, time
TASKS_HEAD = struct.Struct("<I4xd")
RELEASE_HEAD = struct.Struct("<I4x")

#: Events that are written with their arguments, and applied with them.
PLAIN = frozenset(
    {
        "on_client", "on_client_closed", "on_release_ids", "on_scatter", "on_want", "on_cancel", "on_retry",
        "on_restart",
    }
)  # fmt: skip
#: Events whose first argument is a list of task ids, which is written as keys.
BY_KEY = frozenset({"on_kept"})

#: What applying a record raises that no scheduler has written.
CANNOT_BE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, struct.error, msgpack.UnpackException)


class FactRecorder:
    """Turns the events of a core into records; the `recorder` of a core.

    Parameters
    ----------
    core : SchedulerCore
    add : callable
        Takes the kind of a record and its pieces.
    flush : callable
        Called when the core acts, and after an event that may be answered at once.
    """

    def __init__(self, core: SchedulerCore, add: Callable[..., None], flush: Callable[[], None]) -> None:
        self._core = core
        self._add = add
        self._flush = flush
        # What the event before this one may have decided; it is known once it was applied.
        self._touched: list[int] = []

    def __call__(self, event: tuple[str, tuple[Any, ...]]) -> None:
        """An event that is about to be applied."""
        name, arguments = event
        if self._touched:
            self.add_outcomes()
        if name == "on_tasks":
            self._add(RecordKind.TASKS, TASKS_HEAD.pack(arguments[0], arguments[3]), arguments[1])
        elif name == "on_done":
            # A frame without errors is recognised by one search.
            self._touched = facts.raised_ids(arguments[1])
        elif name == "act":
            self._flush()
        elif name == "on_release":
            self._add(RecordKind.RELEASE, RELEASE_HEAD.pack(arguments[0]), arguments[1])
        elif name in PLAIN:
            self._add(RecordKind.EVENT, msgpack.packb([name, arguments]))
            self._flush()
        elif name in BY_KEY:
            keys = facts.keys_of(self._core.model, arguments[0])
            self._add(RecordKind.EVENT, msgpack.packb([name, [keys, *arguments[1:]]]))
            self._flush()
        elif name == "on_scatter_failed":
            self._touched = list(arguments[0])
        elif name == "on_worker_lost" and arguments[1]:
            self._touched = facts.given_to(self._core.model, arguments[0])
        elif name == "on_death_report":
            self._touched = [id for id, _ in arguments[1]]

    def add_outcomes(self) -> None:
        """Write down what became of the tasks that the last event may have decided."""
        touched, self._touched = self._touched, []
        rows = facts.outcomes(self._core.model, touched)
        if rows:
            self._add(RecordKind.OUTCOMES, msgpack.packb(rows))


class FactPlayer:
    """Applies records to a core that has no workers.

    Parameters
    ----------
    core : SchedulerCore
    on_fact : callable
        Takes the subject and the change of each FACT record.

    Attributes
    ----------
    applied : Counter
        TASKS and RELEASE frames by number of the client.
    names : dict
        Names of the core's clients that have not closed, by number.
    """

    def __init__(self, core: SchedulerCore, on_fact: Callable[[str, Any], None]) -> None:
        self.applied: Counter[int] = Counter()
        self.names: dict[int, str] = {}
        self._core = core
        self._on_fact = on_fact

    def play(self, kind: RecordKind, body: memoryview) -> None:
        """Apply one record.

        Raises
        ------
        JournalError
            If it says what cannot be.
        """
        try:
            if kind is RecordKind.TASKS:
                self._play_tasks(body)
            elif kind is RecordKind.RELEASE:
                (client,) = RELEASE_HEAD.unpack_from(body)
                self._core.on_release(client, body[RELEASE_HEAD.size :])
                self.applied[client] += 1
            elif kind is RecordKind.OUTCOMES:
                facts.apply_outcomes(self._core.model, _unpack(body))
            elif kind is RecordKind.EVENT:
                self._play_event(*_unpack(body))
            else:
                self._on_fact(*_unpack(body))
        except CANNOT_BE as error:
            raise JournalError(f"the journal says what cannot be ({kind.name}: {error!r})") from error

    def _play_tasks(self, body: memoryview) -> None:
        client, now = TASKS_HEAD.unpack_from(body)
        frame = body[TASKS_HEAD.size :]
        try:
            self._core.on_tasks(client, frame, self._options(frame), now)
        except FrameError as error:
            # It was refused at the time, too, and its client with it.
            logger.debug("a frame of client %d is refused again: %s", client, error)
            return
        self.applied[client] += 1

    def _options(self, frame: memoryview) -> list[int]:
        packed = ColumnReader(frame, TASKS_COLUMNS).column_bytes(OPTIONS_COLUMN)
        return read_options(self._core, packed, _no_candidates) if packed else []

    def _play_event(self, name: str, arguments: list[Any]) -> None:
        core = self._core
        if name in BY_KEY:
            arguments[0] = facts.ids_of_keys(core.model, arguments[0])
        elif name not in PLAIN:
            raise JournalError(f"the journal has an unknown event {name!r}: was it written by a newer version?")
        try:
            answer = getattr(core, name)(*arguments)
        except FrameError as error:
            logger.debug("%s is refused again: %s", name, error)
            return
        if name == "on_client":
            self.names[answer] = arguments[0]
        elif name == "on_client_closed":
            self.names.pop(arguments[0], None)
            self.applied.pop(arguments[0], None)


def _no_candidates(placing: Placing) -> list[int]:
    return []


def _unpack(body: memoryview) -> Any:
    return msgpack.unpackb(body, strict_map_key=False)
