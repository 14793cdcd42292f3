"""fastdist: a scheduler, two single-threaded workers without nannies, and a client, each a process.

May import: fastdist, `peers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers.processes import Cluster, daemons, timed_session
from peers.work import inc
from peers.workloads import Graph

REQUIREMENTS: tuple[str, ...] = ()  # measured where compare.py runs
SLOW = False
HOLDS_RESULTS = True  # in one scheduler process, until the futures go


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start the processes and connect to them."""
    from fastdist import Client

    scheduler = ["fastdist.cli.scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = ["fastdist.cli.worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
    with daemons(folder, scheduler, worker) as (address, roles), Client(address) as client:
        client.wait_for_workers(2, timeout=30)
        yield Cluster(client, roles)


def submit_map(client: Any, numbers: Sequence[int]) -> Any:
    """One task for each number."""
    return client.map(inc, numbers)


def gather(client: Any, futures: Any) -> list[int]:
    """The results of all tasks."""
    return list(client.gather(futures))


def run_graph(client: Any, graph: Graph, keys: list[str]) -> list[int]:
    """The values of some keys of a graph, submitted as one."""
    dsk = {node.key: (node.function, *node.inputs, *node.literals) for node in graph.nodes}
    # Every node is a task here: this is about what one task costs.
    return list(client.get(dsk, keys, optimize_graph=False))


def call_once(client: Any, number: int) -> int:
    """One task, from the call to its result."""
    return int(client.submit(inc, number, pure=False).result())


def start_times() -> dict[str, float]:
    """Seconds of import, first result and close, with threads and with processes."""
    threads = timed_session("from fastdist import Client", "client = Client(processes=False)")
    processes = timed_session("from fastdist import Client", "client = Client(n_workers=2)")
    return {
        "import": processes["import"],
        "first result, processes=False": threads["first result"],
        "first result, n_workers=2": processes["first result"],
        "close, n_workers=2": processes["close"],
    }
