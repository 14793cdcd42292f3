"""Clients that live in the scheduler itself: they want tasks so that their data stays while no user's client does.

Datasets, and tasks that nobody waits for, are kept alive like that. May import: `_core`, `scheduler`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastdist._core.codec.frames import ColumnReader, TaskStatus
from fastdist._core.scheduler.facts import wanted_ids

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

STATE_COLUMNS = 8


class Keeper:
    """Wants tasks of the core on behalf of a part of the scheduler.

    Parameters
    ----------
    scheduler : Scheduler
        The server whose core has the tasks.
    name : str
        How the core knows it.

    Examples
    --------
    >>> keeper = Keeper(scheduler, "published")  # doctest: +SKIP
    >>> ids = keeper.keep([key_bytes])  # doctest: +SKIP
    >>> keeper.release(ids)  # doctest: +SKIP
    """

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self.name = name
        self._scheduler = scheduler
        self._number = -1

    @property
    def number(self) -> int:
        """Its number as a client of the core, which hears of it when it is first used."""
        journal = self._scheduler.journal
        if self._number < 0 and journal is not None:
            self._number = journal.recovered_clients.get(self.name, -1)
        if self._number < 0:
            self._number = self._scheduler.core.on_client(self.name)
        return self._number

    def keep(self, keys: list[bytes]) -> list[int]:
        """Want the tasks with these canonical keys; an id for each, 0 where there is no such task."""
        ids = self._scheduler.core.on_want(self.number, keys)
        self._scheduler.wake()
        return ids

    def keep_only(self, ids: Iterable[int]) -> None:
        """Release what is wanted besides these; after a recovery from the journal."""
        if self.known:
            kept = set(ids)
            self.release([id for id in wanted_ids(self._scheduler.core.model, self.number) if id not in kept])

    @property
    def known(self) -> bool:
        """Whether the core knows it already."""
        journal = self._scheduler.journal
        return self._number >= 0 or (journal is not None and self.name in journal.recovered_clients)

    def release(self, ids: list[int]) -> None:
        """Do not want them any more."""
        self._scheduler.core.on_release_ids(self.number, [id for id in ids if id])
        self._scheduler.wake()


def ended_ids(body: bytes | memoryview) -> list[int]:
    """The ids in a STATE frame whose tasks ended, well or not."""
    reader = ColumnReader(body, STATE_COLUMNS)
    ids = memoryview(reader.column_bytes(0)).cast("Q")
    states = reader.column_bytes(1)
    return [id for id, state in zip(ids, states, strict=True) if state != TaskStatus.STATUS_PENDING]
