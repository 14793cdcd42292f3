"""The logs of the scheduler and of its workers, for clients that ask. May import: `logs`, `rpc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdist.logs import LogRing
from fastdist.rpc.fields import flag, whole
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.options import worker_restriction

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler


class Logs(Extension):
    """The ring of the last lines of this process' log.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "logs"

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self.ring = LogRing()

    def client_handlers(self) -> dict[str, Handler]:
        return {"get-logs": self.give_lines, "get-worker-logs": self.give_lines_of_workers}

    async def started(self) -> None:
        self.ring.__enter__()

    async def close(self) -> None:
        self.ring.close()

    def give_lines(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """(level, line) of the scheduler, newest first."""
        n = whole(fields, "n", default=None)
        return {"lines": self.ring.lines(n, whole(fields, "start", default=0))}

    async def give_lines_of_workers(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """The same of workers or their nannies, by the address of the worker."""
        n = whole(fields, "n", default=None)
        chosen = self.scheduler.members.select(worker_restriction(fields))
        answers = await self.scheduler.broadcast_op(chosen, "get-logs", nanny=flag(fields, "nanny", default=False), n=n)
        logs = {}
        for entry, answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            logs[entry.address] = answer["lines"]
        return {"logs": logs}
