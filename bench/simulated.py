"""Workers and clients that cost next to nothing, to measure the scheduler core alone.

Graphs become TASKS frames beforehand; a simulated worker turns a RUN frame into the DONE frame of a worker that has
finished all of it, by slices of whole columns. The time spent in each method of the core is added up.
May import: fastdist._core, the standard library.
"""

from __future__ import annotations

import itertools
import struct
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fastdist._core.codec.frames import FrameKind
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.core import SchedulerCore

EPOCH = 1
FRAME_TASKS = 10_000
FUNCTION = b"h" * 16 + b"a pickled function"
ARGUMENTS = b"\x01\x00\x0d\x01\x03\x07"
RESULT = b"\x01\x00\x03\x08"
NBYTES = struct.pack("<Q", 28)
SECONDS = struct.pack("<f", 1e-6)
MOST = 200_000
RESULT_ENDS = memoryview(array("I", range(0, len(RESULT) * (MOST + 1), len(RESULT)))).cast("B")
ZEROS = bytes(8 * MOST)


def columns(n_rows: int, parts: Sequence[bytes | memoryview]) -> bytes:
    """A columnar body."""
    pieces = [struct.pack(f"<II{len(parts)}Q", len(parts), n_rows, *map(len, parts))]
    for part in parts:
        pieces += [part, bytes(-len(part) % 8)]
    return b"".join(pieces)


@dataclass
class Graph:
    """A graph as frames: how many tasks, and which client ids a Future stands for."""

    name: str
    n_tasks: int
    frames: list[bytes]
    wanted: Sequence[int]


def offsets(lengths: Iterator[int] | Sequence[int]) -> bytes:
    """An offsets column."""
    return array("I", itertools.accumulate(lengths, initial=0)).tobytes()


def frames_of(n_tasks: int, needs: Callable[[int], Sequence[int]] | None, wanted: range) -> list[bytes]:
    """TASKS frames; `needs` gives the client ids of the inputs of a client id, from 1 on."""
    frames = []
    for first in range(1, n_tasks + 1, FRAME_TASKS):
        ids = range(first, min(first + FRAME_TASKS, n_tasks + 1))
        n = len(ids)
        keys = [encode_key(f"increment-{id:032x}") for id in ids]
        inputs = [needs(id) for id in ids] if needs else [()] * n
        flags = b"" if len(wanted) == n_tasks else bytes(3 if id in wanted else 0 for id in ids)
        parts = [
            struct.pack("<4Q", first, ids[-1] == n_tasks, 1, 0),
            offsets(map(len, keys)),
            b"".join(keys),
            bytes(4 * n),
            offsets([len(ARGUMENTS)] * n),
            ARGUMENTS * n,
            offsets(map(len, inputs)),
            array("Q", itertools.chain.from_iterable(inputs)).tobytes(),
            b"",
            b"",
            flags,
            struct.pack("<2I", 0, len(FUNCTION)),
            FUNCTION,
            b"",
        ]
        frames.append(columns(n, parts))
    return frames


def independent(n: int) -> Graph:
    """`map(inc, range(n))`."""
    wanted = range(1, n + 1)
    return Graph(f"{n} independent", n, frames_of(n, None, wanted), wanted)


def chain(n: int) -> Graph:
    """Each task needs the one before."""
    wanted = range(n, n + 1)
    return Graph(f"chain of {n}", n, frames_of(n, lambda id: (id - 1,) if id > 1 else (), wanted), wanted)


def merge(n: int) -> Graph:
    """One task needs `n` others."""
    wanted = range(n + 1, n + 2)

    def needs(id: int) -> Sequence[int]:
        return range(1, n + 1) if id == n + 1 else ()

    return Graph(f"merge {n} -> 1", n + 1, frames_of(n + 1, needs, wanted), wanted)


def tree(leaves: int) -> Graph:
    """A binary reduction of a power of two, depth first, as the ordering pass would have it."""
    needs: dict[int, tuple[int, ...]] = {}
    stack: list[int] = []
    sizes: list[int] = []
    for _ in range(leaves):
        needs[len(needs) + 1] = ()
        stack.append(len(needs))
        sizes.append(1)
        while len(sizes) > 1 and sizes[-1] == sizes[-2]:
            second, first = stack.pop(), stack.pop()
            needs[len(needs) + 1] = (first, second)
            stack.append(len(needs))
            sizes.append(sizes.pop() + sizes.pop())
    n = len(needs)
    wanted = range(n, n + 1)
    return Graph(f"tree of {leaves} leaves", n, frames_of(n, needs.__getitem__, wanted), wanted)


