"""How a cluster learns that its scheduler, in this process, lost a worker.

May import: `fastdist.scheduler`.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from fastdist.scheduler.extensions import Extension
from fastdist.scheduler.membership import WorkerEntry

if TYPE_CHECKING:
    from fastdist.deploy.spec import SpecCluster


class Watch(Extension):
    """Tells the cluster which workers its scheduler lost.

    Parameters
    ----------
    scheduler : Scheduler
    cluster : SpecCluster
    """

    name = "cluster"

    def __init__(self, scheduler: Any, cluster: SpecCluster) -> None:
        super().__init__(scheduler)
        self._cluster = weakref.ref(cluster)

    def worker_gone(self, entry: WorkerEntry, why: str) -> None:
        """A worker has left."""
        cluster = self._cluster()
        if cluster is not None:
            cluster._worker_left(entry.name, for_good=entry.retired)
