"""Static graph analysis: topological order, culling, and the quality of the static order."""

from __future__ import annotations

import random
import time
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdist._core.graph.order import cull, order, topological
from fastdist.errors import CycleError

Graph = dict[object, list[object]]


def arrays(graph: Graph) -> tuple[array[int], array[int]]:
    numbers = {key: number for number, key in enumerate(graph)}
    offsets, edges = array("I", [0]), array("I")
    for needs in graph.values():
        edges.extend(numbers[need] for need in needs)
        offsets.append(len(edges))
    return offsets, edges


def our_order(graph: Graph) -> dict[object, int]:
    return dict(zip(graph, order(*arrays(graph)), strict=True))


def dask_order(graph: Graph) -> dict[object, int]:
    dask_order = pytest.importorskip("dask.order")
    spec = pytest.importorskip("dask._task_spec")
    nodes = {key: spec.Task(key, max, *map(spec.TaskRef, needs)) for key, needs in graph.items()}
    return dask_order.order(nodes)


def peak(graph: Graph, priorities: dict[object, int]) -> int:
    """How many results are held at most if one thread runs the graph; a finished output is gone at once."""
    users = dict.fromkeys(graph, 0)
    for needs in graph.values():
        for need in set(needs):
            users[need] += 1
    held = highest = 0
    for key in sorted(graph, key=priorities.__getitem__):
        highest = max(highest, held + 1)
        held += bool(users[key])
        for need in set(graph[key]):
            users[need] -= 1
            held -= not users[need]
    return highest


def assert_valid(graph: Graph, priorities: dict[object, int]) -> None:
    assert sorted(priorities.values()) == list(range(len(graph)))
    for key, needs in graph.items():
        assert all(priorities[need] < priorities[key] for need in needs)


