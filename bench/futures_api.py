"""What waiting and sharing a client cost: `as_completed` against dask.distributed, 32 threads against one.

    python bench/futures_api.py [--tasks 100000] [--peer-tasks 5000] [--threads 32]

Both libraries run a cluster of two worker processes with one thread each; dask.distributed gets fewer tasks, since its
cost per task does not fall with their number. May import: fastdist; dask.distributed, if it is installed.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from operator import neg
from typing import Any

import fastdist


def as_completed_rate(library: Any, client: Any, n: int) -> float:
    """Futures per second of map and a loop over `as_completed`."""
    began = time.perf_counter()
    count = sum(1 for _ in library.as_completed(client.map(neg, range(n))))
    assert count == n
    return n / (time.perf_counter() - began)


def iteration_rate(library: Any, client: Any, n: int) -> float:
    """Futures per second of a loop over `as_completed` alone, the tasks being done."""
    futures = client.map(neg, range(n, 2 * n))
    library.wait(futures)
    began = time.perf_counter()
    assert sum(1 for _ in library.as_completed(futures)) == n
    return n / (time.perf_counter() - began)


def submit_rate(client: Any, n: int, n_threads: int) -> float:
    """Calls of submit per second, by all threads together."""
    each = n // n_threads
    ready = threading.Barrier(n_threads + 1)
    kept: list[Any] = []

    def work(first: int) -> None:
        futures = []
        ready.wait()
        for number in range(first, first + each):
            futures.append(client.submit(neg, number, pure=False))
        kept.append(futures)
        ready.wait()

    threads = [threading.Thread(target=work, args=(index * each,)) for index in range(n_threads)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.perf_counter()
    ready.wait()
    seconds = time.perf_counter() - began
    for thread in threads:
        thread.join()
    for futures in kept:
        client.gather(futures)
    return each * n_threads / seconds


def best(rate: Callable[[], float], rounds: int = 3) -> float:
    """The best of some rounds: others use this machine, too."""
    return max(rate() for _ in range(rounds))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--peer-tasks", type=int, default=5_000)
    parser.add_argument("--threads", type=int, default=32)
    options = parser.parse_args()
    with fastdist.Client(n_workers=2, threads_per_worker=1) as client:
        ours = best(lambda: as_completed_rate(fastdist, client, options.tasks))
        iterating = best(lambda: iteration_rate(fastdist, client, options.tasks))
        one = best(lambda: submit_rate(client, 20_000, 1), 5)
        many = best(lambda: submit_rate(client, 20_000, options.threads), 5)
    print(f"as_completed over {options.tasks}: {ours:,.0f} futures/s; of futures that are done {iterating:,.0f}/s")
    print(f"submit: {one:,.0f}/s in one thread, {many:,.0f}/s in {options.threads}: {many / one:.2f}")
    try:
        import distributed
    except ImportError:
        print("dask.distributed is not installed: nothing to compare with")
        return
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as peer:
        theirs = best(lambda: as_completed_rate(distributed, peer, options.peer_tasks), 2)
    print(f"dask.distributed over {options.peer_tasks}: {theirs:,.0f} futures/s; fastdist is {ours / theirs:.0f} x")


if __name__ == "__main__":
    main()
