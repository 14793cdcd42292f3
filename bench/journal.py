"""What a journal costs a scheduler per task, and how long a scheduler takes to go on from one.

    python bench/journal.py                      # cost, and recovery of 10 000 and 1 000 000 tasks
    python bench/journal.py --tasks 10000

The cost is what the calls of the core take longer with a journal in a folder (`--folder`, a temporary one by default),
as the least of several rounds with and without, in turn. May import: fastdist, bench.simulated.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgpack

from bench.simulated import Graph, Simulation, independent, tree
from fastdist.scheduler.journal.facts import FactRecorder
from fastdist.scheduler.journal.folder import JournalFolder
from fastdist.scheduler.journal.reader import Position
from fastdist.scheduler.journal.records import RecordKind
from fastdist.scheduler.journal.shortening import write_snapshot
from fastdist.scheduler.journal.writer import JournalWriter
from fastdist.scheduler.scheduler import Scheduler


class Journaled:
    """A simulation whose core keeps a journal."""

    def __init__(self, path: str) -> None:
        self.simulation = Simulation()
        self.folder = JournalFolder(path)
        self.writer = JournalWriter(self.folder, Position())
        core = self.simulation.core
        for name in ("worker-0", "worker-1"):
            self.writer.add(RecordKind.FACT, msgpack.packb(["worker", [name, True]]))
        # The simulation registered its client before anybody listened.
        self.writer.add(RecordKind.EVENT, msgpack.packb(["on_client", ["client"]]))
        self.writer.add(RecordKind.FACT, msgpack.packb(["client", [0, "client", True, {}]]))
        core.recorder = FactRecorder(core, self.writer.add, self.writer.flush)

    def close(self) -> int:
        """Bytes that were written."""
        self.writer.close()
        self.folder.close()
        return self.writer.n_bytes


def cost(name: str, graph: Graph, folder: str, rounds: int) -> None:
    """Print nanoseconds a task, from TASKS frame to release, without and with a journal."""
    without: list[float] = []
    within: list[float] = []
    size = 0
    for number in range(rounds):
        simulation = Simulation()
        simulation.run(graph)
        simulation.release(graph)
        without.append(simulation.times.core)
        journaled = Journaled(os.path.join(folder, f"cost-{name}-{number}"))
        journaled.simulation.run(graph)
        journaled.simulation.release(graph)
        within.append(journaled.simulation.times.core)
        size = journaled.close()
    before, after = min(without) / graph.n_tasks, min(within) / graph.n_tasks
    print(
        f"{name:18} core {before:6.0f} ns a task, with a journal {after:6.0f}: {after - before:+6.0f} ns, "
        f"{size / graph.n_tasks:.0f} bytes a task"
    )


def recovery(n_tasks: int, folder: str) -> None:
    """Print how long a scheduler takes until it knows again what is in a journal, and in its snapshot."""
    path = os.path.join(folder, f"recovery-{n_tasks}")
    journaled = Journaled(path)
    journaled.simulation.run(independent(n_tasks))
    size = journaled.close()
    del journaled
    gc.collect()
    from_log = recover(path, n_tasks)
    begun = time.perf_counter()
    snapshot = write_snapshot(path, max(JournalFolder(path, shared=True).logs()) - 1)
    shortening = time.perf_counter() - begun
    from_snapshot = recover(path, n_tasks)
    print(
        f"{n_tasks:9} tasks known again after {from_log:.3f} s from a log of {size / 2**20:.1f} MiB, after "
        f"{from_snapshot:.3f} s from its snapshot of {snapshot / 2**20:.1f} MiB, made in {shortening:.2f} s elsewhere"
    )


def recover(path: str, n_tasks: int) -> float:
    """Seconds that `Journal.recover` takes."""
    scheduler = Scheduler(insecure=True, journal=path)
    assert scheduler.journal is not None
    begun = time.perf_counter()
    scheduler.journal.recover()
    taken = time.perf_counter() - begun
    assert scheduler.core.n_tasks() == n_tasks, scheduler.core.n_tasks()
    scheduler.journal.let_go()
    return taken


def main() -> None:
    """Print everything."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--tasks", type=int, nargs="*", default=[10_000, 1_000_000])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--folder")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastdist-journal-", dir=chosen.folder) as folder:
        cost("independent-100k", independent(100_000), folder, chosen.rounds)
        cost("tree-8k", tree(2**13), folder, chosen.rounds)
        for count in chosen.tasks:
            recovery(count, folder)


if __name__ == "__main__":
    main()
