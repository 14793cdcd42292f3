"""Futures inside lists, tuples, sets and dicts: found, and replaced. May import: `client.future`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastdist.client.future import Future

#: Stands for the value of a future that is left out.
SKIPPED = object()


def find_futures(value: Any) -> list[Future]:
    """The distinct futures in a value, at any depth of lists, tuples, sets and dicts, in order.

    dask collections and graphs count as what their graph holds.
    """
    found: dict[int, Future] = {}
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is Future:
            found.setdefault(id(item), item)
        elif type(item) in (list, tuple, set, frozenset):
            stack.extend(reversed(list(item)))
        elif type(item) is dict:
            stack.extend(reversed(list(item.values())))
        elif _is_named_tuple(item):
            stack.extend(reversed(item))
        elif hasattr(item, "__dask_graph__"):
            graph = item.__dask_graph__()
            if graph is not None:
                stack.extend(reversed(list(dict(graph).values())))
    return list(found.values())


def replace_futures(value: Any, value_of: Callable[[Future], Any]) -> Any:
    """The same nest of containers with each future replaced.

    Futures whose value is SKIPPED are left out; in a named tuple there is None in their place.
    """
    if type(value) is Future:
        return value_of(value)
    if type(value) in (list, tuple, set, frozenset):
        items = [replace_futures(item, value_of) for item in value]
        return type(value)(item for item in items if item is not SKIPPED)
    if type(value) is dict:
        pairs = ((key, replace_futures(item, value_of)) for key, item in value.items())
        return {key: item for key, item in pairs if item is not SKIPPED}
    if _is_named_tuple(value):
        # Its fields have to be there.
        items = [replace_futures(item, value_of) for item in value]
        return type(value)(*(None if item is SKIPPED else item for item in items))
    return value


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")
