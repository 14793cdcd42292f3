"""The cost of the worker for trivial tasks: core and execution thread on prebuilt frames, no connection.

`pytest bench/test_worker.py`; as a script (`python bench/test_worker.py [tasks]`) it prints CPU per task.
"""

from __future__ import annotations

import asyncio
import operator
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from fastdist._core.codec.values import encode_call
from fastdist._core.keys.canonical import encode_key
from fastdist._core.worker.core import WorkerCore
from fastdist.protocol.functions import FunctionCache
from fastdist.worker.execution import Execution
from fastdist.worker.store import DictStore
from tests.core.worker.frames import EPOCH, Row, free_frame, run_frame


def increment(x: int) -> int:
    """The trivial task."""
    return x + 1


def frames(n: int, batch: int) -> tuple[list[bytes], list[bytes]]:
    """RUN frames of `n` trivial tasks, and the FREE frames for them."""
    functions = {1: FunctionCache().serialize_function(operator.neg).payload}
    runs, frees = [], []
    for first in range(0, n, batch):
        ids = range(first + 1, min(first + batch, n) + 1)
        rows = [
            Row(i, key=encode_key(f"increment-{i:032x}"), order=i, arguments=encode_call((i,))[0], flags=1)
            for i in ids
        ]
        runs.append(run_frame(rows, functions if first == 0 else None))
        frees.append(free_frame(ids))
    return runs, frees


class Harness:
    """One worker core with one execution thread and an event loop that nothing else uses."""

    def __init__(self, store=None) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop_thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.loop_thread.start()
        self.core = WorkerCore(EPOCH, 1)
        self.rows = 0
        self.frames = 0
        self.expected = 0
        self.done = threading.Event()
        self.store = DictStore() if store is None else store
        self.execution = Execution(
            self.core, self.store, send=self.send, loop=self.loop, measure=sys.getsizeof
        )
        self.execution.start_threads(1)

    def send(self, body: bytes) -> None:
        self.rows += int.from_bytes(body[4:8], "little")
        self.frames += 1
        if self.rows >= self.expected:
            self.done.set()

    def run(self, runs: list[bytes], n: int) -> None:
        self.rows, self.expected = 0, n
        self.done.clear()
        for body in runs:
            self.core.on_run(body, time.monotonic())
        assert self.done.wait(60), f"{self.rows} of {n} tasks were reported"

    def free(self, frees: list[bytes]) -> None:
        for body in frees:
            for task_id in self.core.on_free(body, time.monotonic()):
                self.store.drop(task_id)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.execution.close)
        assert self.execution.join(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.loop_thread.join()
        self.loop.close()


def test_trivial_tasks(benchmark) -> None:
    """10 000 trivial tasks through core and execution thread."""
    runs, frees = frames(10_000, 10_000)
    harness = Harness()

    def once() -> None:
        harness.run(runs, 10_000)
        harness.free(frees)

    benchmark(once)
    harness.close()


def main() -> None:
    """Print CPU per task."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    for batch in (n, 500):
        runs, frees = frames(n, batch)
        harness = Harness()
        figures = []
        for _ in range(9):
            before = time.process_time(), time.perf_counter()
            harness.run(runs, n)
            harness.free(frees)
            after = time.process_time(), time.perf_counter()
            figures.append(((after[0] - before[0]) / n * 1e6, (after[1] - before[1]) / n * 1e6))
        figures.sort()
        cpu, wall = figures[len(figures) // 2]
        print(f"{n} tasks in frames of {batch}: {cpu:.2f} µs CPU, {wall:.2f} µs wall a task (median of 9)")
        harness.close()


if __name__ == "__main__":
    main()
