"""Data that clients of a simulation announced: what the scheduler's extension for data knows of it, and gives up.

May import: its siblings, the scheduler's core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastdist._core.scheduler.reasons import Reason, reason_payload
from fastdist._core.scheduler.replicas import is_scattering

if TYPE_CHECKING:
    from fastdist.testing.simulation.scheduler import SimulatedScheduler

#: Seconds in which data must come after its client is gone.
ARRIVAL_SECONDS = 5.0
MAX_COPIES = 2


@dataclass
class Announcement:
    """Who sends it, under which id of its own, and to which workers that are there."""

    client: int
    client_id: int
    addresses: list[str]


class Announcements:
    """What is on its way, by task id.

    Parameters
    ----------
    scheduler : SimulatedScheduler
    """

    def __init__(self, scheduler: SimulatedScheduler) -> None:
        self.scheduler = scheduler
        self._coming: dict[int, Announcement] = {}

    def announce(self, client: int, first_id: int, rows: Sequence[tuple[int, bool]]) -> list[tuple[int, list[str]]]:
        """Choose workers for what is not in memory."""
        dice = self.scheduler.kernel.random
        workers = [entry.identity["address"] for entry in self.scheduler.workers.values()]
        self._forget_arrived()
        answer = []
        for client_id, (task_id, in_memory) in enumerate(rows, first_id):
            copies = min(len(workers), dice.randint(1, MAX_COPIES))
            chosen = [] if in_memory else dice.sample(workers, copies)
            answer.append((task_id, chosen))
            if not in_memory:
                self._coming[task_id] = Announcement(client, client_id, list(chosen))
        return answer

    def failed(self, client: int, ids: Sequence[int], client_ids: Sequence[int]) -> None:
        """A client could not put what it announced, or never heard where to."""
        self._forget_arrived()
        mine = [(id, each) for id, each in self._coming.items() if each.client == client]
        self._fail([id for id, each in mine if id in ids or each.client_id in client_ids])

    def client_gone(self, client: int) -> None:
        """What it announced must come soon, or not at all."""
        self._forget_arrived()
        orphans = [id for id, each in self._coming.items() if each.client == client]
        if orphans:
            self.scheduler.process.after(ARRIVAL_SECONDS, self._give_up, orphans)

    def worker_gone(self, address: str) -> None:
        """What was only sent there never comes."""
        self._forget_arrived()
        for each in self._coming.values():
            if address in each.addresses:
                each.addresses.remove(address)
        self._fail([id for id, each in self._coming.items() if not each.addresses])

    def _give_up(self, ids: Sequence[int]) -> None:
        self._forget_arrived()
        self._fail([id for id in ids if id in self._coming])

    def _fail(self, ids: Sequence[int]) -> None:
        for id in ids:
            del self._coming[id]
        if ids:
            self.scheduler.monitor.n_losses += 1
            self.scheduler.core.on_scatter_failed(list(ids), reason_payload(Reason.LOST_DATA, "it did not arrive"))
            self.scheduler.wake()

    def _forget_arrived(self) -> None:
        model = self.scheduler.core.model
        for id in [id for id in self._coming if not is_scattering(model, id)]:
            del self._coming[id]
