"""Rows that share a template: which do, what is sent for each, and that they mean what they meant."""

from __future__ import annotations

import pickle
import subprocess
import sys
from functools import partial
from operator import add, getitem
from typing import Any

import pytest

from fastdist.client.flattening import Input
from fastdist.client.graph import FlatGraph, flatten
from fastdist.errors import CycleError
from fastdist.tasks.evaluate import literal
from fastdist.tasks.template import Argument, Template, run_template

spec = pytest.importorskip("dask._task_spec")


class Opaque:
    """Something that only pickle knows."""

    def __init__(self, number: int = 0):
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]


def pack(*args: Any, **kwargs: Any) -> Any:
    return "packed", args, kwargs


def inc(x: Any) -> Any:
    return x + 1


def rows_of(graph: dict[Any, Any]) -> FlatGraph:
    return flatten(graph, list(graph))


def distinct_functions(flat: FlatGraph) -> list[Any]:
    return list({id(function): function for function in flat.functions}.values())


def fill(value: Any, inputs: list[Any]) -> Any:
    kind = type(value)
    if kind is Input:
        return inputs[value.index]
    if kind in (list, tuple, set, frozenset):
        return kind(fill(item, inputs) for item in value)
    return {name: fill(item, inputs) for name, item in value.items()} if kind is dict else value


def run(flat: FlatGraph) -> dict[Any, Any]:
    """The results of all rows, each run as a worker would run it."""
    results: list[Any] = []
    for row in range(len(flat)):
        inputs = [results[number] for number in flat.dependencies[row]]
        function, _, kwargs = pickle.loads(pickle.dumps((flat.functions[row], (), flat.kwargs[row] or {})))
        results.append(function(*fill(flat.args[row], inputs), **fill(kwargs, inputs)))
    return dict(zip(flat.keys, results, strict=True))


def test_rows_with_the_same_object_share_a_template():
    shared = Opaque()
    flat = rows_of({("x", i): (pack, shared, i, slice(i, None)) for i in range(8)})
    (template,) = distinct_functions(flat)
    assert type(template) is Template
    assert sorted(flat.args) == [(i, i) for i in range(8)]
    assert run(flat)["x", 3] == ("packed", (shared, 3, slice(3, None)), {})


def test_an_object_of_its_own_is_an_argument():
    flat = rows_of({("x", i): (pack, Opaque(i), Opaque) for i in range(8)})
    (template,) = distinct_functions(flat)
    assert template.steps == ((pack, (Argument(0), Opaque), {}),) or len(template.steps) == 1
    assert sorted(args[0].number for args in flat.args) == list(range(8))
    assert run(flat)["x", 5] == ("packed", (Opaque(5), Opaque), {})


def test_rows_in_which_nothing_is_common_stay_as_they_are():
    flat = rows_of({("x", i): (pack, Opaque(i), i) for i in range(4)})
    assert distinct_functions(flat) == [pack]
    assert run(flat)["x", 1] == ("packed", (Opaque(1), 1), {})


def test_a_row_without_its_like_keeps_its_function():
    flat = rows_of({"x": (pack, Opaque(1), slice(2))})
    assert flat.functions == [pack]
    flat = rows_of({"x": (pack, (inc, 1), Opaque(1))})
    assert flat.functions == [run_template]
    assert run(flat)["x"] == ("packed", (2, Opaque(1)), {})


def test_groups_of_rows_have_templates_of_their_own():
    objects = [Opaque(i) for i in range(2)]
    flat = rows_of({("x", i): (pack, objects[i % 2], i) for i in range(16)})
    assert len(distinct_functions(flat)) == 2
    assert run(flat)["x", 7] == ("packed", (Opaque(1), 7), {})


def test_plain_arguments_need_no_template():
    flat = rows_of({("x", i): (pack, i, "text", [i, (1.5, None)], {"a": True}) for i in range(4)})
    assert distinct_functions(flat) == [pack]


def test_nested_calls_of_many_rows_travel_once():
    graph: dict[Any, Any] = {("x", i): (add, (inc, i), (inc, (inc, i))) for i in range(5)}
    flat = rows_of(graph)
    (template,) = distinct_functions(flat)
    assert len(template.steps) == 4
    assert sorted(run(flat).values()) == [2 * i + 3 for i in range(5)]


def test_inputs_are_arguments():
    graph: dict[Any, Any] = {("x", i): i for i in range(6)}
    graph |= {("y", i): (getitem, [("x", i), Opaque], 0) for i in range(6)}
    flat = rows_of(graph)
    results = run(flat)
    assert [results["y", i] for i in range(6)] == list(range(6))
    assert len([function for function in distinct_functions(flat) if type(function) is Template]) == 1


def test_partial_functions_are_taken_apart():
    graph = {("x", i): spec.Task(("x", i), partial(pack, 1, sort=Opaque, a=2), i, a=i) for i in range(6)}
    flat = rows_of(graph)
    (template,) = distinct_functions(flat)
    assert type(template) is Template
    assert run(flat)["x", 2] == ("packed", (1, 2), {"sort": Opaque, "a": 2})


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
def test_a_cast_of_dask_is_a_container(kind):
    graph = spec.convert_legacy_graph({"a": 1, "b": 2, "c": (sum, kind(["a", "b"]))})
    flat = flatten(graph, ["c"])
    row = flat.keys.index("c")
    assert flat.functions[row] is sum
    assert type(flat.args[row][0]) is kind
    assert run(flat)["c"] == 3


