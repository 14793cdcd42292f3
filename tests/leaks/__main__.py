"""What a cluster keeps of work that is done: memory, file descriptors, threads and processes.

    python -m tests.leaks                                # 1 000 000 tasks and 1 000 connections; half a minute
    python -m tests.leaks --tasks 10000000 --clients 10000

A cluster of two workers does the same round of work again and again. After each round, once all is released, the
process of client and scheduler and those of the workers are looked at. Tables of bounded length (histories, say) make
memory go up and down, so what counts is the least of each `GROUP` rounds: the slope is a line through these. It fails
if a process grows by more than the limits, or if a file descriptor, a thread or a process is left.
May import: fastdist, psutil.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import gc
import os
import sys
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from typing import Any

import psutil

from fastdist import Client, LocalCluster

#: Rounds whose least memory is one point; the first such group is for pools and tables to grow to their size.
GROUP = 10
#: MiB that a process may grow by: per million tasks, and per thousand clients that came and went. The scheduler
#: keeps a record of each client, and its coming and going in the events of the last 10 000.
LIMITS = {"tasks": 1.0, "clients": 6.0}


def _increment(number: int) -> int:
    return number + 1


def _trim() -> None:
    """Give back what the allocator keeps, so that growth is what somebody holds."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _count_tasks(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


def _count_data(dask_worker: Any) -> int:
    return len(dask_worker.data)


@dataclass
class Sample:
    """What one process has."""

    mib: float
    descriptors: int
    threads: int


def take_sample(process: psutil.Process) -> Sample:
    """Look at a process."""
    return Sample(process.memory_full_info().uss / 2**20, process.num_fds(), process.num_threads())


@dataclass
class Watch:
    """The processes of a cluster, and what each had after each round."""

    client: Client
    processes: dict[str, psutil.Process]
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def look(self) -> None:
        """Wait until all is released, have every process trim its memory, and take a sample of each."""
        deadline = time.monotonic() + 30
        while self.client.run_on_scheduler(_count_tasks) or any(self.client.run(_count_data).values()):
            if time.monotonic() > deadline:
                raise TimeoutError("what was released is still there after 30 s")
            time.sleep(0.01)
        self.client.run(_trim)
        _trim()
        for name, process in self.processes.items():
            self.samples.setdefault(name, []).append(take_sample(process))


def slope(values: list[float]) -> float:
    """The least-squares line through the values, per step."""
    count = len(values)
    middle, mean = (count - 1) / 2, sum(values) / count
    above = sum((place - middle) * (value - mean) for place, value in enumerate(values))
    return above / sum((place - middle) ** 2 for place in range(count))


def least(samples: list[Sample]) -> list[Sample]:
    """The least that was seen in each group of rounds, without the first group."""
    groups = [samples[start : start + GROUP] for start in range(GROUP, len(samples) - GROUP + 1, GROUP)]
    return [Sample(*(min(values) for values in zip(*map(astuple, group), strict=True))) for group in groups]


def judge(watch: Watch, what: str, per_round: float) -> bool:
    """Print a row for each process; True if nothing leaks."""
    sound = True
    for name, samples in watch.samples.items():
        points = least(samples)
        growth = slope([point.mib for point in points]) / (GROUP * per_round)
        first, last = points[0], points[-1]
        ok = growth < LIMITS[what] and last.descriptors <= first.descriptors and last.threads <= first.threads
        print(
            f"| {what} | {name} | {growth:+.2f} | {first.mib:.1f} -> {last.mib:.1f} | "
            f"{last.descriptors - first.descriptors:+d} | {last.threads - first.threads:+d} | "
            f"{'ok' if ok else 'LEAK'} |",
            flush=True,
        )
        sound = sound and ok
    return sound


def run(watch: Watch, what: str, rounds: int, work: Callable[[], None], per_round: float, *, rows: bool) -> bool:
    """Work, look, and judge."""
    watch.samples.clear()
    begin = time.monotonic()
    for _ in range(rounds):
        work()
        watch.look()
    if rows:
        for name, samples in watch.samples.items():
            print(f"# {name}:", *(f"{sample.mib:.2f}" for sample in samples), file=sys.stderr)
    print(f"# {what}: {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
    return judge(watch, what, per_round)


def _processes(client: Client) -> dict[str, psutil.Process]:
    workers = client.run(os.getpid)
    found = {f"worker {number}": psutil.Process(pid) for number, pid in enumerate(sorted(workers.values()))}
    return {"client and scheduler": psutil.Process(), **found}


def _do_tasks(client: Client, count: int) -> None:
    """Half of the tasks alone, half after one of them; all released in the end."""
    first = client.map(_increment, range(count // 2), pure=False)
    second = client.map(_increment, first, pure=False)
    assert client.gather(second) == list(range(2, count // 2 + 2))


def _do_clients(cluster: LocalCluster, count: int) -> None:
    """Clients that are open at the same time; each has a task run."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(cluster, set_as_default=False)) for _ in range(count)]
        futures = [client.submit(_increment, number, pure=False) for number, client in enumerate(clients)]
        assert [future.result() for future in futures] == list(range(1, count + 1))


def _left(before: Sample, children: set[int]) -> list[str]:
    """What this process has more than before, once the cluster is closed and had a few seconds to end."""
    deadline = time.monotonic() + 10
    while True:
        _trim()
        here = psutil.Process()
        left = [f"process {child.pid}: {child.cmdline()}" for child in here.children(True) if child.pid not in children]
        now = take_sample(here)
        if now.descriptors > before.descriptors:
            left.append(f"{now.descriptors - before.descriptors} file descriptors")
        if now.threads > before.threads:
            left.append(f"{now.threads - before.threads} threads")
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def main(arguments: list[str] | None = None) -> int:
    """Run both parts; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=50, help=f"at least {3 * GROUP}")
    parser.add_argument("--rows", action="store_true", help="print the memory after each round")
    options = parser.parse_args(arguments)
    if options.rounds < 3 * GROUP:
        parser.error(f"a slope needs {3 * GROUP} rounds")
    # The loop of clients, and what is imported late, stay for the life of a process.
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster, Client(cluster) as client:
        _do_tasks(client, 100)
    before, children = take_sample(psutil.Process()), {child.pid for child in psutil.Process().children(True)}
    print("| rounds of | process | MiB per million tasks or thousand clients | MiB | descriptors | threads | |")
    print("|---|---|---|---|---|---|---|")
    sound = True
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as client:
        watch = Watch(client, _processes(client))
        for what, total, unit in (("tasks", options.tasks, 1e6), ("clients", options.clients, 1e3)):
            count = total // options.rounds
            work = functools.partial(_do_tasks, client) if what == "tasks" else functools.partial(_do_clients, cluster)
            sound &= run(watch, what, options.rounds, functools.partial(work, count), count / unit, rows=options.rows)
        if _processes(client) != watch.processes:
            print("a process of the cluster was replaced meanwhile")
            sound = False
    left = _left(before, children)
    print(f"\nleft after the end: {', '.join(left) or 'no file descriptor, thread or process'}")
    return 0 if sound and not left else 1


if __name__ == "__main__":
    sys.exit(main())
