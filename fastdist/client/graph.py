"""Flattens a dask graph into the rows of a submission.

A graph is a mapping of keys to legacy tasks (tuples, nested at will), literals, aliases or nodes of
`dask._task_spec`. A row is a function and arguments in which `Input(i)` stands for the result of the
row's dependency number `i`. Only rows that the outputs need are made, in the order in which they should
run; an alias that is no output is left out. What runs once per row is compiled: `flattening.pyx` makes the
rows, `fusion.pyx` makes one of a chain, `templates.pyx` finds what they have in common. May import
`fastdist._core`, `fastdist.errors` and the other modules of this folder; dask's nodes are recognised without
importing dask.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastdist._core.graph.order import order
from fastdist.client.flattening import Input as Input
from fastdist.client.flattening import Rows
from fastdist.client.fusion import fuse_rows
from fastdist.client.templates import use_templates
from fastdist.errors import CycleError, GraphError, MissingKeyError

Key = Any


@dataclass
class FlatGraph:
    """The rows of a submission, in the order in which they should run: dependencies first.

    Attributes
    ----------
    keys : list
        The key of each row.
    key_bytes : list of bytes
        Its canonical bytes.
    functions : list of callable
    args : list of tuple
        Arguments; `Input(i)` stands for dependency `i` of the row. It appears as an argument or inside lists,
        tuples, dicts and sets, nowhere else.
    kwargs : list of dict or None
    offsets, needs : array of u32
        The dependencies of row `i` are `needs[offsets[i]:offsets[i + 1]]`: numbers of rows; a number `n` of at
        least `len(keys)` means `externals[n - len(keys)]`.
    externals : list
        Keys of futures in the graph, and keys known elsewhere, that rows or outputs need.
    futures : dict
        The futures that were found in the graph, by key.
    outputs : list of int
        For each wanted key its number, counted like dependencies.
    """

    keys: list[Key]
    key_bytes: list[bytes]
    functions: list[Callable[..., Any]]
    args: list[tuple[Any, ...]]
    kwargs: list[dict[str, Any] | None]
    offsets: array[int]
    needs: array[int]
    externals: list[Key]
    futures: dict[Key, Any]
    outputs: list[int]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def dependencies(self) -> list[list[int]]:
        """The dependencies of each row."""
        return [list(self.needs[self.offsets[i] : self.offsets[i + 1]]) for i in range(len(self))]


def flatten(
    graph: Mapping[Key, Any],
    outputs: Iterable[Key],
    known: Collection[Key] = (),
    held: Callable[[bytes], object] | None = None,
    kinds: Callable[[list[Key]], Callable[[Key], Hashable] | None] | None = None,
) -> FlatGraph:
    """The rows that compute the outputs of a graph.

    Parameters
    ----------
    graph : mapping
        Keys to legacy tasks, literals, aliases, futures or dask nodes.
    outputs : iterable of keys
        What is wanted; the rest of the graph is left out.
    known : collection of keys, optional
        Keys that may be needed without being in the graph, because their results exist elsewhere.
    held : callable, optional
        Told the canonical bytes of a key, it says whether its result exists elsewhere and is to be used, even
        if the key is in the graph.
    kinds : callable, optional
        Told the keys of the tasks, it gives a function that says of a key what kind of task it is, or None if all
        are alike. Chains of tasks of one kind whose results nobody else needs become one task. Without it every
        task stays alone.

    Returns
    -------
    FlatGraph

    Raises
    ------
    CycleError
        If tasks need each other in a circle.
    MissingKeyError
        If an output, or what a dask node needs, is nowhere to be found.
    GraphError
        If a task is nested too deep.
    TypeError, ValueError
        If a key is none (see `encode_key`).

    Examples
    --------
    >>> flat = flatten({"x": 1, "y": (max, "x", 5)}, ["y"])
    >>> flat.keys, flat.args, flat.dependencies
    (['x', 'y'], [(1,), (Input(0), 5)], [[], [0]])
    """
    wanted = list(outputs)
    rows = Rows(graph if type(graph) is dict else dict(graph), wanted, held)
    _check_missing(rows, known)
    if kinds is not None:
        _fuse(rows, wanted, kinds)
    try:
        priorities = order(*rows.edges())
    except CycleError as error:
        if kinds is not None:
            # Named with all of its tasks.
            return flatten(graph, wanted, known, held)
        raise _cycle_error(rows.keys, error.indices) from None
    try:
        use_templates(rows.functions, rows.args, rows.kwargs, rows.odd_rows())
    except RecursionError:
        raise GraphError("the arguments of a task are nested too deep") from None
    keys, key_bytes, functions, args, kwargs, offsets, needs, externals, place = rows.arranged(priorities)
    return FlatGraph(
        keys=keys,
        key_bytes=key_bytes,
        functions=functions,
        args=args,
        kwargs=kwargs,
        offsets=offsets,
        needs=needs,
        externals=externals,
        futures=rows.futures,
        outputs=[place[rows.number_of(key)] for key in wanted],
    )


def _fuse(rows: Rows, wanted: list[Key], kinds: Callable[[list[Key]], Callable[[Key], Hashable] | None]) -> None:
    """Make one row of each chain of rows of one kind."""
    kind_of = kinds([key for key, function in zip(rows.keys, rows.functions, strict=True) if function is not None])
    numbers: dict[Hashable, int] = {}
    if kind_of is None:
        labels = array("I", [0]) * len(rows)
    else:
        labels = array("I", [numbers.setdefault(kind_of(key), len(numbers)) for key in rows.keys])
    fuse_rows(rows, wanted, labels)


def _check_missing(rows: Rows, known: Collection[Key]) -> None:
    """Report keys that are neither in the graph nor elsewhere."""
    missing = {
        number: "asked for"
        for number in rows.without_function()
        if rows.keys[number] not in rows.futures and rows.keys[number] not in known
    }
    if not missing:
        return
    for number in range(len(rows)):
        for need in missing.keys() & rows.needs_of(number):
            missing[need] = f"needed by {rows.keys[number]!r}"
    shown = [f"{rows.keys[number]!r} ({who})" for number, who in list(missing.items())[:5]]
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    raise MissingKeyError(f"keys that are not in the graph: {', '.join(shown)}{more}")


def _cycle_error(keys: list[Key], numbers: tuple[int, ...]) -> CycleError:
    """The error that names the tasks of a cycle."""
    shown = [repr(keys[number]) for number in numbers]
    if len(shown) > 10:
        shown[5:-4] = ["..."]
    circle = " -> ".join((*shown, shown[0]))
    return CycleError(f"tasks of the graph need each other in a circle: {circle}")
