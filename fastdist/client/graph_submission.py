"""From the rows of a graph to TASKS frames. May import: `_core`, the other modules of this folder."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from fastdist._core.client.batch import INLINE, NO_OPTIONS, WANTED, TaskBatch
from fastdist._core.keys.canonical import encode_key
from fastdist.client.actor_calls import maker_of
from fastdist.client.annotations import TaskOptions
from fastdist.client.future import Future
from fastdist.client.graph import FlatGraph
from fastdist.client.large_graph import warn_if_large
from fastdist.client.row_encoding import add_rows
from fastdist.client.submission import Submitter
from fastdist.errors import SerializationError
from fastdist.tasks.evaluate import InExecutor


def submit_graph(
    submitter: Submitter, graph: FlatGraph, options: TaskOptions, fifo_timeout: float, inline: bool = True
) -> list[Future]:
    """Submit the tasks of a graph.

    Parameters
    ----------
    submitter : Submitter
    graph : FlatGraph
    options : TaskOptions
    fifo_timeout : float
        Submissions within so many seconds count as one.
    inline : bool
        Whether small results of outputs travel with the news that they are there.

    Returns
    -------
    list of Future
        One for each output, in their order.
    """
    externals = [_external(submitter, key, graph.futures.get(key)) for key in graph.externals]
    n = len(graph)
    flags = bytearray(n)
    for number in graph.outputs:
        if number < n:
            flags[number] = WANTED | INLINE if inline else WANTED
    graph.functions = _functions(graph, options)
    batch = submitter.new_batch(fifo_timeout)
    try:
        numbers, function_bytes = _add_functions(submitter, batch, graph.functions, graph.keys)
        made, sizes = add_rows(
            batch,
            graph.key_bytes,
            graph.args,
            graph.kwargs,
            numbers,
            _option_numbers(batch, graph.keys, options),
            flags,
            graph.offsets,
            graph.needs,
            [future.id for future in externals],
        )
        batch.finish()
    except BaseException:
        batch.abort()
        raise
    warn_if_large(graph, sizes, function_bytes)
    return [made[number] if number < n else externals[number - n] for number in graph.outputs]


def _external(submitter: Submitter, key: Any, future: Any) -> Future:
    """This client's future of a task that is not in the graph."""
    if type(future) is Future and future.table is not None:
        if future.table is submitter.table:
            return future
        theirs = future.table.client.scheduler_address
        mine = submitter.table.client.scheduler_address
        if theirs != mine:
            raise ValueError(
                f"{future!r} belongs to a client of another cluster, {theirs}, and cannot be an input of tasks "
                f"in {mine}; gather it there and scatter it here"
            )
    return submitter.reference(encode_key(key))


def _functions(graph: FlatGraph, options: TaskOptions) -> list[Callable[..., Any]]:
    if not options.executors and not options.actors:
        return graph.functions
    wrapped: dict[tuple[str, int], Callable[..., Any]] = {}
    functions = list(graph.functions)
    for row, key in enumerate(graph.keys):
        function = functions[row]
        if key in options.actors:
            functions[row] = wrapped.setdefault(("", id(function)), maker_of(function))
            continue
        name = options.executors.get(key)
        if name is not None:
            functions[row] = wrapped.setdefault((name, id(function)), InExecutor(name, function))
    return functions


def _add_functions(
    submitter: Submitter, batch: TaskBatch, functions: list[Callable[..., Any]], keys: list[Any]
) -> tuple[array[int], dict[int, int]]:
    """Make each function known to the batch: their numbers, row by row, and their bytes, by id."""
    numbers: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for function in dict(zip(map(id, functions), functions, strict=True)).values():
        try:
            serialized = submitter.serialize_function(function)
        except SerializationError as error:
            key = keys[next(row for row, each in enumerate(functions) if each is function)]
            raise SerializationError(f"the task {key!r} cannot be sent: {error}") from error.__cause__
        numbers[id(function)] = batch.add_function(serialized.hash, serialized.payload)
        sizes[id(function)] = len(serialized.payload)
    return array("I", map(numbers.__getitem__, map(id, functions))), sizes


def _option_numbers(batch: TaskBatch, keys: list[Any], options: TaskOptions) -> array[int]:
    """The number of the options of each key, after making them known to the batch."""
    numbers: dict[bytes | None, int] = {None: NO_OPTIONS}
    for packed in (options.default, *options.by_key.values()):
        if packed is not None and packed not in numbers:
            numbers[packed] = batch.add_options(packed)
    default = numbers[options.default]
    if not options.by_key:
        return array("I", [default]) * len(keys)
    by_key = options.by_key
    return array("I", [numbers[by_key[key]] if key in by_key else default for key in keys])
