"""Flattens a dask graph into the rows of a submission.

A graph is a mapping of keys to legacy tasks (tuples, nested at will), literals, aliases or nodes of
`dask._task_spec`. A row is a function and arguments in which `Input(i)` stands for the result of the
row's dependency number `i`. Only rows that the outputs need are made, in the order in which they should
run. May import `fastdist._core`, `fastdist.errors` and `fastdist.tasks.evaluate`; dask's nodes are
recognised without importing dask.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastdist._core.graph.order import order
from fastdist._core.keys.canonical import encode_key
from fastdist.errors import CycleError, GraphError, MissingKeyError
from fastdist.tasks.evaluate import Argument, Build, Call, literal, run_nested, run_node

Key = Any
#: function, arguments, keyword arguments, numbers of the keys that it needs
Row = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], list[int]]

#: types of which an object in a legacy task can name another task
KEY_TYPES = frozenset({str, bytes, int, float, tuple})
PLAIN_TYPES = frozenset({type(None), bool, complex, bytearray, slice, range})
LITERAL_TYPES = PLAIN_TYPES | KEY_TYPES - {tuple}
CONTAINERS = frozenset({list, tuple, set, frozenset})
NO_KWARGS: dict[str, Any] = {}


class Input:
    """Stands for the result of dependency number `index` of a row."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __repr__(self) -> str:
        return f"Input({self.index})"


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
    kwargs : list of dict
    dependencies : list of list of int
        Numbers of rows; a number `n` of at least `len(keys)` means `externals[n - len(keys)]`.
    externals : list
        Keys of futures in the graph, and keys known elsewhere, that rows or outputs need.
    futures : dict
        The futures that were found in the graph, by key.
    outputs : list of int
        For each wanted key its number, counted like dependencies.
    order : array of u32
        The priority of each row, lower first.
    """

    keys: list[Key]
    key_bytes: list[bytes]
    functions: list[Callable[..., Any]]
    args: list[tuple[Any, ...]]
    kwargs: list[dict[str, Any]]
    dependencies: list[list[int]]
    externals: list[Key]
    futures: dict[Key, Any]
    outputs: list[int]
    order: array[int]

    def __len__(self) -> int:
        return len(self.keys)


def flatten(graph: Mapping[Key, Any], outputs: Iterable[Key], known: Collection[Key] = ()) -> FlatGraph:
    """The rows that compute the outputs of a graph.

    Parameters
    ----------
    graph : mapping
        Keys to legacy tasks, literals, aliases, futures or dask nodes.
    outputs : iterable of keys
        What is wanted; the rest of the graph is left out.
    known : collection of keys, optional
        Keys that may be needed without being in the graph, because their results exist elsewhere.

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
    return Flattener(graph, known).run(list(outputs))


#: placeholders are alike for all rows, so the first ones are made once
INPUTS = tuple(Input(index) for index in range(64))


