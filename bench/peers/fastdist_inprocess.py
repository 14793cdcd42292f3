"""fastdist with scheduler, client and two single-threaded workers in this one process.

May import: fastdist, `peers`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peers.fastdist_daemons import call_once, gather, run_graph, submit_map
from peers.processes import Cluster

REQUIREMENTS: tuple[str, ...] = ()
SLOW = False

__all__ = ["REQUIREMENTS", "SLOW", "call_once", "cluster", "gather", "run_graph", "submit_map"]


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start everything in this process; `folder` is not needed."""
    from fastdist import Client

    with Client(processes=False, n_workers=2, threads_per_worker=1) as client:
        yield Cluster(client, {"all": [os.getpid()]})