# Fused tasks


def fused(i: int) -> Any:
    first = spec.Task(("a", i), inc, spec.TaskRef("x"))
    second = spec.Task(
        ("b", i), pack, spec.TaskRef(("a", i)), spec.TaskRef(("a", i)), i, n=spec.List(spec.TaskRef("y"))
    )
    return spec.Task.fuse(first, second, key=("b", i))


def test_fused_tasks_become_calls_and_not_graphs():
    graph: dict[Any, Any] = {"x": 1, "y": 2, **{("b", i): fused(i) for i in range(4)}}
    flat = flatten(graph, [("b", i) for i in range(4)])
    (template,) = {id(f): f for f in flat.functions if f is not literal}.values()
    assert [step[0] for step in template.steps] == [inc, pack]
    assert run(flat)["b", 3] == ("packed", (2, 2, 3), {"n": [2]})


def test_what_a_fused_task_makes_twice_is_made_once():
    calls: list[int] = []
    inner = {
        "a": spec.Task("a", lambda: calls.append(1)),
        "z": spec.Task("z", pack, spec.TaskRef("a"), spec.TaskRef("a")),
    }
    node = spec.Task("z", spec._execute_subgraph, inner, "z", ())
    flat = flatten({"z": node}, ["z"])
    assert flat.functions[0](*flat.args[0]) == ("packed", (None, None), {})
    assert calls == [1]


def test_a_fused_task_inside_of_a_fused_task():
    inner = spec.Task.fuse(
        spec.Task("a", inc, spec.TaskRef("x")), spec.Task("b", inc, spec.TaskRef("a")), key="b"
    )
    outer = spec.Task.fuse(inner, spec.Task("c", add, spec.TaskRef("b"), spec.TaskRef("x")), key="c")
    assert run(flatten({"x": 5, "c": outer}, ["c"]))["c"] == 12


def test_a_fused_task_whose_inputs_were_renamed():
    task = spec.Task.fuse(
        spec.Task("a", inc, spec.TaskRef("x")), spec.Task("b", inc, spec.TaskRef("a")), key="b"
    )
    assert run(flatten({"new": 1, "b": task.substitute({"x": "new"})}, ["b"]))["b"] == 3


def test_a_fused_task_with_more_than_calls_is_left_to_dask():
    class Doubling(spec.Task):  # type: ignore[misc]
        def __call__(self, values: Any = ()) -> Any:
            return 2 * super().__call__(values)

    inner = {"a": Doubling("a", inc, spec.TaskRef("x")), "b": spec.Task("b", inc, spec.TaskRef("a"))}
    node = spec.Task("b", spec._execute_subgraph, inner, "b", ("x",), spec.TaskRef("x"))
    flat = flatten({"x": 1, "b": node}, ["b"])
    row = flat.keys.index("b")
    assert flat.functions[row] is spec._execute_subgraph
    assert flat.functions[row](*fill(flat.args[row], [1])) == 5


def test_a_very_long_fused_chain_is_left_to_dask():
    tasks = [spec.Task(("c", i), inc, spec.TaskRef(("c", i - 1) if i else "x")) for i in range(2_000)]
    flat = flatten({"x": 1, "c": spec.Task.fuse(*tasks, key="c")}, ["c"])
    row = flat.keys.index("c")
    assert flat.functions[row](*fill(flat.args[row], [1])) == 2_001


# Aliases


def test_an_alias_that_is_no_output_needs_no_row():
    graph = {
        "x": 1,
        "a": spec.Alias("a", "x"),
        "b": spec.Alias("b", "a"),
        "z": spec.Task("z", inc, spec.TaskRef("b")),
    }
    flat = flatten(graph, ["z"])
    assert sorted(flat.keys) == ["x", "z"]
    assert run(flat)["z"] == 2
    assert sorted(flatten(graph, ["z", "a"]).keys) == ["a", "x", "z"]


def test_aliases_of_each_other_are_a_cycle():
    graph = {
        "a": spec.Alias("a", "b"),
        "b": spec.Alias("b", "a"),
        "z": spec.Task("z", inc, spec.TaskRef("a")),
    }
    with pytest.raises(CycleError):
        flatten(graph, ["z"])


def test_held_results_are_used_instead_of_their_tasks():
    graph = {"x": (inc, 1), "y": (inc, "x"), "z": (add, "x", "y")}
    flat = flatten(graph, ["z"], known=["y"], held=lambda key: key == b"sy")
    assert flat.keys == ["x", "z"] or flat.keys == ["z", "x"]
    assert flat.externals == ["y"]


# In the worker


def test_a_template_lets_go_of_what_no_later_call_needs():
    alive: list[Any] = []

    class Thing:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    steps = [
        (Thing, (), {}),
        (lambda thing: 1, (Argument(0),), {}),
        (lambda one: len(alive), (Argument(1),), {}),
    ]
    assert Template(0, steps)() == 0


def test_templates_need_nothing_but_the_standard_library():
    program = "import sys, fastdist.tasks.template\nassert not {'dask', 'numpy', 'fastdist.client'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