def stencil(width: int, steps: int) -> Graph:
    """Each task needs its neighbours of the step before."""
    n = width * steps
    wanted = range(n - width + 1, n + 1)

    def needs(id: int) -> Sequence[int]:
        if id <= width:
            return ()
        place = (id - 1) % width
        before = id - 1 - place - width
        return [before + 1 + (place + shift) % width for shift in (-1, 0, 1)]

    return Graph(f"stencil {width} x {steps}", n, frames_of(n, needs, wanted), wanted)


class SimulatedWorker:
    """Finishes everything at once."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.types_sent = False

    def finish(self, run: bytes) -> bytes:
        """The DONE frame that answers a RUN frame."""
        lengths = struct.unpack_from("<26Q", run, 8)
        ids_at = 8 + 26 * 8 + 8
        attempts_at = ids_at + lengths[1]
        n = lengths[2] // 4
        types = (b"", b"") if self.types_sent else (struct.pack("<2I", 0, 3), b"int")
        self.types_sent = True
        view = memoryview(run)
        parts = [
            view[ids_at - 8 : ids_at],
            view[ids_at : ids_at + lengths[1]],
            view[attempts_at : attempts_at + lengths[2]],
            ZEROS[:n],
            NBYTES * n,
            SECONDS * n,
            ZEROS[: 4 * n],
            RESULT_ENDS[: 4 * (n + 1)],
            RESULT * n,
            *types,
        ]
        return columns(n, parts)


@dataclass
class Times:
    """Nanoseconds in each method of the core, and in the simulation."""

    on_tasks: int = 0
    act: int = 0
    on_done: int = 0
    on_release: int = 0
    simulation: int = 0

    @property
    def core(self) -> int:
        """What the core took from the first task to the last result."""
        return self.on_tasks + self.act + self.on_done


@dataclass
class Simulation:
    """A core with a client and workers."""

    n_workers: int = 2
    nthreads: int = 1
    core: SchedulerCore = field(default_factory=lambda: SchedulerCore(EPOCH, (1, 2)))
    times: Times = field(default_factory=Times)
    reported: int = 0

    def __post_init__(self) -> None:
        self.client = self.core.on_client("client")
        self.workers = [
            SimulatedWorker(self.core.on_worker(f"tcp://10.0.0.{number}:1", self.nthreads, False, {}))
            for number in range(self.n_workers)
        ]

    def run(self, graph: Graph) -> Times:
        """Submit the graph frame by frame, and work until nothing is left to do."""
        clock = time.perf_counter_ns
        times = self.times
        frames = list(reversed(graph.frames))
        runs: list[tuple[int, bytes]] = []
        while True:
            start = clock()
            if frames:
                self.core.on_tasks(self.client, frames.pop(), [], 0.0)
            taken = clock()
            commands = self.core.act()
            acted = clock()
            for _, number, kind, body in commands:
                if kind == FrameKind.RUN:
                    runs.append((number, self.workers[number].finish(body)))
                elif kind == FrameKind.STATE:
                    self.reported += struct.unpack_from("<I", body, 4)[0]
            simulated = clock()
            for number, done in runs:
                self.core.on_done(number, done)
            finished = clock()
            times.on_tasks += taken - start
            times.act += acted - taken
            times.simulation += simulated - acted
            times.on_done += finished - simulated
            if not runs and not frames:
                return times
            runs.clear()

    def release(self, graph: Graph, ids: Sequence[int] | None = None) -> None:
        """Release the futures of the graph."""
        wanted = graph.wanted if ids is None else ids
        for first in range(0, len(wanted), FRAME_TASKS):
            part = array("Q", wanted[first : first + FRAME_TASKS]).tobytes()
            body = columns(len(part) // 8, [part, b""])
            start = time.perf_counter_ns()
            self.core.on_release(self.client, body)
            self.core.act()
            self.times.on_release += time.perf_counter_ns() - start
