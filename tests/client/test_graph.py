"""Flattening dask graphs: the rows, and that running them gives what dask gives."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import namedtuple
from operator import add, mul
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdist._core.keys.canonical import encode_key
from fastdist.client.flattening import Input
from fastdist.client.graph import FlatGraph, flatten
from fastdist.errors import CycleError, GraphError, MissingKeyError
from fastdist.tasks.template import Argument, Build, Template

Point = namedtuple("Point", "x y")


class ListOfThings(list):  # type: ignore[type-arg]
    pass


class SomeFuture:
    """What a client's Future looks like to the graph."""

    __dask_future__ = True

    def __init__(self, key: Any) -> None:
        self.key = key


class KeyedFuture:
    def __init__(self, key: Any) -> None:
        self.key = key

    @property
    def __fastdist_key__(self) -> bytes:
        return encode_key(self.key)


def inc(x: Any) -> Any:
    return x + 1


def pack(*args: Any, **kwargs: Any) -> Any:
    return "packed", args, kwargs


def fill(value: Any, inputs: list[Any]) -> Any:
    """The value with its placeholders replaced, as the codec does it."""
    kind = type(value)
    if kind is Input:
        return inputs[value.index]
    if kind in (list, tuple, set, frozenset):
        return kind(fill(item, inputs) for item in value)
    if kind is dict:
        return {fill(key, inputs): fill(item, inputs) for key, item in value.items()}
    return value


def run(flat: FlatGraph, external: dict[Any, Any] | None = None) -> list[Any]:
    """Run the rows in order, each as a worker would: function and arguments pickled."""
    results: list[Any] = []
    outside = [(external or {})[key] for key in flat.externals]
    for row in range(len(flat)):
        inputs = []
        for number in flat.dependencies[row]:
            assert number < row or number >= len(flat), "a row comes before one of its dependencies"
            inputs.append(results[number] if number < len(flat) else outside[number - len(flat)])
        function = pickle.loads(pickle.dumps(flat.functions[row]))
        kwargs = fill(flat.kwargs[row] or {}, inputs)
        results.append(function(*fill(flat.args[row], inputs), **kwargs))
    everything = results + outside
    return [everything[number] for number in flat.outputs]


LEGACY: dict[str, dict[Any, Any]] = {
    "literal": {"z": 1},
    "call": {"x": 1, "z": (inc, "x")},
    "call without arguments": {"z": (pack,)},
    "text that is no key": {"z": (pack, "x", "z1")},
    "nested call": {"x": 1, "z": (add, (inc, "x"), (inc, (inc, "x")))},
    "list of keys": {"x": 1, "y": 2, "z": (sum, ["x", "y"])},
    "nested lists": {"x": 1, "y": 2, "z": (pack, ["x", ["y", [3, "x"]]])},
    "calls in a list": {"x": 1, "z": (sum, [(inc, "x"), "x", 10])},
    "tuple that is no call": {"x": 1, "z": (pack, ("x", 2), ())},
    "tuple key": {("x", 0): 1, ("x", 1): 2, "z": (add, ("x", 0), ("x", 1))},
    "nested tuple key": {(("x", 0), 1): 1, "z": (inc, (("x", 0), 1))},
    "int key": {1: 5, "z": (pack, 1, 2)},
    "float key": {1.5: 5, "z": (pack, 1.5)},
    "set and frozenset": {"x": 1, "z": (pack, {"x", 5}, frozenset({"x"}))},
    "dict is opaque": {"x": 1, "z": (pack, {"x": "x", "y": ["x"]})},
    "alias": {"x": 1, "y": "x", "z": (inc, "y")},
    "alias as output": {"x": 1, "z": "x"},
    "alias chain": {"x": (inc, 1), "a": "x", "b": "a", "z": "b"},
    "list as value": {"x": 1, "z": ["x", 2, (inc, "x")]},
    "literal list": {"z": [1, 2, "a"]},
    "tuple as value": {"x": 1, "z": ("x", 2)},
    "dict as value": {"x": 1, "z": {"a": "x"}},
    "None": {"z": None},
    "namedtuple": {"x": 1, "z": (pack, Point("x", (inc, "x")))},
    "literal namedtuple": {"z": (pack, Point(1, 2))},
    "list subclass": {"z": (pack, ListOfThings([1, 2]))},
    "same input twice": {"x": 1, "z": (add, "x", "x")},
    "class as function": {"x": 1, "z": (list, ["x", "x"])},
    "call in call in list": {"x": 1, "y": 2, "z": (pack, [[(add, "y", (inc, "x"))]], "x")},
    "slice": {"x": [1, 2, 3], "z": (list.__getitem__, "x", slice(1, None))},
    "bool": {"z": (pack, True, None, 1j)},
    "unhashable": {"z": (pack, ([1], 2))},
    "diamond": {"a": 1, "b": (inc, "a"), "c": (inc, "a"), "z": (add, "b", "c")},
}


