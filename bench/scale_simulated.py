"""What a task costs the scheduler with ten workers and with ten thousand: real cores on a virtual clock.

Waves of independent tasks (or of reductions) are submitted, executed and released until there were enough. Every core
is real; no invariant is checked but the number of tasks that were executed, and every result of the last wave. Each
worker executes tasks of the same length, so that it reports as often whether there are many workers or few.

    python bench/scale_simulated.py --workers 10 10000 --tasks 10000000

May import: fastdist.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fastdist._core.codec.frames import TaskStatus
from fastdist.testing.simulation.client import SimulatedClient
from fastdist.testing.simulation.kernel import Kernel
from fastdist.testing.simulation.monitor import Monitor
from fastdist.testing.simulation.network import Network, Weather
from fastdist.testing.simulation.scheduler import SimulatedScheduler
from fastdist.testing.simulation.worker import Machine, SimulatedWorker
from fastdist.testing.simulation.workloads import MAKERS, Graph, Program, Spec


class Uncritical(Monitor):
    """Judges nothing, at no cost."""

    def execution_started(self, worker: SimulatedWorker, task_id: int, attempt: int, spec: Spec) -> None:
        """Nothing."""

    def state_heard(self, client: SimulatedClient, id: int, status: int, local: bool) -> None:
        """Nothing."""

    def outcome_heard(self, client: SimulatedClient, id: int) -> None:
        """Nothing."""

    def waiter_set(self, client: SimulatedClient, id: int) -> None:
        """Nothing."""

    def waiter_left(self, client: SimulatedClient, id: int) -> None:
        """Nothing."""

    def waiter_called(self, client: SimulatedClient, id: int) -> None:
        """Nothing."""

    def core_acted(self, commands: Sequence[tuple[int, int, int, bytes]]) -> None:
        """Nothing."""


class Timed:
    """A scheduler core whose calls are timed."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        for name in ("on_tasks", "on_done", "on_release", "act"):
            setattr(self, name, self._timed(name, getattr(core, name)))

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        clock, seconds, calls = time.perf_counter, self.seconds, self.calls

        def timed(*arguments: Any) -> Any:
            start = clock()
            answer = call(*arguments)
            seconds[name] += clock() - start
            calls[name] += 1
            return answer

        return timed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


class Scale:
    """One cluster.

    Parameters
    ----------
    n_workers : int
    kind : str
        Of the graphs.
    wave : int
        Tasks submitted at a time.
    seconds : float
        What a task takes, on the virtual clock.
    """

    def __init__(self, n_workers: int, kind: str, wave: int, seconds: float) -> None:
        self.kernel = Kernel(1)
        self.program = Program()
        self.monitor = Uncritical(self.program, False, 3)
        self.network = Network(self.kernel, Weather())
        self.scheduler = SimulatedScheduler(self.network, {}, self.monitor)
        self.core = Timed(self.scheduler.core)
        self.scheduler.core = self.core  # type: ignore[assignment]
        self.graph = Graph(MAKERS[kind](random.Random(1), kind, wave))
        for spec in self.graph.specs:
            spec.seconds = seconds
            self.program.add(spec)
        self.workers = [
            SimulatedWorker(Machine(f"m{number}"), self.network, self.program, self.monitor, lambda machine: None)
            for number in range(n_workers)
        ]
        self.client = SimulatedClient("client", self.network, self.program, self.monitor, 1.0)
        self._settle()

    def _settle(self) -> None:
        while self.kernel.step():
            pass

    def run(self, n_tasks: int) -> float:
        """Execute at least so many tasks; the seconds that it took."""
        self.core.seconds.clear()
        self.core.calls.clear()
        self.monitor.executed = 0
        began = time.perf_counter()
        while self.monitor.executed < n_tasks:
            before = self.monitor.executed
            self.client.submit(self.graph)
            self._settle()
            assert self.monitor.executed == before + len(self.graph.specs), "tasks were lost, or executed twice"
            if self.monitor.executed >= n_tasks:
                self._check_results()
            self.client.release(list(self.client.futures))
            self._settle()
        assert self.scheduler.core.n_tasks() == 0
        return time.perf_counter() - began

    def _check_results(self) -> None:
        for key, future in self.client.futures.items():
            assert future.state == TaskStatus.STATUS_FINISHED, f"{key} is not finished"
        values, missing = self.client.table.gather(list(self.client.futures.values()))
        expected = [self.program.expected(key) for key in self.client.futures]
        wrong = sum(value != right for value, right in zip(values, expected, strict=True)) - len(missing)
        assert not wrong, f"{wrong} results are wrong"


def measure(n_workers: int, options: argparse.Namespace) -> float:
    """Measure one cluster and print a line; the microseconds that a task costs the scheduler's core."""
    scale = Scale(n_workers, options.kind, options.wave, options.seconds)
    gc.collect()
    gc.freeze()
    gc.disable()
    scale.run(1)
    seconds = scale.run(options.tasks)
    gc.enable()
    n = scale.monitor.executed
    core = {name: spent / n * 1e6 for name, spent in scale.core.seconds.items()}
    total = sum(core.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{n_workers:6} workers, {n} tasks: scheduler {total:.2f} us a task ("
        + ", ".join(f"{name} {spent:.2f}" for name, spent in sorted(core.items()))
        + f"); {n / scale.core.calls['on_done']:.1f} tasks a DONE frame, {n / scale.core.calls['act']:.0f} a batch; "
        f"everything {seconds / n * 1e6:.1f} us a task, {seconds:.0f} s; peak {peak:.0f} MiB",
        flush=True,
    )
    return total


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 10_000])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--wave", type=int, default=500_000)
    parser.add_argument("--kind", choices=sorted(MAKERS), default="independent")
    parser.add_argument("--seconds", type=float, default=1e-3, help="virtual seconds that a task takes")
    options = parser.parse_args()
    costs = [measure(n_workers, options) for n_workers in options.workers]
    if len(costs) > 1:
        print(f"a task costs the scheduler {costs[-1] / costs[0]:.2f} x with {options.workers[-1]} workers")


if __name__ == "__main__":
    sys.exit(main())
