"""Data that users place by hand: scatter, gather through the scheduler, replicate, rebalance.

Payloads pass through unopened. May import: errors, rpc, _core; of this folder `copying`; `scheduler.membership`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastdist._core.scheduler.reasons import Reason, reason_payload
from fastdist._core.scheduler.replicas import is_scattering
from fastdist.errors import CommClosedError
from fastdist.rpc.fields import flag, ids, items, number, text, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.balancing import Balance, Move, plan_moves
from fastdist.scheduler.extensions.copying import Held, held_by, held_keys, make_copies, spread
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import ClientEntry, WorkerEntry
from fastdist.scheduler.options import worker_restriction

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

Answer = dict[str, Any] | tuple[dict[str, Any], list[Any]]
#: Seconds that a worker gets to answer when a client cannot reach it.
FETCH_TIMEOUT = 300.0
#: Seconds that data gets to arrive after the client that sent it has gone.
ARRIVAL_SECONDS = 5.0
#: Results of one worker that a rebalance without keys looks at.
MAX_MOVES = 100_000


@dataclass
class Announcement:
    """Data that a client is about to put on workers: the client, its id of the data, and where it is sent."""

    client: int
    client_id: int
    addresses: set[str]


class Data(Extension):
    """Scatters, copies and moves data.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "data"

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        #: Announced data that may not have come, by task id.
        self._coming: dict[int, Announcement] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._moving = asyncio.Lock()

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {
            "gather": self.gather,
            "scatter": self.scatter,
            "put": self.put,
            "scatter-failed": self.scatter_failed,
            "replicate": self.replicate_asked,
            "rebalance": self.rebalance_asked,
        }

    async def close(self) -> None:
        """The scheduler closes."""
        for timer in self._timers:
            timer.cancel()

    # -- gather ------------------------------------------------------------------------------------------------------

    async def gather(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Fetch results from the workers for a client that cannot reach them; nothing is opened here."""
        entry = self.scheduler.client_of(peer)
        asked = self.scheduler.core.who_has(entry.number, ids(fields, "ids"))
        found: list[int] = []
        payloads: list[Any] = []
        for task in asked:
            flag_of_task, payload = await self._fetch(task)
            found.append(flag_of_task)
            if flag_of_task:
                payloads.append(payload)
        return {"found": found}, payloads

    async def _fetch(self, task: tuple[int, int, list[str]] | None) -> tuple[int, Any]:
        if task is None:
            return 0, None
        task_id, _, addresses = task
        for address in addresses:
            worker = self.scheduler.members.by_address.get(address)
            if worker is None:
                continue
            try:
                reply = await worker.peer.call("get-data", timeout=FETCH_TIMEOUT, task_ids=[task_id])
            except (CommClosedError, TimeoutError) as error:
                logger.warning("a result could not be fetched from %s for a client: %s", address, error)
                continue
            if reply["found"][0]:
                return reply["found"][0], reply.buffers[0]
        return 0, None

    # -- scatter -----------------------------------------------------------------------------------------------------

    async def scatter(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Say where a client shall put data; it becomes tasks in memory once the workers have stored it."""
        entry = self.scheduler.client_of(peer)
        keys = items(fields, "keys", bytes)
        timeout = number(fields, "patience", 0.0, default=30.0)
        copies_of(fields.get("broadcast"), 1)
        workers = await self._workers_for_data(worker_restriction(fields), timeout)
        copies = copies_of(fields.get("broadcast"), len(workers))
        if peer.closed:
            # The client gave this question up; announced now, the data would be waited for in vain.
            raise CommClosedError("the connection of the client broke while its data waited for a worker")
        first_client_id = whole(fields, "first_client_id", 1)
        known = self.scheduler.core.on_scatter(entry.number, first_client_id, keys)
        self._forget_arrived()
        answer: list[list[Any]] = []
        for position, (task_id, in_memory) in enumerate(known):
            # Neighbours land together: each worker gets a contiguous part.
            first = position * len(workers) // len(keys)
            chosen = [workers[(first + copy) % len(workers)].address for copy in range(copies)]
            answer.append([task_id, [] if in_memory and copies == 1 else chosen])
            if not in_memory:
                self._coming[task_id] = Announcement(entry.number, first_client_id + position, set(chosen))
        if copies > 1:
            self.scheduler.core.on_kept([task_id for task_id, _ in known], copies)
        self.scheduler.wake()
        return {"tasks": answer}

    async def put(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Put data on workers for a client that cannot, or shall not, reach them."""
        self.scheduler.client_of(peer)
        task_ids, keys = ids(fields, "task_ids"), items(fields, "keys", bytes)
        addresses = items(fields, "addresses", (list, tuple))
        if not len(task_ids) == len(keys) == len(addresses) == len(buffers):
            raise ValueError(f"put names {len(task_ids)} tasks and brings {len(buffers)} payloads")
        by_worker: dict[str, list[tuple[int, bytes, Any]]] = {}
        for task_id, key, chosen, payload in zip(task_ids, keys, addresses, buffers, strict=True):
            for address in chosen:
                by_worker.setdefault(address, []).append((task_id, key, payload))
        outcomes = await asyncio.gather(
            *(self._put_on(address, rows) for address, rows in by_worker.items()), return_exceptions=True
        )
        failed = {address for address, outcome in zip(by_worker, outcomes, strict=True) if outcome is not None}
        why = next((str(outcome) for outcome in outcomes if outcome is not None), "")
        return {"lost": [failed.issuperset(chosen) for chosen in addresses], "reason": why}

    async def _put_on(self, address: str, rows: list[tuple[int, bytes, Any]]) -> None:
        worker = self.scheduler.members.by_address.get(address)
        if worker is None:
            raise CommClosedError(f"the worker at {address} has gone")
        await worker.peer.call(
            "put-data",
            timeout=FETCH_TIMEOUT,
            task_ids=[row[0] for row in rows],
            keys=[row[1] for row in rows],
            buffers=[row[2] for row in rows],
        )

    def scatter_failed(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A client could not put what it announced, or never heard where to."""
        client = self.scheduler.client_of(peer).number
        task_ids, client_ids = set(ids(fields, "task_ids")), set(ids(fields, "client_ids"))
        self._forget_arrived()
        mine = [(task_id, each) for task_id, each in self._coming.items() if each.client == client]
        lost = [task_id for task_id, each in mine if task_id in task_ids or each.client_id in client_ids]
        self._fail(lost, text(fields, "reason", 10_000))

    def _fail(self, task_ids: list[int], why: str) -> None:
        payload = reason_payload(
            Reason.LOST_DATA, f"data that was scattered under this key did not arrive: {why}; scatter it again"
        )
        for task_id in task_ids:
            self._coming.pop(task_id, None)
        self.scheduler.core.on_scatter_failed(task_ids, payload)
        self.scheduler.wake()

    def _forget_arrived(self) -> None:
        model = self.scheduler.core.model
        for task_id in [task_id for task_id in self._coming if not is_scattering(model, task_id)]:
            del self._coming[task_id]

    def client_gone(self, entry: ClientEntry) -> None:
        """What a client that has gone had announced must come soon, or not at all."""
        self._forget_arrived()
        orphans = [task_id for task_id, each in self._coming.items() if each.client == entry.number]
        if orphans:
            timer = asyncio.get_running_loop().call_later(
                ARRIVAL_SECONDS, self._give_up, orphans, f"the client {entry.name} that sent it is gone"
            )
            self._timers.add(timer)

    def _give_up(self, task_ids: list[int], why: str) -> None:
        now = asyncio.get_running_loop().time()
        self._timers = {timer for timer in self._timers if timer.when() > now}
        self._forget_arrived()
        self._fail([task_id for task_id in task_ids if task_id in self._coming], why)

    def worker_gone(self, entry: WorkerEntry, why: str) -> None:
        """What was only sent to this worker and has not come never will."""
        self._forget_arrived()
        for each in self._coming.values():
            each.addresses.discard(entry.address)
        lost = [task_id for task_id, each in self._coming.items() if not each.addresses]
        if lost:
            self._fail(lost, f"the worker at {entry.address} was lost: {why}")

    async def _workers_for_data(self, names: tuple[str, ...] | None, timeout: float) -> list[WorkerEntry]:
        deadline = time.monotonic() + timeout
        members = self.scheduler.members
        while True:
            if names is not None and members.workers:
                chosen = members.select(names)
            else:
                chosen = [members.workers[number] for number in self.scheduler.core.least_loaded()]
            running = [entry for entry in chosen if entry.takes_work]
            if running:
                return running
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("No valid workers found")
            await self.scheduler.worker_came(left)

    # -- copies ------------------------------------------------------------------------------------------------------

    async def replicate_asked(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Handler of `replicate`."""
        self.scheduler.client_of(peer)
        await self.replicate(
            items(fields, "keys", bytes),
            whole(fields, "n", 1, default=None),
            worker_restriction(fields),
            whole(fields, "branching_factor", 1, default=2),
            flag(fields, "delete", default=True),
        )
        return {}

    async def replicate(
        self,
        keys: list[bytes],
        n: int | None = None,
        workers: tuple[str, ...] | None = None,
        branching_factor: int = 2,
        delete: bool = True,
    ) -> None:
        """Have `n` of the workers (all by default) hold the data of each key.

        Parameters
        ----------
        keys : list of bytes
            Canonical keys of data that is in memory.
        n : int, optional
            Copies of each.
        workers : tuple, optional
            Addresses, names or hosts of the workers that count.
        branching_factor : int
            How many workers fetch from one holder at a time.
        delete : bool
            Whether copies above `n` are dropped.

        Raises
        ------
        ValueError
            If no worker can take copies.
        KeyError
            If some data is not in memory, or could not be copied.
        """
        async with self._moving:
            members = {entry.number: entry for entry in self.scheduler.members.select(workers) if entry.takes_work}
            if not members:
                raise ValueError("no worker that runs can take copies")
            count = min(n or len(members), len(members))
            while True:
                rows, missing = held_keys(self.scheduler, keys)
                if missing:
                    raise KeyError(f"{len(missing)} of the keys are not in memory: replicate takes finished futures")
                plan = self._copies_to_make(rows, set(members), count, branching_factor)
                if not plan:
                    break
                if not await make_copies(self.scheduler, plan):
                    raise KeyError(f"{sum(map(len, plan.values()))} copies could not be made by any worker")
            if delete:
                self._drop_surplus(rows, set(members), count)
            self.scheduler.core.on_kept([row.task_id for row in rows], count)

    def _copies_to_make(
        self, rows: list[Held], members: set[int], count: int, branching_factor: int
    ) -> dict[int, list[Held]]:
        """One round of copies: each holder serves at most `branching_factor` new ones."""
        loads = self._loads(members)
        plan: dict[int, list[Held]] = {}
        for row in rows:
            missing = count - len(members.intersection(row.holders))
            taken = list(row.holders)
            for _ in range(min(missing, branching_factor * len(row.holders))):
                again = Held(row.task_id, row.key, row.nbytes, tuple(taken))
                for number_of_worker in spread([again], loads):
                    taken.append(number_of_worker)
                    plan.setdefault(number_of_worker, []).append(row)
        return plan

    def _drop_surplus(self, rows: list[Held], members: set[int], count: int) -> None:
        drops: dict[int, list[int]] = {}
        for row in rows:
            among = sorted(members.intersection(row.holders), key=lambda number: self._nbytes(number))
            for number_of_worker in among[count:]:
                drops.setdefault(number_of_worker, []).append(row.task_id)
        for number_of_worker, task_ids in drops.items():
            self.scheduler.core.on_drop_copies(number_of_worker, task_ids)
        self.scheduler.wake()

    def _nbytes(self, number_of_worker: int) -> int:
        return self.scheduler.core.worker_view(number_of_worker)["nbytes"]

    def _loads(self, numbers: set[int]) -> dict[int, int]:
        return {number_of_worker: self._nbytes(number_of_worker) for number_of_worker in numbers}

    # -- balance -----------------------------------------------------------------------------------------------------

    async def rebalance_asked(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Handler of `rebalance`."""
        self.scheduler.client_of(peer)
        keys = items(fields, "keys", bytes) if fields.get("keys") is not None else None
        return await self.rebalance(keys, worker_restriction(fields))

    async def rebalance(
        self, keys: list[bytes] | None = None, workers: tuple[str, ...] | None = None
    ) -> dict[str, Any]:
        """Move data from the fullest workers to the emptiest ones.

        Parameters
        ----------
        keys : list of bytes, optional
            Canonical keys of what may move; everything by default.
        workers : tuple, optional
            The workers among which to move.

        Returns
        -------
        dict
            `status`: `"OK"`, `"missing-data"` (with `keys`), or `"partial-fail"` (with the `keys` that did not move).
        """
        async with self._moving:
            members = [entry for entry in self.scheduler.members.select(workers) if entry.status != "closing"]
            if keys is None:
                held = {entry.number: held_by(self.scheduler, entry, MAX_MOVES) for entry in members}
            else:
                rows, missing = held_keys(self.scheduler, keys)
                if missing:
                    return {"status": "missing-data", "keys": missing}
                held = {entry.number: [row for row in rows if entry.number in row.holders] for entry in members}
            processes = Counter((entry.host, entry.pid) for entry in members)
            moves = plan_moves(
                [
                    Balance.of(
                        entry,
                        self._nbytes(entry.number),
                        held[entry.number],
                        shares_process=processes[entry.host, entry.pid] > 1,
                    )
                    for entry in members
                ]
            )
            return await self._move(moves)

    async def _move(self, moves: list[Move]) -> dict[str, Any]:
        plan: dict[int, list[Held]] = {}
        for move in moves:
            plan.setdefault(move.recipient, []).append(move.row)
        made = await make_copies(self.scheduler, plan)
        drops: dict[int, list[int]] = {}
        failed = []
        for move in moves:
            if (move.recipient, move.row.task_id) in made:
                drops.setdefault(move.sender, []).append(move.row.task_id)
            else:
                failed.append(move.row.key)
        for sender, task_ids in drops.items():
            self.scheduler.core.on_drop_copies(sender, task_ids)
        self.scheduler.wake()
        return {"status": "partial-fail", "keys": failed} if failed else {"status": "OK"}


def copies_of(broadcast: Any, n_workers: int) -> int:
    """How many copies `broadcast` asks for.

    Raises
    ------
    ValueError
        If it is neither a flag nor a number of copies.
    """
    if broadcast is True:
        return n_workers
    if not broadcast:
        return 1
    if type(broadcast) is not int or broadcast < 1:
        raise ValueError(f"broadcast must be true, false or a number of copies, not {broadcast!r}")
    return min(broadcast, n_workers)