@pytest.mark.parametrize("name", LEGACY)
def test_legacy_graphs_mean_what_they_mean_to_dask(name):
    dask = pytest.importorskip("dask")
    graph = LEGACY[name]
    expected = dask.get(graph, "z")
    (found,) = run(flatten(graph, ["z"]))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("name", LEGACY)
def test_converted_graphs_mean_what_they_mean_to_dask(name):
    spec = pytest.importorskip("dask._task_spec")
    dask = pytest.importorskip("dask")
    graph = spec.convert_legacy_graph(LEGACY[name])
    (found,) = run(flatten(graph, ["z"]))
    assert found == dask.get(LEGACY[name], "z")


def test_plain_calls_become_plain_rows():
    flat = flatten({"x": (inc, 1), "z": (pack, "x", ["x", 2], 3)}, ["z"])
    assert flat.keys == ["x", "z"]
    assert flat.key_bytes == [b"sx", b"sz"]
    assert flat.functions == [inc, pack]
    assert flat.dependencies == [[], [0]]
    assert flat.outputs == [1]
    x, items, three = flat.args[1]
    assert type(x) is Input and x.index == 0
    assert type(items[0]) is Input and items[1:] == [2]
    assert three == 3
    assert not flat.externals and not flat.futures


def test_only_what_is_needed_becomes_rows():
    graph = {"a": 1, "b": (inc, "a"), "c": (inc, "a"), "d": (add, "b", "c"), "unused": (inc, "d")}
    assert sorted(flatten(graph, ["b"]).keys) == ["a", "b"]
    assert flatten(graph, []).keys == []
    flat = flatten(graph, ["c", "b", "c"])
    assert [flat.keys[number] for number in flat.outputs] == ["c", "b", "c"]


def test_rows_run_depth_first():
    graph: dict[Any, Any] = {("x", 0, i): (inc, i) for i in range(8)}
    for level, width in ((1, 4), (2, 2), (3, 1)):
        for i in range(width):
            graph["x", level, i] = (add, ("x", level - 1, 2 * i), ("x", level - 1, 2 * i + 1))
    flat = flatten(graph, [("x", 3, 0)])
    assert flat.keys[:4] == [("x", 0, 0), ("x", 0, 1), ("x", 1, 0), ("x", 0, 2)]
    assert run(flat) == [sum(range(1, 9))]


def test_the_graph_is_not_changed():
    graph = {"x": 1, "z": (pack, ["x", {"x": 1}], (inc, "x"))}
    copied = pickle.loads(pickle.dumps(graph))
    flatten(graph, ["z"])
    assert graph == copied


def test_a_bool_is_no_key():
    assert run(flatten({1: 5, "z": (pack, True)}, ["z"])) == [("packed", (True,), {})]


def test_bytes_are_keys():
    assert run(flatten({b"x": 5, "z": (inc, b"x")}, ["z"])) == [6]


def test_a_list_subclass_with_a_key_inside_keeps_its_type():
    (found,) = run(flatten({"x": 1, "z": ListOfThings(["x", 2])}, ["z"]))
    assert type(found) is ListOfThings and found == [1, 2]


# Nodes


def spec_graph() -> dict[Any, Any]:
    spec = pytest.importorskip("dask._task_spec")
    t, ref = spec.Task, spec.TaskRef
    return {
        "x": spec.DataNode("x", 1),
        "y": t("y", inc, ref("x")),
        "kwargs": t("kwargs", pack, 1, ref("x"), name=ref("y"), other=[1]),
        "alias": spec.Alias("alias", "y"),
        "alias of alias": spec.Alias("alias of alias", "alias"),
        "list": t("list", pack, spec.List(ref("x"), 2, spec.List(ref("y")))),
        "tuple": t("tuple", pack, spec.Tuple(ref("x"), ref("x"))),
        "set": t("set", pack, spec.Set(ref("x"), 7)),
        "dict": t("dict", pack, spec.Dict({"a": ref("x"), "b": spec.List(ref("y"))})),
        "dict with node keys": t("dict with node keys", pack, spec.Dict([[ref("x"), 1], ["b", ref("y")]])),
        "container": spec.List(ref("x"), t(None, inc, ref("y"))),
        "nested": t("nested", add, t(None, inc, ref("x")), t(None, mul, ref("y"), t(None, inc, 5))),
        "data inside": t("data inside", pack, spec.DataNode(None, ["x", "y"])),
        "opaque list": t("opaque list", pack, ["x", "y"], {"x": "y"}, ("x", 1)),
        "fused": t.fuse(t("a", inc, ref("x")), t("b", add, ref("a"), ref("y")), key="fused"),
        "legacy with node": (pack, spec.Alias("x"), t(None, inc, ref("y"))),
        "dict with call key": t("k", pack, spec.Dict([[t(None, inc, ref("x")), ref("y")]])),
    }


