"""The methods of Scheduler that move data and workers about: retire, restart, rebalance, replicate.

May import: the layers below and the other modules of this folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist.errors import CommClosedError
from fastdist.rpc.peer import Peer
from fastdist.scheduler.membership import WorkerEntry

if TYPE_CHECKING:
    from fastdist.scheduler.extensions.control import Control
    from fastdist.scheduler.extensions.data import Data
    from fastdist.scheduler.extensions.extension import Extension
    from fastdist.scheduler.extensions.retiring import Retiring
    from fastdist.scheduler.worker_handlers import WorkerHandlers


class ControlCalls:
    """The part of Scheduler that controls workers and where data lies."""

    extensions: dict[str, Extension]
    _workers: WorkerHandlers

    def worker_of(self, peer: Peer) -> WorkerEntry:
        """The registered worker behind a connection.

        Raises
        ------
        PermissionError
            If it has not registered.
        """
        return self._workers.entry(peer)

    def drop_worker(self, entry: WorkerEntry, why: str) -> None:
        """Forget a worker and close its connection; its tasks go elsewhere."""
        self._workers.lose(entry, why)
        entry.peer.abort(CommClosedError(why))

    async def retire_workers(
        self,
        workers: Iterable[str] | None = None,
        *,
        names: Iterable[str | int] | None = None,
        close_workers: bool = False,
        remove: bool = True,
        **choice: Any,
    ) -> dict[str, Any]:
        """Have workers give their data to others and leave; see `extensions.retiring`."""
        return await cast("Retiring", self.extensions["retiring"]).retire_workers(
            workers, names=names, close_workers=close_workers, remove=remove, **choice
        )

    def workers_to_close(self, **choice: Any) -> list[Any]:
        """Workers that the cluster can do without; see `extensions.retiring`."""
        return cast("Retiring", self.extensions["retiring"]).workers_to_close(**choice)

    async def restart(
        self, *, client: str | None = None, timeout: float = 30.0, wait_for_workers: bool = True
    ) -> None:
        """Cancel everything and restart all workers; see `extensions.control`."""
        await cast("Control", self.extensions["control"]).restart(
            client=client, timeout=timeout, wait_for_workers=wait_for_workers
        )

    async def restart_workers(
        self, workers: list[str | int] | None = None, *, timeout: float = 30.0
    ) -> dict[str, str]:
        """Restart some workers; see `extensions.control`."""
        return await cast("Control", self.extensions["control"]).restart_workers(workers, timeout=timeout)

    async def rebalance(
        self, keys: Iterable[Any] | None = None, workers: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Move data from the fullest workers to the emptiest ones; see `extensions.data`."""
        answer = await cast("Data", self.extensions["data"]).rebalance(
            None if keys is None else [encode_key(key) for key in keys],
            None if workers is None else tuple(workers),
        )
        if "keys" in answer:
            answer["keys"] = [decode_key(key) for key in answer["keys"]]
        return answer

    async def replicate(
        self,
        keys: Iterable[Any],
        n: int | None = None,
        workers: Iterable[str] | None = None,
        branching_factor: int = 2,
        delete: bool = True,
    ) -> None:
        """Have several workers hold the same data; see `extensions.data`."""
        await cast("Data", self.extensions["data"]).replicate(
            [encode_key(key) for key in keys],
            n,
            None if workers is None else tuple(workers),
            branching_factor,
            delete,
        )
