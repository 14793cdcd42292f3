"""The workloads of the chaos matrix: each returns how it went, and writes every execution into the ledger.

They run on fastdist and, for comparison, on dask.distributed: the variable CHAOS_SYSTEM says which. May import: the
public names of fastdist, numpy, dask; tests.chaos.ledger.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from typing import Any

from tests.chaos.ledger import note

#: The module that the public names come from.
SYSTEM = os.environ.get("CHAOS_SYSTEM", "fastdist")

BLOCK = 4 << 20
#: The memory of a worker in W6, of three workers; the blocks take three times as much.
W6_LIMIT = 192 << 20
N_BLOCKS = 3 * 3 * W6_LIMIT // BLOCK

#: How many starts the ledger of each workload sees if nothing goes wrong.
TOTALS = {"W1": 10_000, "W2": 4_095, "W3": 64, "W4": 300, "W5": 750, "W6": 2 * N_BLOCKS}


def system() -> Any:
    """The module with Client, Lock, ..."""
    return importlib.import_module(SYSTEM)


class Wrong(AssertionError):
    """A workload ended with another result than it should have."""


def check(condition: object, what: str) -> None:
    """Raise Wrong if the condition does not hold."""
    if not condition:
        raise Wrong(what)


def work(ledger: str, name: str, seconds: float, value: Any) -> Any:
    """A task that takes some time and gives `value`."""
    note(ledger, "start", name)
    time.sleep(seconds)
    note(ledger, "end", name)
    return value


def w1_map(client: Any, ledger: str) -> None:
    """10 000 independent tasks whose results are all wanted."""
    numbers = range(10_000)
    names = [f"w1-{number}" for number in numbers]
    futures = client.map(_double, names, numbers, ledger=ledger, key=names)
    check(client.gather(futures) == [2 * number for number in numbers], "the results of the map")


def _double(name: str, number: int, ledger: str) -> int:
    return int(work(ledger, name, 0.001, 2 * number))


def w2_tree(client: Any, ledger: str) -> None:
    """A binary tree of 2 048 leaves; only its root is wanted."""
    count = 2048
    names = [f"w2-0-{number}" for number in range(count)]
    level = client.map(_leaf, names, range(count), ledger=ledger, key=names)
    depth = 0
    while len(level) > 1:
        depth += 1
        names = [f"w2-{depth}-{number}" for number in range(len(level) // 2)]
        level = client.map(_sum, names, level[0::2], level[1::2], ledger=ledger, key=names)
    check(level[0].result() == count * (count - 1) // 2, "the sum of the tree")


def _leaf(name: str, number: int, ledger: str) -> int:
    return int(work(ledger, name, 0.002, number))


def _sum(name: str, first: int, second: int, ledger: str) -> int:
    return int(work(ledger, name, 0.002, first + second))


def w3_shuffle(client: Any, ledger: str) -> None:
    """A dataframe of 32 partitions, shuffled by tasks; what is in each partition is checked."""
    import dask
    import dask.dataframe as dd
    import pandas as pd

    with dask.config.set({"dataframe.shuffle.method": "tasks", "dataframe.convert-string": False}):
        frames = [
            pd.DataFrame({"x": range(start, start + 2000), "y": 1.0, "part": start // 2000})
            for start in range(0, 64_000, 2000)
        ]
        frame = dd.from_map(_frame, frames, ledger=ledger, meta=frames[0])
        shuffled = frame.assign(z=frame.x % 97).shuffle("z", shuffle_method="tasks")
        meta = pd.DataFrame({"z": [0], "count": [0]})
        counts = client.compute(shuffled.map_partitions(_count, ledger=ledger, meta=meta)).result()
    check(len(counts) == 97, f"each group lies in one partition: {len(counts)} of 97")
    expected = pd.Series(range(64_000)).mod(97).value_counts().sort_index()
    check((counts.set_index("z")["count"].sort_index() == expected).all(), "the size of each group")


def _frame(frame: Any, ledger: str) -> Any:
    return work(ledger, f"w3-in-{frame.part.iloc[0]}", 0.1, frame)


def _count(frame: Any, ledger: str) -> Any:
    counts = frame.groupby("z").size().rename("count").reset_index()
    return work(ledger, f"w3-out-{counts.z.min() if len(counts) else id(frame)}", 0.1, counts)


class Counter:
    """An actor."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        """One more."""
        self.count += 1
        return self.count


def w4_coordination(client: Any, ledger: str) -> None:
    """300 tasks that share a lock, a queue, a variable, an event and an actor."""
    here = system()
    count = 300
    counter = client.submit(Counter, actor=True, workers=["w0"], pure=False).result()
    total = here.Variable("w4-total")
    try:
        # The tasks of a client that died go on for a while.
        total.get(timeout=0.5)
    except TimeoutError:
        total.set(0)
    queue, event = here.Queue("w4-queue"), here.Event("w4-event")
    names = [f"w4-{number}" for number in range(count)]
    futures = client.map(_coordinate, names, range(count), ledger=ledger, key=names)
    event.set()
    for _ in range(20):
        counter.add().result()
    results = client.gather(futures)
    check(results == list(range(count)), "the results of the tasks")
    check(counter.add().result() == 21, "the count of the actor")
    # A task whose process dies in the middle does again what it had done already.
    check(total.get() >= count, f"the variable that all have counted up: {total.get()}")
    seen = set()
    while queue.qsize():
        seen.add(queue.get(timeout=10))
    check(seen == set(range(count)), f"all that was put on the queue: {len(seen)} of {count}")


def _coordinate(name: str, number: int, ledger: str) -> int:
    here = system()
    note(ledger, "start", name)
    here.Event("w4-event").wait()
    time.sleep(0.01)
    with here.Lock("w4-lock"):
        total = here.Variable("w4-total")
        total.set(total.get() + 1)
    here.Queue("w4-queue").put(number)
    note(ledger, "end", name)
    return number


def w5_two_clients(client: Any, ledger: str) -> None:
    """Data on all workers; one client cancels and releases, another goes on."""
    here = system()
    data = client.scatter([list(range(1000 * n, 1000 * n + 1000)) for n in range(10)], broadcast=True)
    with here.Client(client.scheduler.address) as second:
        names = [f"w5-{number}" for number in range(500)]
        futures = client.map(_pick, names, [data[number % 10] for number in range(500)], ledger=ledger, key=names)
        others = [f"w5-other-{number}" for number in range(250)]
        mine = second.map(_other, others, range(250), ledger=ledger, key=others)
        client.cancel(futures[400:])
        del futures[300:]
        expected = [(number % 10) * 1_000_000 + 499_500 for number in range(300)]
        check(client.gather(futures) == expected, "the sums of what was scattered")
        check(second.gather(mine) == list(range(250)), "the results of the second client")


def _pick(name: str, numbers: list[int], ledger: str) -> int:
    return int(work(ledger, name, 0.005, sum(numbers)))


def _other(name: str, number: int, ledger: str) -> int:
    return int(work(ledger, name, 0.005, number))


def w6_spill(client: Any, ledger: str) -> None:
    """Blocks of three times the memory of all workers, then one task for each of them."""
    names = [f"w6-block-{number}" for number in range(N_BLOCKS)]
    blocks = client.map(_block, names, range(N_BLOCKS), ledger=ledger, key=names)
    names = [f"w6-sum-{number}" for number in range(N_BLOCKS)]
    sums = client.map(_byte, names, blocks, ledger=ledger, key=names)
    check(client.gather(sums) == [number % 251 for number in range(N_BLOCKS)], "the content of the blocks")


def _block(name: str, number: int, ledger: str) -> Any:
    import numpy

    return work(ledger, name, 0.005, numpy.full(BLOCK, number % 251, dtype="u1"))


def _byte(name: str, block: Any, ledger: str) -> int:
    value = int(block[0]) if (block == block[0]).all() else -1
    return int(work(ledger, name, 0.005, value))


def probe(client: Any, ledger: str) -> None:
    """After the fault: the cluster has its workers and works."""
    futures = client.map(_double, [f"probe-{number}" for number in range(200)], range(200), ledger=ledger, pure=False)
    check(client.gather(futures) == [2 * number for number in range(200)], "the results after the fault")


RUN: dict[str, Callable[[Any, str], None]] = {
    "W1": w1_map,
    "W2": w2_tree,
    "W3": w3_shuffle,
    "W4": w4_coordination,
    "W5": w5_two_clients,
    "W6": w6_spill,
    "probe": probe,
}