@pytest.mark.parametrize("key", spec_graph())
def test_nodes_mean_what_they_mean_to_dask(key):
    dask = pytest.importorskip("dask")
    graph = spec_graph()
    assert run(flatten(graph, [key])) == [dask.get(graph, key)]


def test_all_nodes_at_once():
    dask = pytest.importorskip("dask")
    graph = spec_graph()
    keys = list(graph)
    assert run(flatten(graph, keys)) == list(dask.get(graph, keys))


def test_simple_nodes_become_plain_rows():
    flat = flatten(spec_graph(), ["kwargs"])
    row = flat.keys.index("kwargs")
    assert flat.functions[row] is pack
    assert flat.args[row][0] == 1
    assert set(flat.kwargs[row]) == {"name", "other"}


def test_unknown_kinds_of_nodes_are_run_by_dask():
    spec = pytest.importorskip("dask._task_spec")
    task = make_doubling_task(spec)
    assert run(flatten({"x": 4, "z": task("z", inc, spec.TaskRef("x"))}, ["z"])) == [10]


def make_doubling_task(spec: Any) -> Any:
    class DoublingTask(spec.Task):  # type: ignore[misc]
        def __call__(self, values: Any = ()) -> Any:
            return 2 * super().__call__(values)

    return DoublingTask


def test_dask_collections_compute_the_same():
    dask_array = pytest.importorskip("dask.array")
    numpy = pytest.importorskip("numpy")
    x = dask_array.arange(60, chunks=7).reshape((6, 10)).rechunk((2, 5))
    result = ((x + x.mean(axis=0)) @ x.T).sum(axis=1)
    graph = dict(result.__dask_graph__())
    parts = run(flatten(graph, [(result.name, i) for i in range(result.numblocks[0])]))
    assert numpy.array_equal(numpy.concatenate(parts), result.compute(scheduler="sync"))


def test_delayed_computes_the_same():
    dask = pytest.importorskip("dask")
    delayed = dask.delayed
    total = delayed(sum)([delayed(inc)(i) for i in range(5)])
    packed = delayed(pack)({"a": total, "b": [total, 1]}, key=total)
    assert run(flatten(dict(packed.__dask_graph__()), list(packed.__dask_keys__()))) == [
        packed.compute(scheduler="sync")
    ]


# Futures and keys from elsewhere


@pytest.mark.parametrize("kind", [SomeFuture, KeyedFuture])
def test_futures_become_externals(kind):
    future = kind("f")
    graph = {"x": 1, "y": (pack, future, [future, {"a": (future,)}], "x"), "z": (inc, (add, future, "x"))}
    flat = flatten(graph, ["y", "z"])
    assert flat.externals == ["f"]
    assert flat.futures == {"f": future}
    assert run(flat, {"f": 10}) == [("packed", (10, [10, {"a": (10,)}], 1), {}), 12]


def test_a_graph_of_a_persisted_collection_stands_for_its_futures():
    future = SomeFuture(("x", 0))
    flat = flatten({("x", 0): future, "z": (inc, ("x", 0))}, ["z", ("x", 0)])
    assert flat.keys == ["z"]
    assert flat.externals == [("x", 0)]
    assert flat.dependencies == [[1]]
    assert flat.outputs == [0, 1]
    assert run(flat, {("x", 0): 5}) == [6, 5]


def test_a_future_under_another_key_is_an_alias():
    flat = flatten({"y": SomeFuture("x")}, ["y"])
    assert flat.keys == ["y"]
    assert run(flat, {"x": 3}) == [3]


def test_a_task_reference_that_is_a_future_is_an_external():
    spec = pytest.importorskip("dask._task_spec")

    class Future(spec.TaskRef):  # type: ignore[misc]
        pass

    future = Future("f")
    flat = flatten({"z": spec.Task("z", pack, future, a=spec.List(future))}, ["z"])
    assert flat.futures == {"f": future}
    assert run(flat, {"f": 2}) == [("packed", (2,), {"a": [2]})]


def test_known_keys_need_not_be_in_the_graph():
    spec = pytest.importorskip("dask._task_spec")
    graph = {"z": spec.Task("z", inc, spec.TaskRef("away"))}
    flat = flatten(graph, ["z", "far"], known={"away", "far"})
    assert sorted(flat.externals) == ["away", "far"]
    assert run(flat, {"away": 1, "far": 9}) == [2, 9]


