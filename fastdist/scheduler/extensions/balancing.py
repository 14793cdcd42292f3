"""Which data goes where, so that all workers hold about the same: a function of what they hold.

May import: config; of this folder `copying`; `scheduler.membership`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from fastdist import config
from fastdist.scheduler.extensions.copying import Held
from fastdist.scheduler.membership import WorkerEntry


@dataclass
class Balance:
    """A worker as rebalancing sees it."""

    number: int
    #: Bytes, by the measure of the settings.
    load: int
    #: The memory limit; 0 for none.
    limit: int
    #: Whether it may get more.
    takes: bool
    rows: list[Held]

    @classmethod
    def of(cls, entry: WorkerEntry, managed: int, rows: list[Held], shares_process: bool = False) -> Balance:
        """A worker that holds `managed` bytes.

        Parameters
        ----------
        shares_process : bool
            Whether the memory of its process is not its own.
        """
        load = managed
        if config.get("worker.memory.rebalance.measure") in ("optimistic", "process") and not shares_process:
            load = max(managed, int(entry.metrics.get("memory", 0)))
        return cls(entry.number, load, entry.memory_limit, entry.takes_work, rows)


@dataclass(frozen=True)
class Move:
    """One piece of data from one worker to another."""

    sender: int
    recipient: int
    row: Held


def plan_moves(workers: list[Balance]) -> list[Move]:
    """Moves from workers well above the mean to those well below, the fullest and the emptiest first.

    A worker below `sender-min` of its limit gives nothing, one above `recipient-max` gets nothing, and what is within
    half of `sender-recipient-gap` of the mean is left alone (settings `worker.memory.rebalance.*`).
    """
    if len(workers) < 2:
        return []
    sender_min, recipient_max, gap = (
        float(config.get(f"worker.memory.rebalance.{name}") or 0.0)
        for name in ("sender-min", "recipient-max", "sender-recipient-gap")
    )
    mean = sum(worker.load for worker in workers) / len(workers)
    recipients = [
        (worker.load, worker.number, worker)
        for worker in workers
        if worker.takes
        and worker.load < mean - gap * worker.limit / 2
        and (not worker.limit or worker.load < recipient_max * worker.limit)
    ]
    heapq.heapify(recipients)
    moves: list[Move] = []
    for sender in sorted(workers, key=lambda worker: (-worker.load, worker.number)):
        if sender.load <= mean + gap * sender.limit / 2 or sender.load < sender_min * sender.limit:
            continue
        for row in sender.rows:
            if sender.load <= mean + gap * sender.limit / 2 or not recipients:
                break
            moves += _move_one(sender, row, recipients, recipient_max)
    return moves


def _move_one(
    sender: Balance, row: Held, recipients: list[tuple[int, int, Balance]], recipient_max: float
) -> list[Move]:
    """The move of a row to the emptiest worker that lacks it, if both are better off then."""
    passed_over = []
    chosen = None
    while recipients:
        candidate = heapq.heappop(recipients)
        worker = candidate[2]
        after = worker.load + row.nbytes
        if worker.number in row.holders or worker is sender:
            passed_over.append(candidate)
            continue
        if row.nbytes and after < sender.load and (not worker.limit or after <= recipient_max * worker.limit):
            chosen = worker
        else:
            passed_over.append(candidate)
        break
    if chosen is not None:
        chosen.load += row.nbytes
        sender.load -= row.nbytes
        heapq.heappush(recipients, (chosen.load, chosen.number, chosen))
    for candidate in passed_over:
        heapq.heappush(recipients, candidate)
    return [] if chosen is None else [Move(sender.number, chosen.number, row)]
