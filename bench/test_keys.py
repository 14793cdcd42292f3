"""What keys and graphs cost: canonical bytes, the key table, hashing of calls, ordering, flattening.

Run with `python -m pytest bench/test_keys.py`. The asserts check results, never times.
"""

from __future__ import annotations

from array import array
from operator import add
from typing import Any

import numpy as np
import pytest

from fastdist._core.graph.order import order
from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist._core.keys.hash import KeyMaker, task_key, tokenize
from fastdist._core.keys.table import KeyIndex
from fastdist.client.graph import flatten

CALLS = 10_000
KEYS = 1_000_000
LEAVES = 1 << 13


def by_value(x: int) -> int:
    return x + 1


def tree() -> dict[Any, Any]:
    graph: dict[Any, Any] = {("x", 0, i): (abs, i) for i in range(LEAVES)}
    level, width = 0, LEAVES
    while width > 1:
        level, width = level + 1, width // 2
        for i in range(width):
            graph["x", level, i] = (add, ("x", level - 1, 2 * i), ("x", level - 1, 2 * i + 1))
    graph["total"] = ("x", level, 0)
    return graph


@pytest.mark.parametrize(
    "key", ["inc-0123456789abcdef0123456789abcdef", ("x-0123456789abcdef", 12, 3)], ids=["text", "tuple"]
)
def test_encode_key(benchmark, key):
    assert decode_key(benchmark(encode_key, key)) == key


def test_decode_key(benchmark):
    key = ("x-0123456789abcdef", 12, 3)
    assert benchmark(decode_key, encode_key(key)) == key


ARGUMENTS = {
    "int": (1,),
    "text and float": ("hello", 2.5),
    "list and dict": ([1, 2, 3], {"a": 1, "b": 2}),
    "1 000 ints": (list(range(1000)),),
    "array of 1 MiB": (np.zeros(1 << 17),),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_keys_of_a_map(benchmark, name):
    make_key, args = KeyMaker(abs).key, ARGUMENTS[name]
    calls = CALLS if len(repr(args)) < 100 and name != "array of 1 MiB" else 10
    benchmark.extra_info["calls"] = calls

    def make_keys() -> bytes:
        for _ in range(calls):
            key = make_key(args)
        return key

    assert benchmark(make_keys).startswith(b"sabs-")


@pytest.mark.parametrize("func", [abs, by_value, lambda x: x + 1], ids=["builtin", "importable", "by value"])
def test_key_of_one_task(benchmark, func):
    assert len(benchmark(task_key, func, (1,), None, "name")) == len("name-") + 32


def test_tokenize(benchmark):
    assert len(benchmark(tokenize, 1, "x", [2.5])) == 32


def test_a_million_keys_into_the_table(benchmark):
    keys = [b"sinc-%032x" % i for i in range(KEYS)]

    def insert() -> KeyIndex:
        index = KeyIndex(1, 2)
        index.add_all(keys)
        return index

    assert len(benchmark.pedantic(insert, rounds=3)) == KEYS


def test_finding_keys_in_the_table(benchmark):
    keys = [b"sinc-%032x" % i for i in range(100_000)]
    index = KeyIndex(1, 2)
    index.add_all(keys)
    benchmark(index.add_all, keys)
    assert len(index) == len(keys)


def test_order_of_a_million_nodes(benchmark):
    offsets, edges = array("I", [0]), array("I")
    leaves = 1 << 19
    for node in range(2 * leaves - 1):
        if node >= leaves:
            edges.extend((2 * (node - leaves), 2 * (node - leaves) + 1))
        offsets.append(len(edges))
    assert len(benchmark.pedantic(order, (offsets, edges), rounds=3)) == 2 * leaves - 1


def test_flatten_a_tree_of_legacy_tasks(benchmark):
    graph = tree()
    assert len(benchmark(flatten, graph, ["total"])) == 2 * LEAVES


def test_flatten_a_tree_of_nodes(benchmark):
    spec = pytest.importorskip("dask._task_spec")
    graph = spec.convert_legacy_graph(tree())
    assert len(benchmark(flatten, graph, ["total"])) == 2 * LEAVES