def tree(leaves: int, fan: int = 2, tag: object = "x") -> Graph:
    graph: Graph = {(tag, 0, i): [] for i in range(leaves)}
    level, width = 0, leaves
    while width > 1:
        above = -(-width // fan)
        for i in range(above):
            graph[tag, level + 1, i] = [(tag, level, j) for j in range(i * fan, min(width, i * fan + fan))]
        level, width = level + 1, above
    return graph


def stencil(width: int, steps: int) -> Graph:
    graph: Graph = {(0, i): [] for i in range(width)}
    for step in range(1, steps):
        for i in range(width):
            graph[step, i] = [(step - 1, j) for j in (i - 1, i, i + 1) if 0 <= j < width]
    return graph


def shared_loads(chunks: int, results: int) -> Graph:
    """Several reductions over the same chunks."""
    graph: Graph = {}
    for i in range(chunks):
        graph["load", i] = []
    for result in range(results):
        for key, needs in tree(chunks, tag=result).items():
            graph[key] = needs or [("load", key[2])]  # type: ignore[index]
    return graph


def shuffle(chunks: int, parts: int) -> Graph:
    graph: Graph = {("load", i): [] for i in range(chunks)}
    graph.update({("split", i, j): [("load", i)] for i in range(chunks) for j in range(parts)})
    graph.update({("join", j): [("split", i, j) for i in range(chunks)] for j in range(parts)})
    return graph


def random_graph(size: int, seed: int, reach: int = 30) -> Graph:
    generator = random.Random(seed)
    graph: Graph = {0: []}
    for i in range(1, size):
        needs = {generator.randrange(max(0, i - reach), i) for _ in range(generator.randrange(4))}
        graph[i] = sorted(needs)
    return graph


GRAPHS = {
    "binary tree": tree(256),
    "wide tree": tree(300, 8),
    "narrow stencil": stencil(16, 60),
    "wide stencil": stencil(100, 8),
    "three reductions": shared_loads(64, 3),
    "ten reductions": shared_loads(64, 10),
    "shuffle": shuffle(20, 20),
    "chain": {i: [i - 1] if i else [] for i in range(50)},
    "independent": {i: [] for i in range(50)},
    "fan out": {0: [], **{i: [0] for i in range(1, 50)}},
    "fan in": {**{i: [] for i in range(50)}, 50: list(range(50))},
    "fan out and in": {0: [], **{i: [0] for i in range(1, 50)}, 50: list(range(1, 50))},
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_order_is_valid_and_holds_no_more_than_that_of_dask(name):
    graph = GRAPHS[name]
    ours = our_order(graph)
    assert_valid(graph, ours)
    assert peak(graph, ours) <= 1.05 * peak(graph, dask_order(graph))


def test_random_graphs_are_ordered_about_as_well_as_by_dask():
    ours = theirs = 0
    for seed in range(20):
        graph = random_graph(300, seed)
        priorities = our_order(graph)
        assert_valid(graph, priorities)
        ours += peak(graph, priorities)
        theirs += peak(graph, dask_order(graph))
    assert ours <= 1.05 * theirs


@pytest.mark.parametrize(("leaves", "most"), [(2, 3), (64, 8), (1024, 12)])
def test_a_binary_tree_holds_one_result_a_level(leaves, most):
    graph = tree(leaves)
    assert peak(graph, our_order(graph)) <= most


def test_subtrees_are_finished_before_new_ones_are_started():
    graph = tree(8)
    priorities = our_order(graph)
    running = sorted(graph, key=priorities.__getitem__)
    assert running[:7] == [
        ("x", 0, 0), ("x", 0, 1), ("x", 1, 0), ("x", 0, 2), ("x", 0, 3), ("x", 1, 1), ("x", 2, 0),
    ]  # fmt: skip


def test_the_hungrier_subtree_comes_first():
    graph: Graph = {"small": [], "top": ["small", ("x", 5, 0)], **tree(32)}
    priorities = our_order(graph)
    assert priorities["small"] == len(graph) - 2


def test_a_result_is_freed_before_the_next_is_made():
    graph: Graph = {}
    for i in range(20):
        graph["load", i], graph["use", i] = [], [("load", i)]
    priorities = our_order(graph)
    assert all(priorities["use", i] == priorities["load", i] + 1 for i in range(20))


def test_ties_are_broken_by_number():
    assert list(order(array("I", [0] * 6), array("I"))) == [0, 1, 2, 3, 4]


def test_the_order_is_the_same_every_time():
    graph = random_graph(500, 3)
    assert order(*arrays(graph)) == order(*arrays(graph))


@st.composite
def acyclic(draw):
    size = draw(st.integers(0, 25))
    return {i: draw(st.lists(st.integers(0, i - 1), max_size=4)) if i else [] for i in range(size)}


@settings(max_examples=300)
@given(acyclic(), st.randoms())
def test_any_acyclic_graph_is_ordered(graph, generator):
    keys = list(graph)
    generator.shuffle(keys)
    shuffled: Graph = {key: graph[key] for key in keys}
    assert_valid(shuffled, our_order(shuffled))
    running = [keys[number] for number in topological(*arrays(shuffled))]
    assert_valid(shuffled, {key: position for position, key in enumerate(running)})


@settings(max_examples=200)
@given(st.integers(1, 20), st.randoms())
def test_a_graph_is_refused_exactly_if_it_has_a_cycle(size, generator):
    graph: Graph = {
        i: [generator.randrange(size) for _ in range(generator.choice([0, 0, 1, 1, 2]))] for i in range(size)
    }
    left = dict(graph)
    while ready := [key for key, needs in left.items() if not any(need in left for need in needs)]:
        for key in ready:
            del left[key]
    for function in (topological, order):
        if not left:
            assert len(function(*arrays(graph))) == size
            continue
        with pytest.raises(CycleError) as caught:
            function(*arrays(graph))
        cycle = caught.value.indices
        for index, node in enumerate(cycle):
            assert cycle[(index + 1) % len(cycle)] in graph[node]
        assert len(set(cycle)) == len(cycle)


def test_a_node_that_needs_itself_is_a_cycle():
    with pytest.raises(CycleError, match="0 -> 0") as caught:
        topological(array("I", [0, 1]), array("I", [0]))
    assert caught.value.indices == (0,)


def test_a_long_cycle_is_shown_in_short():
    graph: Graph = {i: [(i + 1) % 100_000] for i in range(100_000)}
    with pytest.raises(CycleError) as caught:
        topological(*arrays(graph))
    assert len(caught.value.indices) == 100_000
    assert len(str(caught.value)) < 200


def test_culling_keeps_what_the_outputs_need():
    graph: Graph = {"a": [], "b": ["a"], "c": ["a"], "d": ["b"], "e": []}
    offsets, edges = arrays(graph)
    assert list(cull(offsets, edges, array("I", [3]))) == [0, 1, 3]
    assert list(cull(offsets, edges, array("I", [4, 2, 2]))) == [0, 2, 4]
    assert list(cull(offsets, edges, array("I"))) == []
    assert list(cull(*arrays({0: [1], 1: [0], 2: []}), array("I", [0]))) == [0, 1]


@pytest.mark.parametrize(
    ("offsets", "edges"),
    [([], []), ([1], []), ([0, 1], []), ([0, 2, 1], [0]), ([0, 1], [1]), ([0, 0], [0]), ([0, 1], [9])],
)
def test_arrays_that_are_no_graph_are_refused(offsets, edges):
    for function in (topological, order):
        with pytest.raises(ValueError):
            function(array("I", offsets), array("I", edges))


def test_other_inputs_are_refused():
    empty = array("I")
    with pytest.raises(ValueError, match="output 1"):
        cull(array("I", [0, 0]), empty, array("I", [1]))
    with pytest.raises(ValueError, match="32-bit"):
        topological(array("Q", [0]), empty)
    with pytest.raises(ValueError, match="32-bit"):
        topological(b"123", empty)
    with pytest.raises(TypeError):
        topological([0], empty)


def test_a_million_nodes_are_ordered_in_linear_time():
    offsets, edges = arrays(tree(1 << 15))
    start = time.perf_counter()
    order(offsets, edges)
    small = time.perf_counter() - start
    offsets, edges = arrays({i: [i - 1, i // 2] if i else [] for i in range(1 << 20)})
    start = time.perf_counter()
    assert len(order(offsets, edges)) == 1 << 20
    assert time.perf_counter() - start < max(5, 500 * small)
