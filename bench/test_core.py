"""The scheduler core alone: nanoseconds a task from TASKS frame to STATE row, with simulated workers.

`pytest bench/test_core.py`; as a script (`python bench/test_core.py`) it prints the parts and the memory.
May import: fastdist._core, bench.simulated, pytest-benchmark.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.simulated import Graph, Simulation, chain, independent, merge, stencil, tree

GRAPHS: dict[str, Callable[[], Graph]] = {
    "independent-10k": lambda: independent(10_000),
    "independent-100k": lambda: independent(100_000),
    "tree-8k": lambda: tree(2**13),
    "chain-2k": lambda: chain(2_000),
    "merge-10k": lambda: merge(10_000),
    "stencil-32x300": lambda: stencil(32, 300),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_core(benchmark, name: str) -> None:
    graph = GRAPHS[name]()

    def prepared() -> tuple[tuple[Simulation], dict]:
        return (Simulation(),), {}

    def run(simulation: Simulation) -> Simulation:
        simulation.run(graph)
        return simulation

    simulation = benchmark.pedantic(run, setup=prepared, rounds=5, warmup_rounds=1)
    assert simulation is None or simulation.reported == len(graph.wanted)
    benchmark.extra_info["tasks"] = graph.n_tasks


def test_release(benchmark) -> None:
    graph = independent(10_000)

    def prepared() -> tuple[tuple[Simulation], dict]:
        simulation = Simulation()
        simulation.run(graph)
        return (simulation,), {}

    def release(simulation: Simulation) -> int:
        simulation.release(graph)
        return simulation.core.n_tasks()

    assert benchmark.pedantic(release, setup=prepared, rounds=5) == 0


def resident_bytes() -> int:
    """Memory of this process that is in use."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def print_parts(graph: Graph, rounds: int = 3) -> None:
    """The median round, in nanoseconds a task."""
    runs = []
    for _ in range(rounds):
        simulation = Simulation()
        simulation.run(graph)
        simulation.release(graph)
        assert (simulation.reported, simulation.core.n_tasks()) == (len(graph.wanted), 0)
        runs.append(simulation.times)
    times = sorted(runs, key=lambda one: one.core)[rounds // 2]
    names = ("core", "on_tasks", "act", "on_done", "on_release", "simulation")
    print(f"{graph.name:24}" + "".join(f"{getattr(times, name) / graph.n_tasks:12.0f}" for name in names))


def print_memory(n: int = 100_000) -> None:
    """Bytes that a finished, held task costs, and what stays after 99.9 % are released."""
    warm_up = Simulation()
    small = independent(1000)
    warm_up.run(small)
    warm_up.release(small)
    graph = independent(n)
    simulation = Simulation()
    before = resident_bytes()
    simulation.run(graph)
    held = resident_bytes()
    simulation.release(graph, [id for id in graph.wanted if id % 1000])
    after = resident_bytes()
    print(f"memory per held task: {(held - before) / n:.0f} bytes")
    print(f"memory left after releasing 99.9 % of {n}: {(after - before) / 2**20:.2f} MiB")


def main() -> None:
    """Print everything."""
    print_memory()
    parts = ("core", "on_tasks", "act", "on_done", "release", "simulation")
    print(f"{'ns per task':24}" + "".join(f"{name:>12}" for name in parts))
    for make in (*GRAPHS.values(), lambda: tree(2**17), lambda: independent(1_000_000)):
        print_parts(make())


if __name__ == "__main__":
    main()
