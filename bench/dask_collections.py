"""Graphs of real dask collections on fastdist and on dask.distributed: the same frozen graph, in one run.

    python bench/dask_collections.py [--peers fastdist,dask] [--graphs array,bag] [--scale 1.0] [--repetitions 3]

Each run is a new process that starts a scheduler and two workers, builds and optimises the collection, and measures
only `client.get` of the finished graph, after a smaller one has warmed everything up. Shown are the seconds, the
seconds on a core of each role and the peak memory of client and scheduler; `local` runs the graph in a loop, without
any scheduler. Both systems and dask have to be installed here. May import: `peers`, dask.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.processes import cpu_by_role, peak_bytes, reset_peak

HERE = Path(__file__).resolve().parent
PEERS = {"fastdist": "fastdist_daemons", "dask": "dask_distributed"}
Graph = tuple[dict[Any, Any], list[Any]]


def frozen(collection: Any) -> Graph:
    """The finished graph of a collection, and its keys."""
    from dask._expr import FinalizeCompute
    from dask.base import collections_to_expr
    from dask.core import flatten

    expr = FinalizeCompute(collections_to_expr([collection])).optimize()
    return dict(expr.__dask_graph__()), list(flatten(expr.__dask_keys__()))


def array(size: int) -> Graph:
    """`(x + x.T)[::2, n // 2:].mean(axis=1)` in `size` chunks of 10 x 10 numbers."""
    import dask.array as da

    side = max(2, round(size**0.5))
    n = 10 * side
    x = da.random.default_rng(1).random((n, n), chunks=10)
    return frozen((x + x.T)[::2, n // 2 :].mean(axis=1))


def bag(size: int) -> Graph:
    """The words of `size` partitions of a few lines, counted."""
    import dask.bag as db

    lines = ["the quick brown fox", "jumps over the lazy dog", "again and again"] * size
    return frozen(db.from_sequence(lines, npartitions=size).map(str.split).flatten().frequencies())


def series(size: int) -> Graph:
    """The mean by name of `size` days of a time series, one row an hour."""
    import dask
    import pandas as pd

    end = pd.Timestamp("2000-01-01") + pd.Timedelta(days=size)
    frame = dask.datasets.timeseries("2000-01-01", str(end.date()), freq="1h", partition_freq="1D", seed=1)
    # What both systems' clients set or choose; without a client dask would shuffle through the local disk.
    with dask.config.set({"dataframe.shuffle.method": "tasks"}):
        return frozen(frame.groupby("name").x.mean())


def merge(size: int) -> Graph:
    """`size` delayed calls and one that takes them all."""
    from dask import delayed

    return frozen(delayed(sum)([delayed(abs)(-i) for i in range(size)]))


def tree(size: int) -> Graph:
    """`size` delayed calls added in pairs."""
    from operator import add

    from dask import delayed

    level = [delayed(abs)(-i) for i in range(size)]
    while len(level) > 1:
        level = [delayed(add)(*level[i : i + 2]) for i in range(0, len(level) - 1, 2)] + level[
            len(level) & ~1 :
        ]
    return frozen(level[0])


GRAPHS: dict[str, tuple[Callable[[int], Graph], int]] = {
    "array": (array, 10_000),
    "bag": (bag, 10_000),
    "series": (series, 10_000),
    "merge": (merge, 25_000),
    "tree": (tree, 2**15),
}


def measure(peer: str, name: str, scale: float) -> dict[str, Any]:
    """Run one graph on one peer, in this process."""
    import importlib

    import dask

    build, full = GRAPHS[name]
    graph, keys = build(max(4, round(full * scale)))
    warm_graph, warm_keys = build(16)
    if peer == "local":
        start, cpu = time.perf_counter(), time.process_time()
        dask.get(graph, keys)
        seconds = time.perf_counter() - start
        return {"tasks": len(graph), "seconds": seconds, "cpu": {"client": time.process_time() - cpu}}
    module = importlib.import_module(f"peers.{PEERS[peer]}")
    with tempfile.TemporaryDirectory() as folder, module.cluster(Path(folder)) as cluster:
        cluster.client.get(warm_graph, warm_keys)
        watched = [os.getpid(), *cluster.roles["scheduler"]]
        for pid in watched:
            reset_peak(pid)
        before = cpu_by_role(cluster.roles)
        start = time.perf_counter()
        cluster.client.get(graph, keys)
        seconds = time.perf_counter() - start
        after = cpu_by_role(cluster.roles)
        return {
            "tasks": len(graph),
            "seconds": seconds,
            "cpu": {role: after[role] - before[role] for role in before},
            "peak": sum(map(peak_bytes, watched)),
        }


def run(peer: str, name: str, scale: float, timeout: float) -> dict[str, Any]:
    """The same in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder, "token")
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        done = subprocess.run(
            [
                sys.executable,
                str(HERE / "dask_collections.py"),
                "--measure",
                peer,
                name,
                "--scale",
                str(scale),
            ],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "FASTDIST_TOKEN_FILE": str(token), "PYTHONPATH": _python_path()},
        )
    if done.returncode:
        raise SystemExit(f"{peer}, {name}: {done.stderr[-2_000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _python_path() -> str:
    return os.pathsep.join(filter(None, (str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH"))))


def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run that took least time: what else the machine does only adds to it."""
    return min(runs, key=lambda one: one["seconds"])


def main() -> None:
    """Parse the command line, run, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default="local,fastdist,dask")
    parser.add_argument("--graphs", default=",".join(GRAPHS))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--measure", nargs=2, metavar=("PEER", "GRAPH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure, options.scale)))
        return
    peers = options.peers.split(",")
    print("graph    tasks  peer      seconds  us/task  client  scheduler  workers (CPU us/task)  peak MiB")
    for name in options.graphs.split(","):
        runs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
        for _ in range(options.repetitions):
            for peer in peers:
                runs[peer].append(run(peer, name, options.scale, options.timeout))
        for peer in peers:
            show(name, peer, best(runs[peer]))
        if "fastdist" in runs and "dask" in runs:
            ours, theirs = best(runs["fastdist"]), best(runs["dask"])
            memory = ours["peak"] / theirs["peak"]
            print(
                f"{name}: {theirs['seconds'] / ours['seconds']:.1f} x as fast, {memory:.2f} of the peak memory"
            )


def show(name: str, peer: str, one: dict[str, Any]) -> None:
    """One line of the table."""
    n = one["tasks"]
    cpu = "".join(
        f"{1e6 * one['cpu'][role] / n:9.1f}"
        for role in ("client", "scheduler", "worker")
        if role in one["cpu"]
    )
    peak = f"{one['peak'] / 2**20:9.0f}" if "peak" in one else ""
    print(
        f"{name:8} {n:6} {peer:9} {one['seconds']:7.2f} {1e6 * one['seconds'] / n:8.1f} {cpu} {peak}",
        flush=True,
    )


if __name__ == "__main__":
    main()
