"""Copies of results on further workers: made by the workers themselves, told by the scheduler where to fetch.

What retiring, rebalancing and replicating share. May import: errors, _core, `scheduler.membership`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastdist._core.scheduler.replicas import copies_at
from fastdist.errors import FastdistError
from fastdist.scheduler.membership import WorkerEntry

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

#: Copies that one request to a worker asks for, and bytes, unless a single one is larger.
COPIES_PER_REQUEST = 1_000
BYTES_PER_REQUEST = 64 << 20
#: Seconds until a worker that does not make its copies counts as failed.
COPY_TIMEOUT = 600.0


@dataclass(frozen=True)
class Held:
    """The data of a task, and who has it."""

    task_id: int
    key: bytes
    nbytes: int
    holders: tuple[int, ...]


def held_by(
    scheduler: Scheduler, worker: WorkerEntry, limit: int, leaving: Collection[int] | None = None
) -> list[Held]:
    """What a worker holds; with `leaving`, only what nobody outside of these workers holds."""
    numbers = None if leaving is None else set(leaving)
    rows = copies_at(scheduler.core.model, worker.number, numbers, limit)
    return [Held(task_id, key, nbytes, tuple(holders)) for task_id, key, nbytes, holders in rows]


def held_keys(scheduler: Scheduler, keys: Iterable[bytes]) -> tuple[list[Held], list[bytes]]:
    """The data of these keys, and the keys that are not in memory."""
    found: list[Held] = []
    missing: list[bytes] = []
    by_address = scheduler.members.by_address
    for key in keys:
        view = scheduler.core.task_view(key)
        holders = [by_address[address].number for address in view["who_has"] if address in by_address] if view else []
        if view is None or not holders:
            missing.append(key)
        else:
            found.append(Held(view["id"], key, view["nbytes"], tuple(holders)))
    return found, missing


async def make_copies(
    scheduler: Scheduler, plan: Mapping[int, list[Held]]
) -> set[tuple[int, int]]:
    """Have workers (by number) fetch data; the pairs of worker number and task id that are there now."""
    made: set[tuple[int, int]] = set()
    await asyncio.gather(
        *(_fill(scheduler, number, rows, made) for number, rows in plan.items() if rows), return_exceptions=False
    )
    return made


async def _fill(scheduler: Scheduler, number: int, rows: list[Held], made: set[tuple[int, int]]) -> None:
    for batch in _batches(rows):
        worker = scheduler.members.workers.get(number)
        if worker is None:
            return
        try:
            reply = await worker.peer.call(
                "acquire-replicas",
                timeout=COPY_TIMEOUT,
                task_ids=[row.task_id for row in batch],
                keys=[row.key for row in batch],
                sizes=[row.nbytes for row in batch],
                holders=[_addresses(scheduler, row) for row in batch],
            )
        except (OSError, TimeoutError, asyncio.TimeoutError, FastdistError) as error:
            logger.warning("worker %s could not copy data of others: %s", worker.address, error)
            return
        made.update((number, row.task_id) for row, there in zip(batch, reply["found"], strict=True) if there)


def _addresses(scheduler: Scheduler, row: Held) -> list[str]:
    workers = scheduler.members.workers
    return [workers[number].address for number in row.holders if number in workers]


def _batches(rows: list[Held]) -> Iterable[list[Held]]:
    batch: list[Held] = []
    nbytes = 0
    for row in rows:
        if batch and (len(batch) == COPIES_PER_REQUEST or nbytes + row.nbytes > BYTES_PER_REQUEST):
            yield batch
            batch, nbytes = [], 0
        batch.append(row)
        nbytes += row.nbytes
    if batch:
        yield batch


def spread(rows: Iterable[Held], loads: dict[int, int]) -> dict[int, list[Held]]:
    """A plan that gives each row to the worker with the least bytes that lacks it; `loads` are brought up to date.

    Parameters
    ----------
    rows : iterable of Held
        What shall be copied.
    loads : dict
        Bytes by number of the workers that may take copies.
    """
    plan: dict[int, list[Held]] = {}
    for row in rows:
        choices = [number for number in loads if number not in row.holders]
        if choices:
            number = min(choices, key=lambda number: (loads[number], number))
            loads[number] += row.nbytes + 1
            plan.setdefault(number, []).append(row)
    return plan
