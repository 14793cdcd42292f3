"""Runs one workload on one peer, in the peer's own environment: the client process of the measurement.

`python -m peers.drive PEER WORKLOAD SIZE` prints one JSON object as its last line. May import: `peers`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from peers.processes import Cluster, cpu_by_role, peak_bytes, reset_peak, settled_memory
from peers.workloads import WORKLOADS, evaluate

Measured = dict[str, Any]
NEEDED = {
    "map": ("submit_map", "gather"),
    "graph": ("run_graph",),
    "latency": ("call_once",),
    "peak": ("run_graph", "HOLDS_RESULTS"),
    "memory": ("submit_map", "gather", "HOLDS_RESULTS"),
    "start": ("start_times",),
}


def can_run(peer: ModuleType, workload: str) -> bool:
    """Whether the peer has the functions that a workload needs."""
    kind = WORKLOADS[workload].kind
    return all(hasattr(peer, name) for name in NEEDED[kind])


def timed(cluster: Cluster, run: Callable[[], Any]) -> tuple[Any, Measured]:
    """The result of a call, the seconds it took and the seconds on a core of each role."""
    gc.collect()
    before = cpu_by_role(cluster.roles)
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    after = cpu_by_role(cluster.roles)
    return result, {"seconds": seconds, "cpu": {role: after[role] - before[role] for role in before}}


def run_map(peer: ModuleType, cluster: Cluster, size: int) -> Measured:
    """One task for each number, and all results back in the client."""
    numbers = range(size)
    peer.gather(cluster.client, peer.submit_map(cluster.client, range(-1_000, 0)))
    submission: Measured = {}

    def work() -> list[int]:
        start, cpu = time.perf_counter(), time.thread_time()
        futures = peer.submit_map(cluster.client, numbers)
        submission.update(submit_seconds=time.perf_counter() - start, submit_cpu=time.thread_time() - cpu)
        return peer.gather(cluster.client, futures)

    result, measured = timed(cluster, work)
    expect(result, [number + 1 for number in numbers])
    return {**measured, **submission, "tasks": size}


def run_graph(peer: ModuleType, cluster: Cluster, size: int, build: Callable[[int], Any]) -> Measured:
    """One graph, submitted whole."""
    graph, warm_up = build(size), build(8)
    renamed = [
        node._replace(key=f"warm-{node.key}", inputs=tuple(f"warm-{key}" for key in node.inputs))
        for node in warm_up.nodes
    ]
    peer.run_graph(cluster.client, warm_up._replace(nodes=renamed), [f"warm-{key}" for key in warm_up.keys])
    result, measured = timed(cluster, lambda: peer.run_graph(cluster.client, graph, graph.keys))
    expect(result, evaluate(graph))
    return {**measured, "tasks": len(graph.nodes)}


def run_latency(peer: ModuleType, cluster: Cluster, size: int) -> Measured:
    """One task at a time."""
    for number in range(20):
        peer.call_once(cluster.client, -1 - number)
    latencies: list[float] = []

    def work() -> list[int]:
        results = []
        for number in range(size):
            start = time.perf_counter()
            results.append(peer.call_once(cluster.client, number))
            latencies.append(time.perf_counter() - start)
        return results

    result, measured = timed(cluster, work)
    expect(result, [number + 1 for number in range(size)])
    latencies.sort()
    percentiles = {f"p{p}": latencies[min(size - 1, size * p // 100)] for p in (50, 90, 99)}
    return {**measured, **percentiles, "tasks": size}


def run_memory(peer: ModuleType, cluster: Cluster, size: int) -> Measured:
    """What the scheduler needs for tasks that are held, and after nearly all of them are released."""
    (pid,) = cluster.roles["scheduler"]
    peer.gather(cluster.client, peer.submit_map(cluster.client, range(-1_000, 0)))
    start = settled_memory(pid)
    futures = peer.submit_map(cluster.client, range(size))
    expect(peer.gather(cluster.client, futures), list(range(1, size + 1)))
    held = settled_memory(pid)
    kept = futures[::1_000]
    del futures
    gc.collect()
    released = settled_memory(pid, patience=15.0)
    expect(peer.gather(cluster.client, kept), [number + 1 for number in range(0, size, 1_000)])
    return {"bytes_per_task": (held - start) / size, "left_bytes": released - start, "tasks": size}


def run_peak(peer: ModuleType, cluster: Cluster, size: int, build: Callable[[int], Any]) -> Measured:
    """The most memory that the workers ever had, above what they had before a graph."""
    pids = cluster.roles["worker"]
    for pid in pids:
        reset_peak(pid)
    before = sum(peak_bytes(pid) for pid in pids)
    graph = build(size)
    expect(peer.run_graph(cluster.client, graph, graph.keys), evaluate(graph))
    return {"peak_bytes": sum(peak_bytes(pid) for pid in pids) - before, "tasks": len(graph.nodes)}


def expect(result: list[int], wanted: list[int]) -> None:
    """Refuse to report the time of a wrong answer."""
    if result != wanted:
        raise AssertionError(f"wrong results: {result[:5]}... instead of {wanted[:5]}...")


def main() -> None:
    """Run what the command line names."""
    name, workload_name, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    peer = importlib.import_module(f"peers.{name}")
    workload = WORKLOADS[workload_name]
    if workload.pinned:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if workload.kind == "start":
        measured: Measured = {"times": peer.start_times()}
    else:
        with tempfile.TemporaryDirectory() as folder, peer.cluster(Path(folder)) as cluster:
            if workload.kind == "peak":
                assert workload.build is not None
                measured = run_peak(peer, cluster, size, workload.build)
            elif workload.build is not None:
                measured = run_graph(peer, cluster, size, workload.build)
            else:
                runs = {"map": run_map, "latency": run_latency, "memory": run_memory}
                measured = runs[workload.kind](peer, cluster, size)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
