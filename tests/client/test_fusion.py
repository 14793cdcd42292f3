"""Chains of rows that become one: which do, and that they mean what they meant."""

from __future__ import annotations

from functools import partial
from operator import add, getitem
from typing import Any

import pytest
from hypothesis import given, settings

from fastdist.client.graph import FlatGraph, flatten
from fastdist.errors import CycleError
from fastdist.tasks.template import Template

from .test_graph import legacy_graphs
from .test_templates import Opaque, inc, pack, run


def fuse(graph: dict[Any, Any], outputs: list[Any], kind_of: Any = None, **options: Any) -> FlatGraph:
    return flatten(graph, outputs, kinds=lambda keys: kind_of, **options)


def chain(length: int) -> dict[Any, Any]:
    return {"x-0": (inc, 0), **{f"x-{i}": (inc, f"x-{i - 1}") for i in range(1, length)}}


def test_a_chain_is_one_row_with_the_key_of_its_end():
    flat = fuse(chain(5), ["x-4"])
    assert flat.keys == ["x-4"]
    assert run(flat) == {"x-4": 5}


def test_without_kinds_all_rows_stay():
    assert len(flatten(chain(5), ["x-4"])) == 5


def test_wanted_keys_stay():
    flat = fuse(chain(5), ["x-4", "x-2"])
    assert flat.keys == ["x-2", "x-4"]
    assert run(flat) == {"x-2": 3, "x-4": 5}
    assert [flat.keys[number] for number in flat.outputs] == ["x-4", "x-2"]


def test_tasks_of_different_kinds_stay_apart():
    flat = fuse(chain(5), ["x-4"], kind_of=lambda key: key in ("x-0", "x-1"))
    assert flat.keys == ["x-1", "x-4"]
    assert run(flat)["x-4"] == 5


def test_the_keys_of_the_tasks_are_told():
    spec = pytest.importorskip("dask._task_spec")
    told: list[list[Any]] = []
    graph = {**chain(2), "y": spec.Task("y", add, spec.TaskRef("x-1"), spec.TaskRef("z"))}
    flatten(graph, ["y"], known=["z"], kinds=told.append)
    assert sorted(told[0]) == ["x-0", "x-1", "y"]


def test_long_chains_become_several_tasks():
    flat = fuse(chain(1000), ["x-999"])
    assert 10 < len(flat) < 40
    assert run(flat)["x-999"] == 1000


def test_chains_that_differ_only_in_arguments_share_a_template():
    graph: dict[Any, Any] = {}
    for i in range(50):
        graph |= {("a", i): (add, i, "n"), ("b", i): (pack, ("a", i), [1, ("a", i)]), ("c", i): (len, ("b", i))}
    graph |= {"n": 7, "end": (list, [("c", i) for i in range(50)])}
    flat = fuse(graph, ["end"])
    assert len(flat) == 52
    assert len({id(function) for function in flat.functions}) == 3
    assert run(flat)["end"] == [3] * 50


def test_an_input_that_a_row_uses_twice_is_computed_once():
    made: list[int] = []

    def count(x: int) -> list[int]:
        made.append(x)
        return [x]

    flat = fuse({"x": (count, 1), "y": (pack, "x", {"k": ["x"]}, "x")}, ["y"])
    assert len(flat) == 1
    (found,) = run(flat).values()
    assert made == [1]
    assert found[1][0] is found[1][2]


def test_literals_become_arguments():
    flat = fuse({"x": 5, "y": (inc, "x")}, ["y"])
    assert flat.keys == ["y"]
    assert flat.args == [(5,)]
    thing = Opaque(3)
    assert run(fuse({"x": thing, "y": (pack, "x", "x")}, ["y"])) == {"y": ("packed", (thing, thing), {})}
    assert run(fuse({"x": [1], "y": (pack, "x"), "z": (getitem, "y", 1)}, ["z"])) == {"z": ([1],)}


def test_inputs_from_elsewhere_are_inputs_of_the_fused_task():
    spec = pytest.importorskip("dask._task_spec")
    graph = {"x": spec.Task("x", add, spec.TaskRef("theirs"), 1), "y": (inc, "x")}
    flat = fuse(graph, ["y"], known=["theirs"])
    assert (flat.keys, flat.externals, flat.dependencies) == (["y"], ["theirs"], [[1]])
    held = fuse(chain(4), ["x-3"], known=["x-1"], held=lambda key: key.endswith(b"x-1"))
    assert (held.keys, held.externals) == (["x-3"], ["x-1"])


def test_partial_functions_and_keyword_arguments():
    spec = pytest.importorskip("dask._task_spec")
    graph = {
        "x": (partial(add, 3), 4),
        "y": spec.Task("y", pack, spec.TaskRef("x"), name=spec.TaskRef("x")),
        "z": (pack, "y"),
    }
    flat = fuse(graph, ["z"])
    assert len(flat) == 1
    assert run(flat)["z"] == ("packed", (("packed", (7,), {"name": 7}),), {})


def test_a_circle_is_still_a_cycle():
    with pytest.raises(CycleError):
        fuse({"a": (inc, "b"), "b": (inc, "c"), "c": (inc, "a"), "d": (inc, "a")}, ["d"])
    with pytest.raises(CycleError, match=r"'a' -> 'b' -> 'a'|'b' -> 'a' -> 'b'"):
        fuse({"a": (inc, "b"), "b": (inc, "a")}, ["a"])


def test_tasks_that_are_nested_deep_stay_apart():
    task: Any = 1
    for _ in range(300):
        task = (inc, task)
    flat = fuse({"x": task, "y": (add, "x", task)}, ["y"])
    assert flat.keys == ["x", "y"]
    assert all(isinstance(function, Template) or callable(function) for function in flat.functions)


@settings(max_examples=60, deadline=None)
@given(legacy_graphs())
def test_random_graphs_mean_the_same_when_fused(graph: dict[Any, Any]) -> None:
    last = ("k", len(graph) - 1)
    assert run(fuse(graph, [last]))[last] == run(flatten(graph, [last]))[last]
