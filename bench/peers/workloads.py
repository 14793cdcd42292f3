"""The workloads: their sizes, their graphs and the right answers.

A graph is a list of nodes in dependency order, which each peer turns into what it knows.
May import: `peers.work`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from peers.work import add, chunk, first_number, inc, larger, mix, total

STENCIL_WIDTH = 32


class Node(NamedTuple):
    """One task of a graph: `function(*values of inputs, *literals)`."""

    key: str
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    literals: tuple[int, ...] = ()


class Graph(NamedTuple):
    """Nodes in dependency order, and the keys whose values are wanted."""

    nodes: list[Node]
    keys: list[str]


def merge(size: int) -> Graph:
    """`size` independent tasks and one that takes them all."""
    leaves = [Node(f"leaf-{i}", inc, (), (i,)) for i in range(size)]
    return Graph([*leaves, Node("merged", total, tuple(node.key for node in leaves))], ["merged"])


def tree(size: int) -> Graph:
    """`size` leaves added in pairs, level by level."""
    nodes = [Node(f"leaf-{i}", inc, (), (i,)) for i in range(size)]
    level, depth = [node.key for node in nodes], 0
    while len(level) > 1:
        depth += 1
        pairs = list(zip(level[::2], level[1::2], strict=False))
        above = [Node(f"sum-{depth}-{i}", add, pair) for i, pair in enumerate(pairs)]
        nodes += above
        level = [node.key for node in above] + level[2 * len(pairs) :]
    return Graph(nodes, level)


def stencil(size: int) -> Graph:
    """`size` steps over a ring of cells, each made from itself and its two neighbours one step before."""
    nodes = [Node(f"cell-0-{i}", inc, (), (i,)) for i in range(STENCIL_WIDTH)]
    for step in range(1, size):
        for i in range(STENCIL_WIDTH):
            near = ((i - 1) % STENCIL_WIDTH, i, (i + 1) % STENCIL_WIDTH)
            nodes.append(Node(f"cell-{step}-{i}", mix, tuple(f"cell-{step - 1}-{j}" for j in near)))
    return Graph(nodes, [f"cell-{size - 1}-{i}" for i in range(STENCIL_WIDTH)])


def reduction(size: int) -> Graph:
    """`size` chunks of 1 MiB; the number in each, and these added eight at a time."""
    nodes, level = [], []
    for i in range(size):
        nodes += [Node(f"chunk-{i}", chunk, (), (i,)), Node(f"number-{i}", first_number, (f"chunk-{i}",))]
        level.append(f"number-{i}")
    return Graph(*combined(nodes, level, total))


def large_reduction(size: int) -> Graph:
    """`size` chunks of 1 MiB, of which the larger ones are kept, eight at a time; then the number in the last."""
    nodes = [Node(f"chunk-{i}", chunk, (), (i,)) for i in range(size)]
    nodes, level = combined(nodes, [node.key for node in nodes], larger)
    return Graph([*nodes, Node("largest", first_number, (level[0],))], ["largest"])


def combined(nodes: list[Node], level: list[str], function: Callable[..., Any]) -> tuple[list[Node], list[str]]:
    """The nodes, and above them a tree that takes eight at a time; and the key at its top."""
    depth = 0
    while len(level) > 1:
        depth += 1
        above = [Node(f"level-{depth}-{i}", function, tuple(level[i : i + 8])) for i in range(0, len(level), 8)]
        nodes = [*nodes, *above]
        level = [node.key for node in above]
    return nodes, level


def chain(size: int) -> Graph:
    """`size` tasks, each made from the one before."""
    nodes = [Node("link-0", inc, (), (0,))]
    nodes += [Node(f"link-{i}", inc, (f"link-{i - 1}",)) for i in range(1, size)]
    return Graph(nodes, [f"link-{size - 1}"])


def evaluate(graph: Graph) -> list[int]:
    """The right answers, from a plain loop."""
    values: dict[str, int] = {}
    for node in graph.nodes:
        values[node.key] = node.function(*(values[key] for key in node.inputs), *node.literals)
    return [values[key] for key in graph.keys]


@dataclass(frozen=True)
class Workload:
    """What to run and how big; `slow` is the size for the peers that need a hundred times as long."""

    kind: str
    title: str
    full: int
    slow: int
    quick: int
    smoke: int
    build: Callable[[int], Graph] | None = None
    pinned: bool = False

    def size(self, scale: str, slow_peer: bool) -> int:
        """How big it is at the scale `full`, `quick` or `smoke`; 0 means that it is left out."""
        if scale == "smoke":
            return self.smoke
        if scale == "quick":
            return min(self.quick, self.slow) if slow_peer else self.quick
        return self.slow if slow_peer else self.full


WORKLOADS = {
    "map": Workload("map", "gather(map(inc, range(N)))", 100_000, 10_000, 10_000, 500),
    "map-10k": Workload("map", "the same, 10 000 tasks", 10_000, 10_000, 2_000, 0),
    "map-1m": Workload("map", "the same, 1 000 000 tasks", 1_000_000, 0, 0, 0),
    "merge": Workload("graph", "N tasks -> 1", 10_000, 10_000, 1_000, 200, merge),
    "tree": Workload("graph", "binary tree with N leaves", 2**13, 2**13, 2**10, 2**6, tree),
    "stencil": Workload("graph", "32 cells x N steps, 3 inputs", 300, 300, 30, 5, stencil),
    "chain": Workload("graph", "chain of N tasks in one graph", 2_000, 500, 200, 30, chain),
    "latency": Workload("latency", "submit().result(), one at a time", 2_000, 300, 100, 10),
    "latency-pinned": Workload("latency", "the same, all on one core", 2_000, 300, 100, 10, pinned=True),
    "memory": Workload("memory", "N held futures, then 1 in 1000 of them", 100_000, 10_000, 10_000, 1_000),
    "reduction-memory": Workload(
        "peak", "peak memory of the workers: N chunks of 1 MiB to one number", 2_000, 2_000, 200, 20, reduction
    ),
    "large-reduction-memory": Workload(
        "peak", "the same, the inner nodes of 1 MiB too", 2_000, 2_000, 200, 0, large_reduction
    ),
    "start": Workload("start", "import, first result, close", 1, 1, 1, 1),
}
