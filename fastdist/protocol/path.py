"""Where in an object the part is that cannot be pickled.

May import: nothing of fastdist.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

MAX_DEPTH = 50
MAX_TRIES = 2000
"""How many parts are tried before the search stops where it is."""


# What follows from their reduction is not theirs alone; functions and methods are looked into on their own.
_PICKLED_BY_NAME = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinMethodType)


class Found(NamedTuple):
    """The innermost part of a value that cannot be pickled."""

    path: str
    value: object


def find_unpicklable(value: object, name: str, can_pickle: Callable[[object], bool]) -> Found:
    """The innermost part of a value that cannot be pickled.

    Parameters
    ----------
    value : object
        An object that cannot be pickled.
    name : str
        The start of the path.
    can_pickle : callable
        Whether a part can be pickled. It is called for at most `MAX_TRIES` parts.

    Returns
    -------
    Found
        The path as a Python expression (``args[0]['model']._lock``) and the part itself. If each part of
        a value can be pickled and the whole cannot, it is the whole.

    Examples
    --------
    >>> def is_text(part):
    ...     return "7" not in repr(part)
    >>> find_unpicklable({"a": [1, 7]}, "args", is_text).path
    "args['a'][1]"
    """
    tries = 0
    seen = {id(value)}
    for _ in range(MAX_DEPTH):
        for suffix, part in _parts_of(value):
            if id(part) in seen:
                continue
            seen.add(id(part))
            tries += 1
            if tries > MAX_TRIES:
                return Found(name, value)
            if not can_pickle(part):
                name, value = name + suffix, part
                break
        else:
            break
    return Found(name, value)


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    """The objects that a pickle of `value` holds, each with what leads to it."""
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"[{_short(key)}]", item
        for key in list(value):
            yield f" key {_short(key)}", key
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield f" item {_short(item)}", item
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield ".args", value.args
        yield ".keywords", value.keywords
    elif isinstance(value, (types.MethodType, types.BuiltinMethodType)):
        yield ".__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from _function_parts(value)
    if not isinstance(value, _PICKLED_BY_NAME):
        yield from _attributes(value)


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f" closure {name}", cell.cell_contents
        except ValueError:  # an empty cell holds nothing to pickle
            continue
    for name in _global_names(function.__code__):
        if name in function.__globals__:
            yield f" global {name}", function.__globals__[name]
    yield ".__defaults__", function.__defaults__
    yield ".__kwdefaults__", function.__kwdefaults__


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _attributes(value: Any) -> Iterator[tuple[str, object]]:
    """What the object itself tells pickle: its state, and the arguments to make it anew."""
    reduced = value.__reduce_ex__(5)
    if isinstance(reduced, str):
        return
    state = reduced[2] if len(reduced) > 2 else None
    for part in state if type(state) is tuple else (state,):
        if isinstance(part, dict):
            for name, item in list(part.items()):
                yield f".{name}", item
        elif part is not None:
            yield ".__getstate__()", part
    for index, item in enumerate(reduced[1]):
        if not isinstance(item, type):
            yield f".__reduce__()[1][{index}]", item


def _parts_of(value: Any) -> Iterator[tuple[str, object]]:
    try:
        yield from _parts(value)
    except Exception:  # the object refuses to be taken apart: it is the reason itself
        return


def _short(key: object) -> str:
    """A key as it would be written; nothing long, and nothing that the user's ``__repr__`` may break."""
    if isinstance(key, (str, bytes, int, float, complex, type(None))) or type(key) is tuple:
        text = repr(key)
        return text if len(text) <= 60 else text[:57] + "..."
    return f"<{type(key).__qualname__}>"
