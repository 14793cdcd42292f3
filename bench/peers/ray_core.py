"""ray: a local node with two cores, its tasks and object references.

May import: ray, `peers`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from peers.processes import Cluster, descendants, timed_in_fresh_process
from peers.work import inc
from peers.workloads import Graph

REQUIREMENTS = ("ray==2.60.0",)
SLOW = True


@cache
def remote(function: Callable[..., Any]) -> Any:
    """The remote twin of a function, made once."""
    import ray

    return ray.remote(function)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start a node whose files lie in the machine's temporary folder (socket paths must be short)."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    try:
        ray.get([remote(inc).remote(number) for number in range(100)])
        yield Cluster(ray, roles())
    finally:
        ray.shutdown()


def roles() -> dict[str, list[int]]:
    """The processes of the node: what schedules, what runs tasks, and what only watches."""
    found: dict[str, list[int]] = {"scheduler": [], "worker": [], "client": [os.getpid()], "other": []}
    for pid, command in descendants(os.getpid()).items():
        words = command.split()
        program = os.path.basename(words[0]) if words else ""
        if program in ("raylet", "gcs_server"):
            found["scheduler"].append(pid)
        elif command.startswith("ray::"):
            found["worker"].append(pid)
        else:
            found["other"].append(pid)
    return found


def submit_map(client: Any, numbers: Sequence[int]) -> list[Any]:
    """One task for each number."""
    return [remote(inc).remote(number) for number in numbers]


def gather(client: Any, futures: list[Any]) -> list[int]:
    """The results of all tasks."""
    return list(client.get(futures))


def run_graph(client: Any, graph: Graph, keys: list[str]) -> list[int]:
    """The values of some keys of a graph, whose tasks refer to each other."""
    references: dict[str, Any] = {}
    for node in graph.nodes:
        inputs = [references[key] for key in node.inputs]
        references[node.key] = remote(node.function).remote(*inputs, *node.literals)
    return list(client.get([references[key] for key in keys]))


def call_once(client: Any, number: int) -> int:
    """One task, from the call to its result."""
    return int(client.get(remote(inc).remote(number)))


def start_times() -> dict[str, float]:
    """Seconds of import, first result and close."""
    init = "ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)"
    first = f"{init}; assert ray.get(ray.remote(inc).remote(1)) == 2"
    setup = "import ray; from peers.work import inc"
    return {
        "import": timed_in_fresh_process("import ray"),
        "first result, n_workers=2": timed_in_fresh_process(first, setup),
        "close, n_workers=2": timed_in_fresh_process("ray.shutdown()", f"{setup}; {first}"),
    }
