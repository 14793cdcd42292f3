"""The operation by which the scheduler has tasks stopped. May import: `rpc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdist.rpc.fields import flag, items
from fastdist.rpc.peer import Handler, Peer

if TYPE_CHECKING:
    from fastdist.worker.worker import Worker


def stop_handlers(worker: Worker) -> dict[str, Handler]:
    """Operations of the scheduler by name."""

    def stop_tasks(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Interrupt tasks, or only look; which of them execute now."""
        tasks = [(int(task_id), int(attempt)) for task_id, attempt in items(fields, "tasks", (list, tuple))]
        keys = items(fields, "keys", bytes, default=[])
        stopper = worker.execution.stopper
        chosen = stopper.stop(tasks, keys) if flag(fields, "stop") else stopper.executing(tasks, keys)
        return {"executing": chosen}

    return {"stop-tasks": stop_tasks}
