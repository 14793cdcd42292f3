"""Graphs of tasks that compute something that can be checked, and what may become of each of them.

A task's value is a number made of its key and the values of its inputs, so that a wrong, stale or foreign input shows
in every result behind it. May import: `_core`, the client's
flattening.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from zlib import crc32

import msgpack

from fastdist._core.client.batch import INLINE, WANTED
from fastdist._core.keys.canonical import encode_key
from fastdist.client.flattening import Input

#: More failures than any retry can outlast.
ALWAYS = 1 << 30
MASK = (1 << 61) - 1
#: What a policy says, as in the size column of a failed row of a DONE frame: not again; again after the microseconds in
#: the lower bits; again, on another worker.
FINAL, AGAIN, ELSEWHERE = 1, 1 << 63, 1 << 62


@dataclass
class Spec:
    """One task.

    Attributes
    ----------
    key : str
    inputs : tuple of str
        Keys of tasks that come before it in its graph.
    seconds : float
        How long it executes.
    nbytes : int
        Size of its result.
    failures : int
        How many of its executions raise, the first ones.
    reschedules : int
        How many ask to be placed again, after those.
    retries : int
        What the scheduler may try again.
    verdict : int
        What the policy of the task, which its worker asks, says of a failure: wait, go elsewhere, or give up.
    waits : bool
        Whether it gives its thread back in between.
    options : dict
        Priority, workers and resources, as a submission names them.
    wanted : bool
        Whether the client keeps a future.
    scattered : bool
        Whether it is no task, but data that clients scatter.
    """

    key: str
    inputs: tuple[str, ...] = ()
    seconds: float = 1e-3
    nbytes: int = 28
    failures: int = 0
    reschedules: int = 0
    retries: int = 0
    verdict: int = 0
    waits: bool = False
    options: dict[str, object] = field(default_factory=dict)
    wanted: bool = True
    scattered: bool = False

    def __post_init__(self) -> None:
        self.canonical = encode_key(self.key)
        self.salt = crc32(self.canonical)

    def value(self, inputs: Sequence[int]) -> int:
        """What it returns."""
        total = self.salt
        for value in inputs:
            total = (total * 1_000_003 + value) & MASK
        return total

    @property
    def failure(self) -> bytes:
        """What it raises."""
        return b"raised by " + self.key.encode()


class Rows:
    """The columns of a graph, as a client submits them."""

    def __init__(self, specs: Sequence[Spec]) -> None:
        numbers = {spec.key: number for number, spec in enumerate(specs)}
        #: Keys that are not in the graph: of data that is scattered.
        self.externals = list(dict.fromkeys(key for spec in specs for key in spec.inputs if key not in numbers))
        numbers |= {key: len(specs) + place for place, key in enumerate(self.externals)}
        self.keys = [spec.canonical for spec in specs]
        self.arguments: list[tuple[Any, ...]] = [tuple(map(Input, range(len(spec.inputs)))) for spec in specs]
        self.flags = bytes(WANTED | INLINE if spec.wanted else 0 for spec in specs)
        self.offsets = array("I", [0])
        self.needs = array("I")
        #: Packed options, and for each row 0 or one more than the place of its own.
        self.packed: list[bytes] = []
        self.options: list[int] = []
        for spec in specs:
            self.needs.extend(numbers[key] for key in spec.inputs)
            self.offsets.append(len(self.needs))
            self.options.append(self._option(spec))

    def _option(self, spec: Spec) -> int:
        if not spec.options:
            return 0
        packed = msgpack.packb(spec.options)
        if packed not in self.packed:
            self.packed.append(packed)
        return self.packed.index(packed) + 1


@dataclass
class Graph:
    """Tasks that are submitted together, in dependency order."""

    specs: list[Spec]

    @cached_property
    def rows(self) -> Rows:
        """Its columns."""
        return Rows(self.specs)


class Program:
    """All tasks of a simulation, by key, and what is right for each."""

    def __init__(self) -> None:
        self.specs: dict[str, Spec] = {}
        self.by_canonical: dict[bytes, Spec] = {}
        self._values: dict[str, int] = {}
        self._roots: dict[str, frozenset[str]] = {}

    def add(self, spec: Spec) -> Spec:
        """A new task; its inputs are known already."""
        self.specs[spec.key] = self.by_canonical[spec.canonical] = spec
        self._values[spec.key] = spec.value([self._values[key] for key in spec.inputs])
        roots = frozenset().union(*(self._roots[key] for key in spec.inputs))
        if spec.failures > spec.retries or (spec.failures and spec.verdict == FINAL):
            roots |= {spec.key}
        self._roots[spec.key] = roots
        return spec

    def expected(self, key: str) -> int:
        """The value that a task has, if it has one."""
        return self._values[key]

    def may_raise(self, key: str) -> frozenset[str]:
        """The tasks whose own failure may be the outcome of this one."""
        return self._roots[key]

    def must_fail(self, key: str) -> bool:
        """Whether there cannot be a value."""
        return any(self.specs[root].failures >= ALWAYS for root in self._roots[key])

    def ancestors(self, key: str) -> set[str]:
        """The task and everything that it needs."""
        seen: set[str] = set()
        stack = [key]
        while stack:
            one = stack.pop()
            if one not in seen:
                seen.add(one)
                stack += self.specs[one].inputs
        return seen


Maker = Callable[[random.Random, str, int], list[Spec]]


def independent(dice: random.Random, name: str, size: int) -> list[Spec]:
    """Tasks without inputs."""
    return [Spec(f"{name}-{number}") for number in range(size)]


def chain(dice: random.Random, name: str, size: int) -> list[Spec]:
    """Each task needs the one before; sometimes only the last one is wanted."""
    only_last = dice.random() < 0.5
    return [
        Spec(
            f"{name}-{number}",
            (f"{name}-{number - 1}",) if number else (),
            wanted=not only_last or number == size - 1,
        )
        for number in range(size)
    ]


def tree(dice: random.Random, name: str, size: int) -> list[Spec]:
    """A reduction by two to four at a time."""
    fan_in = dice.randint(2, 4)
    made = [Spec(f"{name}-0-{number}", wanted=False) for number in range(max(1, size * (fan_in - 1) // fan_in))]
    row, level = made, 0
    while len(row) > 1:
        level += 1
        row = [
            Spec(f"{name}-{level}-{place}", tuple(spec.key for spec in row[start : start + fan_in]), wanted=False)
            for place, start in enumerate(range(0, len(row), fan_in))
        ]
        made = made + row
    made[-1].wanted = True
    return made


def stencil(dice: random.Random, name: str, size: int) -> list[Spec]:
    """Each task needs its neighbours of the step before."""
    width = max(3, min(32, int(size**0.5)))
    steps = max(1, size // width)
    return [
        Spec(
            f"{name}-{step}-{place}",
            tuple(f"{name}-{step - 1}-{(place + shift) % width}" for shift in (-1, 0, 1)) if step else (),
            wanted=step == steps - 1,
        )
        for step in range(steps)
        for place in range(width)
    ]


def random_graph(dice: random.Random, name: str, size: int) -> list[Spec]:
    """Each task needs some of those before it, mostly recent ones."""
    made: list[Spec] = []
    for number in range(size):
        count = min(number, dice.choice((0, 0, 1, 1, 2, 2, 3, 5)))
        reach = number if dice.random() < 0.1 else min(number, 12)
        inputs = sorted({number - 1 - dice.randrange(reach) for _ in range(count)}) if reach else []
        made.append(Spec(f"{name}-{number}", tuple(f"{name}-{one}" for one in inputs), wanted=dice.random() < 0.5))
    made[-1].wanted = True
    return made


MAKERS: dict[str, Maker] = {
    "independent": independent,
    "chain": chain,
    "tree": tree,
    "stencil": stencil,
    "random": random_graph,
}
