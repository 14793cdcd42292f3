"""A snapshot of what a journal came to, as records, and back.

May import: `_core`, errors, `scheduler.options`, the other modules of this folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack

from fastdist._core.scheduler import snapshot
from fastdist._core.scheduler.core import SchedulerCore
from fastdist.errors import JournalError
from fastdist.scheduler.journal.facts import CANNOT_BE, FactPlayer
from fastdist.scheduler.journal.records import RecordKind
from fastdist.scheduler.options import Placing

#: What the body of a ROWS record begins with.
DESCRIPTION = b"describe"
TASKS = b"tasks   "
FINISH = b"finish  "


def records_of(core: SchedulerCore, player: FactPlayer) -> Iterator[tuple[RecordKind, list[bytes]]]:
    """The records that make the tasks and clients of a core that was fed by `player`, but for the last one."""
    described = snapshot.describe(core.model)
    for options in described["options"]:
        options[-1] = _plain(options[-1])
    described["applied"] = dict(player.applied)
    yield RecordKind.ROWS, [DESCRIPTION, msgpack.packb(described)]
    for body in snapshot.task_frames(core.model):
        yield RecordKind.ROWS, [TASKS, body]
    yield RecordKind.ROWS, [FINISH]


class SnapshotPlayer:
    """Applies the ROWS records of a snapshot to a new core."""

    def __init__(self, core: SchedulerCore, player: FactPlayer) -> None:
        self._core = core
        self._player = player
        self._loader: snapshot.Loader | None = None

    def play(self, body: memoryview) -> None:
        """Apply one record.

        Raises
        ------
        JournalError
            If it is out of place.
        """
        try:
            self._play(bytes(body[:8]), body)
        except CANNOT_BE as error:
            raise JournalError(f"a snapshot says what cannot be ({error!r})") from error

    def _play(self, what: bytes, body: memoryview) -> None:
        if what == DESCRIPTION:
            self._begin(msgpack.unpackb(body[8:], strict_map_key=False))
        elif self._loader is None:
            raise JournalError("a snapshot has no beginning")
        elif what == TASKS:
            self._loader.load(body[8:])
        else:
            self._loader.finish()
            self._loader = None

    def _begin(self, described: dict[str, Any]) -> None:
        core = self._core
        alive = {number: name for number, name, *_ in described["clients"]}
        for number in range(described["n_clients"]):
            core.on_client(alive.get(number, ""))
            if number not in alive:
                core.on_client_closed(number)
        options = {}
        for number, priority, retries, restricted, loose, needs, for_worker, shown in described["options"]:
            options[number] = core.on_options(
                priority, retries, restricted, loose, needs, for_worker, _placing(shown)
            )
        self._loader = snapshot.Loader(core.model, described, options)
        self._player.names.update(alive)
        self._player.applied.update(described["applied"])


def _plain(placing: Any) -> Any:
    if placing is None:
        return None
    return [list(placing.workers), dict(placing.resources), placing.loose, placing.actor]


def _placing(plain: Any) -> Placing | None:
    return None if plain is None else Placing(tuple(plain[0]), plain[1], plain[2], plain[3])