# Errors


def test_a_missing_output_is_named():
    with pytest.raises(MissingKeyError, match=r"not in the graph: 'q' \(asked for\)") as caught:
        flatten({"x": 1}, ["x", "q"])
    assert isinstance(caught.value, KeyError)


def test_a_missing_dependency_is_named_with_who_needs_it():
    spec = pytest.importorskip("dask._task_spec")
    graph = {"z": spec.Task("z", inc, spec.TaskRef(("gone", 1)))}
    with pytest.raises(MissingKeyError, match=r"\('gone', 1\) \(needed by 'z'\)"):
        flatten(graph, ["z"])
    graph = {"z": spec.Task("z", inc, *[spec.TaskRef(i) for i in range(9)])}
    with pytest.raises(MissingKeyError, match="and 4 more"):
        flatten(graph, ["z"])


@pytest.mark.parametrize(
    ("graph", "shown"),
    [
        ({"a": (inc, "b"), "b": (inc, "c"), "c": (inc, "a")}, "'a' -> 'b' -> 'c' -> 'a'"),
        ({"a": (inc, "a")}, "'a' -> 'a'"),
        ({"a": [1, "a"]}, "'a' -> 'a'"),
        ({"a": "b", "b": "a"}, "'a' -> 'b' -> 'a'"),
    ],
)
def test_a_cycle_is_named(graph, shown):
    with pytest.raises(CycleError, match=shown) as caught:
        flatten(graph, ["a"])
    assert isinstance(caught.value, RuntimeError)


def test_a_cycle_that_is_not_needed_does_no_harm():
    assert run(flatten({"a": (inc, "b"), "b": (inc, "a"), "z": 1}, ["z"])) == [1]


def test_a_long_cycle_is_shown_in_short():
    graph = {i: (inc, (i + 1) % 1000) for i in range(1000)}
    with pytest.raises(CycleError) as caught:
        flatten(graph, [0])
    assert "..." in str(caught.value)
    assert len(str(caught.value)) < 300


def test_invalid_keys_are_refused():
    with pytest.raises(TypeError, match="cannot be a key"):
        flatten({None: 1}, [None])
    with pytest.raises(TypeError, match="cannot be a key"):
        flatten({"z": (inc, ("x", None)), ("x", None): 1}, ["z"])
    with pytest.raises(TypeError, match="cannot be a key"):
        flatten({"z": 1}, [["z"]])


def test_a_task_that_is_nested_too_deep_is_named():
    task: Any = 1
    for _ in range(100_000):
        task = (inc, task)
    with pytest.raises(GraphError, match="'z' is nested too deep"):
        flatten({"z": task}, ["z"])


# Random graphs


@st.composite
def legacy_graphs(draw):
    size = draw(st.integers(1, 10))
    graph: dict[Any, Any] = {}
    for i in range(size):
        known = [("k", j) for j in range(i)]
        atoms = st.integers(100, 110) | st.text(max_size=2)
        if known:
            atoms |= st.sampled_from(known)
        nested = st.recursive(
            atoms,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.lists(inner, max_size=3).map(lambda items: (pack, *items))
                | st.lists(inner, max_size=2).map(lambda items: ("no", "call", *items))
                | st.lists(inner, max_size=2).map(lambda items: (inc, (len, items)))
            ),
            max_leaves=8,
        )
        graph["k", i] = draw(nested)
    return graph


@settings(max_examples=60, deadline=None)
@given(legacy_graphs())
def test_random_legacy_graphs_mean_what_they_mean_to_dask(graph):
    dask = pytest.importorskip("dask")
    keys = [("k", i) for i in range(len(graph))]
    assert run(flatten(graph, keys)) == list(dask.get(graph, keys))


# What workers run


def test_a_template_runs_its_calls_in_order():
    items = Build(list, (Argument(1), Argument(2)))
    steps = [(inc, (Argument(0),), {}), (pack, (items,), {"d": Build(dict, ("a", 1)), "s": Build(slice, (1, None, 2))})]
    template = Template(2, steps)
    expected = ("packed", ([2, 2],), {"d": {"a": 1}, "s": slice(1, None, 2)})
    assert template(1, 2) == expected
    again = pickle.loads(pickle.dumps(template))
    assert repr(again) == repr(template)
    assert again(1, 2) == expected


def test_flattening_imports_no_dask():
    root = Path(__file__).parents[2]
    source = (
        "import sys; from fastdist.client.graph import flatten\n"
        "flatten({'x': 1, 'y': (max, 'x', 2)}, ['y'])\n"
        "assert not {'dask', 'numpy'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", source], check=True, env=environment, cwd=root)
