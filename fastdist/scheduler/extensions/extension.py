"""The shape of a part of the scheduler that is not scheduling. May import: `rpc`, `scheduler.membership`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

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

    async def close(self) -> None:
        """The scheduler closes."""
