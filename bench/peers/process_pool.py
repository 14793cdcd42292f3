"""concurrent.futures.ProcessPoolExecutor with two processes, one task a message.

May import: the standard library, `peers`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from peers.processes import Cluster, descendants, timed_session
from peers.work import inc

REQUIREMENTS: tuple[str, ...] = ()
SLOW = True


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start the pool; `folder` is not needed."""
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(inc, range(100)))
        yield Cluster(pool, {"client": [os.getpid()], "worker": list(descendants(os.getpid()))})


def submit_map(client: ProcessPoolExecutor, numbers: Sequence[int]) -> Iterator[int]:
    """One task for each number."""
    return client.map(inc, numbers)


def gather(client: ProcessPoolExecutor, futures: Iterator[int]) -> list[int]:
    """The results of all tasks."""
    return list(futures)


def call_once(client: ProcessPoolExecutor, number: int) -> int:
    """One task, from the call to its result."""
    return client.submit(inc, number).result()


def start_times() -> dict[str, float]:
    """Seconds of import, first result and close."""
    times = timed_session(
        "from concurrent.futures import ProcessPoolExecutor",
        "client = ProcessPoolExecutor(2); client.close = client.shutdown",
    )
    return {
        "import": times["import"],
        "first result, n_workers=2": times["first result"],
        "close, n_workers=2": times["close"],
    }
