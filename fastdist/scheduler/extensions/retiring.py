"""Workers leave in good order: no new work, the data goes to others, what executes may end; then they close.

May import: errors, config, rpc; of this folder `admin`, `copying`, `extension`; `scheduler.membership`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from fastdist import config
from fastdist._core.scheduler.replicas import has_actors
from fastdist.errors import CommClosedError, MessageError
from fastdist.rpc.fields import flag, items, number, text, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.copying import COPIES_PER_REQUEST, held_by, make_copies, spread
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import WorkerEntry

if TYPE_CHECKING:
    from fastdist.scheduler.extensions.admin import Admin
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

Answer = dict[str, Any] | tuple[dict[str, Any], list[Any]]
#: Results that are moved away in one round.
ROWS_PER_ROUND = 10 * COPIES_PER_REQUEST
#: Pauses between two looks at a worker that still executes, or whose data could not be copied.
PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)
#: Rounds in a row in which nothing could be copied, until a retirement is given up.
MAX_VAIN_ROUNDS = 10
#: Seconds that a worker gets to close when it is asked to.
CLOSE_TIMEOUT = 10.0


class Retiring(Extension):
    """Chooses workers that are not needed, and retires workers.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "retiring"

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self._left: dict[int, asyncio.Event] = {}

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {"retire-workers": self.retire_asked, "workers-to-close": self.choose_asked}

    def worker_handlers(self) -> dict[str, Handler]:
        """Operations of workers by name."""
        return {"retire": self.retire_self}

    def nanny_handlers(self) -> dict[str, Handler]:
        """Operations of nannies by name."""
        return {"retire-worker": self.retire_one}

    def worker_gone(self, entry: WorkerEntry, why: str) -> None:
        """Whoever waits for the worker to leave goes on."""
        left = self._left.pop(entry.number, None)
        if left is not None:
            left.set()

    # -- operations --------------------------------------------------------------------------------------------------

    async def retire_asked(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Handler of `retire-workers`."""
        self.scheduler.client_of(peer)
        workers = items(fields, "workers", (str, int)) if fields.get("workers") is not None else None
        names = items(fields, "names", (str, int)) if fields.get("names") is not None else None
        retired = await self.retire_workers(
            workers,
            names=names,
            close_workers=flag(fields, "close_workers", default=True),
            remove=flag(fields, "remove", default=True),
            **self._choice(peer, "retire-workers", fields, buffers),
        )
        return {"workers": retired}

    def choose_asked(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Handler of `workers-to-close`."""
        self.scheduler.client_of(peer)
        return {"workers": self.workers_to_close(**self._choice(peer, "workers-to-close", fields, buffers))}

    def _choice(self, peer: Peer, op: str, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """The arguments of `workers_to_close` that are there."""
        choice: dict[str, Any] = {
            "memory_ratio": number(fields, "memory_ratio", 0.0, default=None),
            "n": whole(fields, "n", -(1 << 31), default=None),
            "minimum": whole(fields, "minimum", default=None),
            "target": whole(fields, "target", default=None),
            "attribute": text(fields, "attribute", 100, default=None),
        }
        if len(buffers) > 1:
            raise MessageError(f"{op} takes one payload, the pickle of key=, not {len(buffers)}")
        if buffers:
            choice["key"] = cast("Admin", self.scheduler.extensions["admin"]).load(peer, op, buffers[0])
        return {name: value for name, value in choice.items() if value is not None}

    async def retire_self(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """A worker wants to leave: its data goes to others first; it closes by itself."""
        entry = self.scheduler.worker_of(peer)
        return {"retired": (await self._retire([entry]))[0]}

    async def retire_one(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """A nanny wants to close: the data of its worker goes to others first."""
        entry = self.scheduler.members.by_address.get(text(fields, "address", 1024))
        return {"retired": entry is not None and (await self._retire([entry]))[0]}

    # -- choosing ----------------------------------------------------------------------------------------------------

    def workers_to_close(
        self,
        memory_ratio: float | None = None,
        n: int | None = None,
        key: Callable[[Any], Any] | None = None,
        minimum: int | None = None,
        target: int | None = None,
        attribute: str = "address",
    ) -> list[Any]:
        """Workers that the cluster can do without: those that idle, with the least data.

        Parameters
        ----------
        memory_ratio : number
            The memory of those that stay has to be so many times the data; 2 by default, unless `n` is given.
        n, target : int
            How many to close, or to keep.
        key : callable
            Of a worker: those with the same value go together.
        minimum : int
            How many have to stay.
        attribute : str
            What to return of each.
        """
        entries = [entry for entry in self.scheduler.members if entry.takes_work]
        views = {entry.number: self.scheduler.core.worker_view(entry.number) for entry in entries}
        if target is not None and n is None:
            n = len(entries) - target
        n = None if n is None else max(0, n)
        if n is None and memory_ratio is None:
            memory_ratio = 2
        if n == 0 or (n is None and all(view["processing"] for view in views.values())):
            return []
        groups: dict[Any, list[WorkerEntry]] = {}
        for entry in entries:
            groups.setdefault(entry.address if key is None else key(entry), []).append(entry)
        ranked = sorted(
            groups.values(),
            key=lambda group: (
                any(views[entry.number]["processing"] for entry in group),
                sum(views[entry.number]["nbytes"] for entry in group),
            ),
        )
        data = sum(view["nbytes"] for view in views.values())
        room = sum(entry.memory_limit for entry in entries)
        left = len(entries)
        chosen: list[WorkerEntry] = []
        for group in ranked:
            if n is None and any(views[entry.number]["processing"] for entry in group):
                break
            left_then = left - len(group)
            room -= sum(entry.memory_limit for entry in group)
            if minimum is not None and left_then < minimum:
                break
            few_enough = n is not None and len(chosen) + len(group) <= n
            if not few_enough and not (memory_ratio is not None and room >= memory_ratio * data and left_then):
                break
            chosen += group
            left = left_then
        return [getattr(entry, attribute) for entry in chosen]

    # -- retiring ----------------------------------------------------------------------------------------------------

    async def retire_workers(
        self,
        workers: Iterable[str | int] | None = None,
        *,
        names: Iterable[str | int] | None = None,
        close_workers: bool = False,
        remove: bool = True,
        **choice: Any,
    ) -> dict[str, Any]:
        """Have workers give their data to others, and take them out of the cluster.

        Parameters
        ----------
        workers, names : iterable
            Addresses, or names; without both, `workers_to_close(**choice)` chooses.
        close_workers : bool
            Whether they are told to close.
        remove : bool
            Whether they are forgotten at once, or when they leave by themselves.

        Returns
        -------
        dict
            What each retired worker was, by address. Those whose data nobody could take are not in it: they go on.

        Raises
        ------
        TypeError
            If more than one of `workers`, `names` and a choice is given.
        """
        if names is not None and workers is not None:
            raise TypeError("names and workers are mutually exclusive")
        if choice and (names is not None or workers is not None):
            raise TypeError(f"{', '.join(choice)} choose workers: leave them out where names or workers are given")
        if names is None and workers is None:
            workers = self.workers_to_close(**{**choice, "attribute": "address"})
        wanted = {str(each) for each in (names if names is not None else workers or ())}
        entries = [
            entry
            for entry in self.scheduler.members
            if not entry.closing and str(entry.name if names is not None else entry.address) in wanted
        ]
        identities = {entry.number: entry.identity() for entry in entries}
        outcomes = await self._retire(entries)
        retired = [entry for entry, done in zip(entries, outcomes, strict=True) if done]
        await asyncio.gather(*(self._see_off(entry, close_workers, remove) for entry in retired))
        return {entry.address: identities[entry.number] for entry in retired}

    async def _retire(self, entries: list[WorkerEntry]) -> list[bool]:
        """Have workers give their data away; False for those whose data nobody can take, which go on then."""
        mine = [entry for entry in entries if not entry.retiring]
        for entry in mine:
            entry.retiring = True
            logger.info("Retire worker %s, name %s", entry.address, entry.name)
            self._tell_running(entry)
        done: set[int] = set()
        try:
            outcomes = await asyncio.gather(
                *(self._empty(entry) if entry in mine else self._retired_by_others(entry) for entry in entries)
            )
            done.update(entry.number for entry, why_not in zip(entries, outcomes, strict=True) if why_not is None)
        finally:
            # Not before all are through: the first that cannot leave would have to take what the others have.
            for entry in mine:
                if entry.number not in done:
                    entry.retiring = False
                    self._tell_running(entry)
        for entry, why_not in zip(entries, outcomes, strict=True):
            if why_not is not None:
                logger.warning("worker %s is not retired: %s", entry.address, why_not)
        return [entry.number in done for entry in entries]

    async def _retired_by_others(self, entry: WorkerEntry) -> str | None:
        """Somebody else retires it already: what came of that."""
        while entry.retiring and entry.number in self.scheduler.members.workers:
            if not self._is_busy(entry) and not self._sole_data(entry):
                return None
            await asyncio.sleep(PAUSES[-1])
        return "it was not retired by who began it" if entry.number in self.scheduler.members.workers else None

    def _tell_running(self, entry: WorkerEntry) -> None:
        if entry.number in self.scheduler.members.workers:
            self.scheduler.core.on_worker_status(entry.number, entry.takes_work)
            self.scheduler.wake()

    def _is_busy(self, entry: WorkerEntry) -> bool:
        return self.scheduler.core.worker_view(entry.number)["processing"] > 0

    def _sole_data(self, entry: WorkerEntry) -> list[Any]:
        """What no worker has that stays."""
        leaving = [each.number for each in self.scheduler.members if each.retiring or each.closing]
        return held_by(self.scheduler, entry, ROWS_PER_ROUND, leaving)

    async def _empty(self, entry: WorkerEntry) -> str | None:
        """Move everything away that only workers hold that leave; the reason if that is impossible."""
        members = self.scheduler.members.workers
        deadline = time.monotonic() + config.get("scheduler.retire-patience")
        vain = looks = 0
        if has_actors(self.scheduler.core.model, entry.number):
            return "it has actors, which cannot be moved"
        while entry.number in members:
            rows = self._sole_data(entry)
            if rows:
                loads = {
                    each.number: self.scheduler.core.worker_view(each.number)["nbytes"]
                    for each in members.values()
                    if each.takes_work
                }
                if not loads:
                    return f"there is no other worker that runs and could take its {len(rows)} results"
                made = await make_copies(self.scheduler, spread(rows, loads))
                vain = 0 if made else vain + 1
                if vain == MAX_VAIN_ROUNDS:
                    return f"{len(rows)} of its results could not be copied to any other worker"
                if made:
                    continue
            elif not self._is_busy(entry) or time.monotonic() > deadline:
                return None
            await asyncio.sleep(PAUSES[min(looks, len(PAUSES) - 1)])
            looks += 1
        return None

    async def _see_off(self, entry: WorkerEntry, close_worker: bool, remove: bool) -> None:
        """Have a retired worker close, and forget it."""
        if entry.number not in self.scheduler.members.workers:
            return
        entry.retired = True
        if close_worker:
            entry.closing = True
            left = self._left.setdefault(entry.number, asyncio.Event())
            try:
                entry.peer.notify("close", reason="retired")
            except CommClosedError:
                return
            if remove:
                try:
                    await asyncio.wait_for(left.wait(), CLOSE_TIMEOUT)
                except (asyncio.TimeoutError, TimeoutError):
                    logger.warning("worker %s did not close within %g s", entry.address, CLOSE_TIMEOUT)
        if remove and entry.number in self.scheduler.members.workers:
            entry.closing = True
            self.scheduler.drop_worker(entry, "retired")
