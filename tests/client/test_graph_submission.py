"""Graphs as TASKS frames: rows, options, flags, futures of others; what is sent and what is not."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from fastdist._core.client.futures import FutureTable
from fastdist.client.annotations import TaskOptions
from fastdist.client.future import Future
from fastdist.client.graph import flatten
from fastdist.client.graph_submission import submit_graph
from fastdist.client.submission import Submitter
from fastdist.errors import SerializationError
from tests.core.client.frames import read_tasks

NO_OPTIONS = TaskOptions(None)


class Sent:
    """A submitter whose frames end up in a list."""

    def __init__(self) -> None:
        self.table = FutureTable(Future, 1 << 20)
        self.frames: list[bytes] = []
        self.submitter = Submitter(self.table, self.frames.append)

    def submit(
        self, graph: dict[Any, Any], keys: list[Any], options: TaskOptions = NO_OPTIONS, **kwargs: Any
    ) -> Any:
        flat = flatten(graph, keys, known=["elsewhere"])
        return submit_graph(self.submitter, flat, options, 0.0, **kwargs)

    @property
    def rows(self) -> list[Any]:
        return [row for frame in self.frames for row in read_tasks(frame).rows]


@pytest.fixture
def sent() -> Sent:
    return Sent()


def test_rows_that_nobody_wants_get_no_slot(sent: Sent) -> None:
    (future,) = sent.submit({"inner": (abs, -1), "outer": (max, "inner", 3)}, ["outer"])
    inner, outer = sent.rows
    assert (inner.key, inner.flags, inner.inputs) == (b"sinner", 0, [])
    assert (outer.id, outer.flags, outer.inputs) == (future.id, 3, [inner.id])
    assert outer.call(["in"]) == (("in", 3), {})
    assert len(sent.table) == 1
    del future
    sent.table.release_frame()
    assert len(sent.table) == 0


def test_persisted_results_do_not_travel_inline(sent: Sent) -> None:
    sent.submit({"x": (abs, -1)}, ["x"], inline=False)
    assert [row.flags for row in sent.rows] == [1]


def test_each_output_has_its_future(sent: Sent) -> None:
    x, y, again = sent.submit({"x": (abs, -1), "y": (abs, "x")}, ["x", "y", "x"])
    assert (x.key, y.key, again.key) == ("x", "y", "x")
    assert x.id == again.id


def test_inputs_from_elsewhere_are_references(sent: Sent) -> None:
    (future,) = sent.submit({"x": [reference("elsewhere")]}, ["x"])
    first, second = sent.rows
    assert (first.key, first.function) == (b"selsewhere", None)
    assert second.inputs == [first.id]
    assert future.key == "x"


def reference(key: Any) -> Any:
    class Reference:
        __dask_future__ = True

    Reference.key = key  # type: ignore[attr-defined]
    return Reference()


def test_options_of_single_tasks(sent: Sent) -> None:
    one, other = msgpack.packb({"retries": 1}), msgpack.packb({"priority": 2.0})
    graph: dict[Any, Any] = {("x", i): (abs, i) for i in range(3)}
    sent.submit(graph, list(graph), TaskOptions(one, {("x", 1): other, ("x", 2): None}))
    options = [row.options for row in sorted(sent.rows, key=lambda row: row.key)]
    assert options == [{"retries": 1}, {"priority": 2.0}, None]


def test_a_function_is_sent_once(sent: Sent) -> None:
    graph: dict[Any, Any] = {("x", i): (abs, -i) for i in range(50)}
    sent.submit(graph, list(graph))
    assert len({row.function for row in sent.rows}) == 1


def test_many_rows_take_several_frames(sent: Sent) -> None:
    graph: dict[Any, Any] = {("x", i): (abs, -i) for i in range(12_000)}
    graph["all"] = (max, [("x", i) for i in range(12_000)])
    sent.submit(graph, ["all"])
    assert len(sent.frames) == 2
    assert len(sent.rows) == 12_001
    assert len(sent.rows[-1].inputs) == 12_000


def test_a_graph_that_cannot_be_sent_leaves_nothing(sent: Sent) -> None:
    def fail(self: Any) -> Any:
        raise TypeError("not today")

    class Stubborn:
        __reduce__ = fail

    with pytest.raises(SerializationError, match="the task 'y' cannot be sent"):
        sent.submit({"x": (abs, 1), "y": (max, "x", Stubborn())}, ["x", "y"])
    assert sent.frames == []
    assert len(sent.table) == 0


def test_the_same_key_again_is_the_same_task(sent: Sent) -> None:
    (first,) = sent.submit({"x": (abs, -1)}, ["x"])
    (second,) = sent.submit({"x": (abs, -1)}, ["x"])
    assert first.id == second.id
    assert len(sent.rows) == 1