class Flattener:
    """One run of `flatten`; keys are numbered in the order in which they are found."""

    def __init__(self, graph: Mapping[Key, Any], known: Collection[Key]) -> None:
        self.graph = graph if type(graph) is dict else dict(graph)
        self.known = known
        self.futures: dict[Key, Any] = {}
        self.numbers: dict[Key, int] = {}
        self.keys: list[Key] = []
        self.rows: list[Row | None] = []

    def run(self, outputs: list[Key]) -> FlatGraph:
        """Make the rows that the outputs need, and put them in order."""
        for key in outputs:
            encode_key(key)
            self.number(key)
        self.convert_all()
        self.check_missing()
        running, externals = self.running_order()
        place = [0] * len(self.keys)
        for position, number in enumerate((*running, *externals)):
            place[number] = position
        keys = [self.keys[number] for number in running]
        rows: list[Any] = [self.rows[number] for number in running]
        return FlatGraph(
            keys=keys,
            key_bytes=[encode_key(key) for key in keys],
            functions=[row[0] for row in rows],
            args=[row[1] for row in rows],
            kwargs=[row[2] for row in rows],
            dependencies=[[place[number] for number in row[3]] for row in rows],
            externals=[self.keys[number] for number in externals],
            futures=self.futures,
            outputs=[place[self.numbers[key]] for key in outputs],
            order=array("I", range(len(keys))),
        )

    def number(self, key: Key) -> int:
        """The number of a key; a new key will be converted in its turn."""
        found = self.numbers.get(key)
        if found is None:
            found = self.numbers[key] = len(self.keys)
            self.keys.append(key)
        return found

    def convert_all(self) -> None:
        """Make the row of each key, also of those found on the way; None if it comes from elsewhere."""
        converter = Converter(self)
        # The list grows while it is walked.
        for number, key in enumerate(self.keys):
            try:
                value = self.graph[key]
            except KeyError:
                self.rows.append(None)
                continue
            try:
                row = converter.row(value)
            except RecursionError:
                raise GraphError(f"the task {key!r} is nested too deep") from None
            # The graph of a persisted collection: the key stands for itself.
            itself = row[0] is literal and row[3] == [number] and type(row[1][0]) is Input
            self.rows.append(None if itself else row)

    def running_order(self) -> tuple[list[int], list[int]]:
        """The numbers of all rows as they should run, and the numbers of what comes from elsewhere."""
        offsets, edges = array("I", [0]), array("I")
        for row in self.rows:
            if row is not None:
                edges.extend(row[3])
            offsets.append(len(edges))
        try:
            priorities = order(offsets, edges)
        except CycleError as error:
            raise self.cycle_error(error.indices) from None
        running = [0] * len(self.rows)
        for number, priority in enumerate(priorities):
            running[priority] = number
        externals = [number for number, row in enumerate(self.rows) if row is None]
        if externals:
            running = [number for number in running if self.rows[number] is not None]
        return running, externals

    def check_missing(self) -> None:
        """Report keys that are neither in the graph nor elsewhere."""
        missing = {
            number: "asked for"
            for number, row in enumerate(self.rows)
            if row is None and self.keys[number] not in self.futures and self.keys[number] not in self.known
        }
        if not missing:
            return
        for number, row in enumerate(self.rows):
            for need in missing.keys() & (row[3] if row is not None else ()):
                missing[need] = f"needed by {self.keys[number]!r}"
        shown = [f"{self.keys[number]!r} ({who})" for number, who in list(missing.items())[:5]]
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise MissingKeyError(f"keys that are not in the graph: {', '.join(shown)}{more}")

    def cycle_error(self, numbers: tuple[int, ...]) -> CycleError:
        """The error that names the tasks of a cycle."""
        shown = [repr(self.keys[number]) for number in numbers]
        if len(shown) > 10:
            shown[5:-4] = ["..."]
        circle = " -> ".join((*shown, shown[0]))
        return CycleError(f"tasks of the graph need each other in a circle: {circle}")


