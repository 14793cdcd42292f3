"""The warning about a graph that is large, with the objects that make it so.

May import: `fastdist._core`, `config`, `client.graph`, `tasks`.
"""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Iterator
from typing import Any

from fastdist import config
from fastdist._core.codec.sizeof import sizeof
from fastdist.client.graph import FlatGraph
from fastdist.tasks.evaluate import Call
from fastdist.tasks.template import Build, Template

#: How many objects the warning names, and among how many of the largest rows they are looked for.
NAMED = 3
SEARCHED = 50
#: What takes fewer bytes makes no graph large; that it has many tasks is no reason to warn.
SMALL = 1_000
_MAX_DEPTH = 8


def warn_if_large(graph: FlatGraph, sizes: array[int], function_bytes: dict[int, int]) -> None:
    """Warn if the objects in a graph take more bytes than `admin.large-graph-warning-threshold`.

    Parameters
    ----------
    graph : FlatGraph
    sizes : array
        The bytes of the arguments of each row.
    function_bytes : dict
        The bytes of each function, by its id.
    """
    total = sum([size for sizes_of in (sizes, function_bytes.values()) for size in sizes_of if size > SMALL])
    if total <= config.get("admin.large-graph-warning-threshold"):
        return
    named = _largest_objects(graph, sizes, function_bytes)
    if not named:
        return
    lines = "".join(f"\n  {bytes_in_words(size)}: {place}" for size, place in named)
    warnings.warn(
        f"The graph takes {bytes_in_words(total)} to send. Its largest objects are:{lines}\n"
        "Have tasks load such data themselves, or scatter it once and use the future.",
        UserWarning,
        stacklevel=stacklevel_of_caller(),
    )


def _largest_objects(
    graph: FlatGraph, sizes: array[int], function_bytes: dict[int, int]
) -> list[tuple[int, str]]:
    found: dict[int, tuple[int, str]] = {}
    rows = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)[:SEARCHED]
    for row in rows:
        for size, place, value in _parts(graph.args[row], f"the arguments of {graph.keys[row]!r}", 0):
            found.setdefault(id(value), (size, place))
    first_row = {id(function): row for row, function in reversed(list(enumerate(graph.functions)))}
    functions = sorted(function_bytes, key=function_bytes.__getitem__, reverse=True)[:SEARCHED]
    for number in functions:
        row = first_row[number]
        place = f"the function of {graph.keys[row]!r} and others"
        parts = list(_parts(graph.functions[row], place, 0))
        if not parts and function_bytes[number] > SMALL:
            found[number] = (function_bytes[number], place)
        for size, where, value in parts:
            found.setdefault(id(value), (size, where))
    return sorted(found.values(), reverse=True)[:NAMED]


def _parts(value: Any, place: str, depth: int) -> Iterator[tuple[int, str, Any]]:
    """The objects in a value that are no containers: size, where, object."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, Template):
        value = value.steps
    elif isinstance(value, Build):
        value = value.items
    elif isinstance(value, Call):
        value = (value.args, value.kwargs)
    if isinstance(value, tuple | list | set | frozenset):
        for item in value:
            yield from _parts(item, place, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _parts(name, place, depth + 1)
            yield from _parts(item, place, depth + 1)
    elif not callable(value):
        size = sizeof(value)
        if size > SMALL:
            kind = type(value)
            yield size, f"a {kind.__module__}.{kind.__qualname__} in {place}", value


def stacklevel_of_caller() -> int:
    """The level of the code that called the client, past fastdist and dask."""
    import sys

    level = 1
    frame = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).split(".")[0]
        if package not in ("fastdist", "dask"):
            return level
        level += 1
        frame = frame.f_back  # type: ignore[assignment]
    return 2


def bytes_in_words(size: int) -> str:
    """A number of bytes as people write it."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("kiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
