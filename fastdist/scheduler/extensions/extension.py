"""The shape of a part of the scheduler that is not scheduling. May import: `rpc`, `scheduler.membership`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from fastdist.rpc.peer import Handler
from fastdist.scheduler.membership import ClientEntry, WorkerEntry

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler


class Extension:
    """A part of the scheduler that answers operations and hears who comes and goes.

    Parameters
    ----------
    scheduler : Scheduler
        The server that it belongs to.
    """

    #: Where it is found: `scheduler.extensions[name]`.
    name: ClassVar[str]

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {}

    def worker_handlers(self) -> dict[str, Handler]:
        """Operations of workers by name."""
        return {}

    def nanny_handlers(self) -> dict[str, Handler]:
        """Operations of nannies by name."""
        return {}

    def client_came(self, entry: ClientEntry) -> None:
        """A client has registered."""

    def client_gone(self, entry: ClientEntry) -> None:
        """A client has closed, or was given up because it did not return in time."""

    def worker_came(self, entry: WorkerEntry) -> None:
        """A worker has registered."""

    def worker_gone(self, entry: WorkerEntry, why: str) -> None:
        """A worker has left, expected or not."""

    def welcome_worker(self, entry: WorkerEntry, reply: dict[str, Any], buffers: list[Any]) -> None:
        """A worker is about to get the answer to its registration: put what it has to know into it."""

    def welcome_nanny(self, name: str, reply: dict[str, Any], buffers: list[Any]) -> None:
        """The same for a nanny, by the name that its workers give as their nanny."""

    async def started(self) -> None:
        """The scheduler listens."""

    def write_down(self, change: Any) -> None:
        """Have a change of plain values, which `apply_fact` would take, in the journal if there is one."""
        if self.scheduler.journal is not None:
            self.scheduler.journal.add_fact(self.name, change)

    def apply_fact(self, change: Any) -> None:
        """Apply a change that was noted in an earlier life of the scheduler; nobody is connected yet."""
        raise NotImplementedError(f"{self.name} notes nothing in the journal")

    def facts(self) -> Iterator[Any]:
        """The changes that make what there is out of nothing, for a shorter journal."""
        return iter(())

    def restarted(self) -> None:
        """Everything was cancelled for everybody, and all workers are about to be restarted."""

    async def close(self) -> None:
        """The scheduler closes; workers and clients are still connected."""

    async def closed(self) -> None:
        """The scheduler has closed its connections."""