class Converter:
    """Turns values of the graph into rows, one at a time."""

    def __init__(self, flattener: Flattener) -> None:
        self.graph = flattener.graph
        self.futures = flattener.futures
        self.number = flattener.number
        self.inputs: dict[int, Input] = {}
        self.calls = 0
        self.node_types: tuple[type, ...] = ()
        self.handlers: dict[type, Callable[[Any], Any]] = {}
        self.task_type: type | None = None
        # A dask node can only be in the graph if this module has been imported, up to its last class.
        spec = sys.modules.get("dask._task_spec")
        if hasattr(spec, "Dict"):
            self.use_nodes(spec)

    def use_nodes(self, spec: Any) -> None:
        """Learn the node types of dask's task specification."""
        self.node_types = (spec.GraphNode, spec.TaskRef)
        self.task_type = spec.Task
        self.handlers = {
            spec.Task: self.task_node,
            spec.Alias: lambda node: self.input(node.target),
            spec.TaskRef: lambda node: self.input(node.key),
            spec.DataNode: lambda node: node.value,
            spec.List: lambda node: [self.node_argument(item) for item in node.args],
            spec.Tuple: lambda node: tuple([self.node_argument(item) for item in node.args]),
            spec.Set: lambda node: {self.node_argument(item) for item in node.args},
            spec.Dict: self.dict_node,
        }

    def row(self, value: Any) -> Row:
        """The row whose result is what the value stands for."""
        self.inputs = {}
        self.calls = 0
        function: Callable[..., Any] = literal
        args: tuple[Any, ...]
        kwargs = NO_KWARGS
        if is_call(value):
            function, args = value[0], tuple([self.legacy(item) for item in value[1:]])
        elif type(value) is self.task_type:
            function, args, kwargs = self.task_parts(value)
        else:
            tree = self.legacy(value)
            if type(tree) is Call:
                self.calls -= 1
                function, args, kwargs = tree.function, tree.args, tree.kwargs
            else:
                args = (tree,)
        if self.calls:
            template = make_template(Call(function, args, kwargs))
            function, args, kwargs = run_nested, (template, *self.inputs.values()), NO_KWARGS
        return function, args, kwargs, list(self.inputs)

    def input(self, key: Key) -> Input:
        """The placeholder for the result of a key."""
        number = self.number(key)
        found = self.inputs.get(number)
        if found is None:
            index = len(self.inputs)
            found = self.inputs[number] = INPUTS[index] if index < len(INPUTS) else Input(index)
        return found

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """A call inside the row."""
        self.calls += 1
        return Call(function, args, kwargs)

    def future(self, future: Any) -> Input:
        """The placeholder for the result of a future."""
        self.futures[future.key] = future
        return self.input(future.key)

    # Legacy tasks: keys are recognised by being in the graph

    def legacy(self, value: Any) -> Any:
        """A legacy argument with placeholders for keys and calls for nested tasks."""
        kind = type(value)
        if kind in KEY_TYPES:
            if kind is tuple and is_call(value):
                return self.call(value[0], tuple([self.legacy(item) for item in value[1:]]), NO_KWARGS)
            if self.is_key(value):
                return self.input(value)
        if kind in LITERAL_TYPES:
            return value
        if kind in CONTAINERS:
            return kind([self.legacy(item) for item in value])
        if kind is dict:
            return self.in_dict(value)
        if isinstance(value, self.node_types):
            return self.node(value)
        if is_future(value):
            return self.future(value)
        return self.subclass(value)

    def is_key(self, value: Any) -> bool:
        """Whether the value names a task of the graph."""
        try:
            return value in self.graph
        except TypeError:
            return False

    def subclass(self, value: Any) -> Any:
        """An instance of a subclass of a container, made anew if there is a reference inside."""
        if isinstance(value, (str, bytes, int, float, tuple)) and self.is_key(value):
            return self.input(value)
        if not isinstance(value, (list, tuple, set, frozenset)):
            return value
        items = [self.legacy(item) for item in value]
        if not any(map(has_placeholder, items)):
            return value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self.call(type(value), tuple(items), NO_KWARGS)
        return self.call(type(value), (items,), NO_KWARGS)

    def in_dict(self, value: Any) -> Any:
        """What is inside a dict: as in dask, text there names no task, but futures and nodes count."""
        kind = type(value)
        if kind in LITERAL_TYPES:
            return value
        if kind is dict:
            return {self.in_dict(name): self.in_dict(item) for name, item in value.items()}
        if kind in CONTAINERS:
            return kind([self.in_dict(item) for item in value])
        return self.node_argument(value)

    # Nodes of dask._task_spec: references are explicit

    def node_argument(self, value: Any) -> Any:
        """An argument of a node: nodes and references count, anything else is a literal."""
        kind = type(value)
        if kind in LITERAL_TYPES:
            return value
        handler = self.handlers.get(kind)
        if handler is not None:
            return handler(value)
        if isinstance(value, self.node_types):
            return self.node(value)
        return self.future(value) if is_future(value) else value

    def node(self, node: Any) -> Any:
        """A node with placeholders for references and calls for tasks."""
        handler = self.handlers.get(type(node))
        if handler is not None:
            return handler(node)
        # A subclass of TaskRef is the Future of some client; another node is left to dask.
        return self.future(node) if isinstance(node, self.node_types[1]) else self.whole_node(node)

    def task_parts(self, node: Any) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """Function and arguments of a task node."""
        args = tuple([self.node_argument(item) for item in node.args])
        if not node.kwargs:
            return node.func, args, NO_KWARGS
        return node.func, args, {name: self.node_argument(item) for name, item in node.kwargs.items()}

    def task_node(self, node: Any) -> Call:
        """A task inside another one."""
        return self.call(*self.task_parts(node))

    def dict_node(self, node: Any) -> Any:
        """A dict of nodes; its keys may be nodes, too."""
        items = [self.node_argument(item) for item in node.args]
        if any(isinstance(name, (Call, list, dict, set)) for name in items[::2]):
            return self.whole_node(node)
        return dict(zip(items[::2], items[1::2], strict=True))

    def whole_node(self, node: Any) -> Call:
        """A node that dask itself must run."""
        names = tuple(node.dependencies)
        return self.call(run_node, (node, names, *[self.input(name) for name in names]), NO_KWARGS)


def is_call(value: Any) -> bool:
    """Whether the value is a legacy task: a tuple that starts with a callable."""
    return type(value) is tuple and bool(value) and callable(value[0])


def is_future(value: Any) -> bool:
    """Whether the value stands for a result that exists or is being made elsewhere."""
    kind = type(value)
    return hasattr(kind, "__fastdist_key__") or bool(getattr(kind, "__dask_future__", False))


def has_placeholder(tree: Any) -> bool:
    """Whether there is an input or a call in the tree."""
    kind = type(tree)
    if kind is Input or kind is Call:
        return True
    if kind in CONTAINERS:
        return any(map(has_placeholder, tree))
    return kind is dict and any(has_placeholder(item) for pair in tree.items() for item in pair)


def make_template(tree: Any) -> Any:
    """The tree as `run_nested` wants it."""
    kind = type(tree)
    if kind is Input:
        return Argument(tree.index)
    if kind is Call:
        kwargs = {name: make_template(item) for name, item in tree.kwargs.items()}
        return Call(tree.function, tuple([make_template(item) for item in tree.args]), kwargs)
    if not has_placeholder(tree):
        return tree
    items = [item for pair in tree.items() for item in pair] if kind is dict else tree
    return Build(kind, tuple([make_template(item) for item in items]))
