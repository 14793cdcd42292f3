"""What a task costs the scheduler's core by the number of workers and the size of their frames.

The core alone, with workers that cost next to nothing: each finishes its tasks in order and reports them in DONE frames
of a given number of rows. So two things can be told apart that come together in a large cluster: frames with few
tasks, which cost as much with ten workers, and records that do not fit into a cache. The time is the CPU time of the
calls of the core; the best of some rounds counts.

    python bench/scale_core.py --workers 10 1000 10000 --rows 1 5 50

May import: fastdist._core, bench.simulated.
"""

from __future__ import annotations

import argparse
import gc
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.simulated import NBYTES, RESULT, RESULT_ENDS, ZEROS, columns, frames_of
from fastdist._core.codec.frames import FrameKind
from fastdist._core.scheduler.core import SchedulerCore

SECONDS = struct.pack("<f", 1e-3)
HEADER = 8 + 26 * 8
EPOCH = struct.pack("<Q", 1)


class Cluster:
    """A core, one client and workers that report `rows` tasks a frame; `batch` frames are applied before it acts."""

    def __init__(self, n_workers: int, rows: float, batch: int) -> None:
        self.core = SchedulerCore(1, (1, 2))
        self.client = self.core.on_client("client")
        self.numbers = [self.core.on_worker(f"tcp://10.0.0.1:{port}", 1, False, {}) for port in range(n_workers)]
        self.knows_types = [False] * n_workers
        self.batch = batch
        #: How many rows the next frames have: 1.5 means 1 and 2 in turns.
        self.lengths: Iterator[int] = cycle([int(rows), int(rows + 0.5)])
        #: Tasks that workers were given: (worker, ids, attempts), in the order in which they are finished.
        self.given: deque[tuple[int, bytes, bytes]] = deque()
        self.n_frames = 0

    def done_frame(self, worker: int, ids: bytes, attempts: bytes) -> bytes:
        """Say that these tasks are finished."""
        n = len(attempts) // 4
        types = (b"", b"") if self.knows_types[worker] else (struct.pack("<2I", 0, 3), b"int")
        self.knows_types[worker] = True
        self.n_frames += 1
        ends = RESULT_ENDS[: 4 * (n + 1)]
        return columns(
            n, [EPOCH, ids, attempts, ZEROS[:n], NBYTES * n, SECONDS * n, ZEROS[: 4 * n], ends, RESULT * n, *types]
        )

    def take(self, commands: list[tuple[int, int, int, bytes]]) -> None:
        """Read the RUN frames."""
        for _, worker, kind, body in commands:
            if kind == FrameKind.RUN:
                lengths = struct.unpack_from("<26Q", body, 8)
                end = HEADER + 8 + lengths[1]
                ids, attempts = body[HEADER + 8 : end], body[end : end + lengths[2]]
                first, n = 0, lengths[2] // 4
                while first < n:
                    last = min(n, first + next(self.lengths))
                    self.given.append((worker, ids[8 * first : 8 * last], attempts[4 * first : 4 * last]))
                    first = last

    def run(self, frames: list[bytes]) -> float:
        """Execute the tasks of these frames; the seconds of CPU time that DONE frames and `act` took."""
        for frame in frames:
            self.core.on_tasks(self.client, frame, [], 0.0)
        self.take(self.core.act())
        spent = 0
        clock, core, given = time.thread_time_ns, self.core, self.given
        while given:
            reports = [given.popleft() for _ in range(min(self.batch, len(given)))]
            bodies = [(each[0], self.done_frame(*each)) for each in reports]
            start = clock()
            for worker, body in bodies:
                core.on_done(worker, body)
            commands = core.act()
            spent += clock() - start
            self.take(commands)
        return spent * 1e-9

    def release(self, n_tasks: int) -> float:
        """Let go of everything; the seconds that it took."""
        body = columns(n_tasks, [struct.pack(f"<{n_tasks}Q", *range(1, n_tasks + 1)), b""])
        start = time.thread_time_ns()
        self.core.on_release(self.client, body)
        self.core.act()
        return (time.thread_time_ns() - start) * 1e-9


def measure(n_workers: int, rows: float, batch: int, n_tasks: int, rounds: int) -> float:
    """Print a line; the best microseconds a task."""
    frames = frames_of(n_tasks, None, range(1, n_tasks + 1))
    best, best_release, a_frame = 1e9, 1e9, 0.0
    for _ in range(rounds):
        cluster = Cluster(n_workers, rows, batch)
        gc.collect()
        gc.disable()
        best = min(best, cluster.run(frames) / n_tasks * 1e6)
        best_release = min(best_release, cluster.release(n_tasks) / n_tasks * 1e6)
        gc.enable()
        assert cluster.core.n_tasks() == 0
        a_frame = n_tasks / cluster.n_frames
    print(
        f"{n_workers:6} workers, {a_frame:5.1f} tasks a DONE frame: {best:.2f} us a task, release {best_release:.2f}",
        flush=True,
    )
    return best


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 1000, 10_000])
    parser.add_argument("--rows", type=float, nargs="+", default=[1, 1.5, 5, 50], help="tasks a DONE frame, at most")
    parser.add_argument("--batch", type=int, default=0, help="frames before the core acts; a 10th of the workers")
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for rows in options.rows:
        for n_workers in options.workers:
            batch = options.batch or max(2, n_workers // 10)
            measure(n_workers, rows, batch, options.tasks, options.rounds)


if __name__ == "__main__":
    main()
