"""The workloads: their sizes, their graphs and the right answers.

A graph is a list of nodes in dependency order, which each peer turns into what it knows.
May import: `peers.work`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from peers.work import add, inc, mix, total

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
    "start": Workload("start", "import, first result, close", 1, 1, 1, 1),
}
