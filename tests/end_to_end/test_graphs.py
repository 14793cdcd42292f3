"""`Client.get`: legacy tuples, nodes of dask, keys of any kind, many functions; against the synchronous scheduler."""

from __future__ import annotations

import operator
from typing import Any

import dask
import dask.array as da
import pytest
from dask._task_spec import Alias, DataNode, List, Task, TaskRef

from fastdist import Client, Future


def inc(x: int) -> int:
    return x + 1


def total(*args: Any, **kwargs: Any) -> Any:
    return sum(args) + sum(kwargs.values())


LEGACY: dict[Any, Any] = {
    "x": 1,
    "alias": "x",
    ("y", 0): (inc, "x"),
    ("y", 1): (operator.add, ("y", 0), "alias"),
    "nested": (operator.add, (inc, (inc, "x")), ("y", 1)),
    "list": [("y", 0), ["x", (inc, "x")], 7],
    "of-list": (sum, [("y", 0), ("y", 1), 10]),
    "dict": (dict, [["a", "x"], ["b", ("y", 1)]]),
    b"bytes": (inc, ("y", 0)),
    5: (inc, ("y", 0)),
    "text": "not a key",
}


@pytest.mark.parametrize("key", list(LEGACY), ids=str)
def test_legacy_graphs_give_what_dask_gives(client: Client, key: Any) -> None:
    assert client.get(LEGACY, key) == dask.get(LEGACY, key)


def test_keys_may_be_nested(client: Client) -> None:
    keys = ["x", [("y", 0), [5, "nested"]], []]
    assert client.get(LEGACY, keys) == [1, [2, [3, 6]], []]
    assert client.get(LEGACY, []) == []


def test_nodes_of_dask(client: Client) -> None:
    graph = {
        "a": DataNode("a", 1),
        "b": Task("b", inc, TaskRef("a")),
        "c": Alias("c", "b"),
        "d": Task("d", total, TaskRef("b"), TaskRef("c"), more=TaskRef("a")),
        "e": Task("e", sum, List(TaskRef("a"), TaskRef("d"), Task(None, inc, TaskRef("b")))),
    }
    assert client.get(graph, ["a", "b", "c", "d", "e"]) == [1, 2, 2, 5, 9]
    assert client.get(graph, ["e", "d"]) == list(dask.get(graph, ["e", "d"]))


def test_a_graph_may_use_futures(client: Client) -> None:
    future = client.submit(inc, 10)
    assert client.get({"a": (inc, future), "b": (sum, [future, "a"])}, "b") == 23
    assert client.get({"a": Task("a", inc, TaskRef(future.key))}, "a") == 12


def test_futures_instead_of_results(client: Client) -> None:
    futures = client.get(LEGACY, ["x", [("y", 1)]], sync=False)
    assert isinstance(futures[0], Future)
    assert futures[1][0].key == ("y", 1)
    assert client.gather(futures) == [1, [3]]


def test_a_key_means_what_the_latest_graph_says(client: Client) -> None:
    assert [client.get({"same-key": (inc, number)}, "same-key") for number in range(20)] == list(range(1, 21))


def test_collections_of_dask(client: Client) -> None:
    assert da.ones((100, 100), chunks=10).sum().compute(scheduler=client.get) == 10_000
    parts = [dask.delayed(inc)(i) for i in range(10)]
    assert dask.delayed(sum)(parts).compute(scheduler=client.get) == 55


@pytest.mark.parametrize("count", [2_000, 2_500])
def test_many_functions(client: Client, count: int) -> None:
    functions = [eval(f"lambda x: x + {number}") for number in range(count)]
    graph = {("many", count, number): (function, 1) for number, function in enumerate(functions)}
    assert sum(client.get(graph, list(graph))) == sum(range(count)) + count
    # Again, after the first ones have been forgotten.
    again = {("again", count, number): (function, 2) for number, function in enumerate(functions)}
    assert sum(client.get(again, list(again))) == sum(range(count)) + 2 * count


def test_many_functions_with_the_same_code(client: Client) -> None:
    graph = {("alike", number): ((lambda: lambda x: x + 1)(), number) for number in range(500)}
    assert client.get(graph, list(graph)) == list(range(1, 501))


def test_a_long_chain_and_a_wide_tree(client: Client) -> None:
    chain: dict[Any, Any] = {("chain", 0): 0}
    chain.update({("chain", i): (inc, ("chain", i - 1)) for i in range(1, 2_000)})
    assert client.get(chain, ("chain", 1_999)) == 1_999
    tree: dict[Any, Any] = {("leaf", i): (inc, i) for i in range(1_024)}
    layer = list(tree)
    while len(layer) > 1:
        upper = [("node", len(layer), i) for i in range(len(layer) // 2)]
        tree.update({key: (operator.add, layer[2 * i], layer[2 * i + 1]) for i, key in enumerate(upper)})
        layer = upper
    assert client.get(tree, layer[0]) == sum(range(1, 1_025))


def test_what_a_graph_left_is_released(client: Client, eventually: Any) -> None:
    client.get({f"left-{i}": (inc, i) for i in range(20)}, [f"left-{i}" for i in range(20)])
    assert eventually(lambda: not [key for key in client.who_has() if str(key).startswith("left-")])


def test_an_error_inside_of_a_graph(client: Client) -> None:
    graph = {"zero": 0, "bad": (operator.truediv, 1, "zero"), "after": (inc, "bad")}
    with pytest.raises(ZeroDivisionError):
        client.get(graph, ["zero", "after"])
