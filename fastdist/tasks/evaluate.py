"""What a worker runs for the rows of a dask graph that are no plain function call.

`fastdist/client/graph.py` names these functions in the rows that it makes: a literal, calls nested inside
each other, and dask nodes that only dask can run. May import the standard library only, so that it costs
workers nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Argument:
    """Stands for input `number` inside a template."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[type[Argument], tuple[int]]:
        return Argument, (self.number,)

    def __repr__(self) -> str:
        return f"Argument({self.number})"


class Call:
    """A call inside a template; its arguments are templates, too."""

    __slots__ = ("args", "function", "kwargs")

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs or {}

    def __reduce__(self) -> tuple[type[Call], tuple[Any, ...]]:
        return Call, (self.function, self.args, self.kwargs)

    def __repr__(self) -> str:
        return f"Call({self.function!r}, {self.args!r}, {self.kwargs!r})"


class Build:
    """A list, tuple, set, frozenset or dict inside a template, made of templates.

    The items of a dict are its keys and values in turn.
    """

    __slots__ = ("items", "kind")

    def __init__(self, kind: type, items: tuple[Any, ...]) -> None:
        self.kind = kind
        self.items = items

    def __reduce__(self) -> tuple[type[Build], tuple[type, tuple[Any, ...]]]:
        return Build, (self.kind, self.items)

    def __repr__(self) -> str:
        return f"Build({self.kind.__name__}, {self.items!r})"


def literal(value: Any) -> Any:
    """The value of a row that is a literal, or another name for its only input."""
    return value


def run_nested(template: Any, *inputs: Any) -> Any:
    """Run the calls of a template, the innermost first.

    Parameters
    ----------
    template : object
        Made of `Call`, `Build`, `Argument`; anything else is a literal, and nobody looks into it.
    *inputs : object
        The values that the arguments stand for.

    Examples
    --------
    >>> run_nested(Call(max, (Argument(0), Call(abs, (-7,)))), 3)
    7
    """
    kind = type(template)
    if kind is Argument:
        return inputs[template.number]
    if kind is Call:
        args = [run_nested(item, *inputs) for item in template.args]
        kwargs = {name: run_nested(item, *inputs) for name, item in template.kwargs.items()}
        return template.function(*args, **kwargs)
    if kind is Build:
        items = [run_nested(item, *inputs) for item in template.items]
        if template.kind is dict:
            return dict(zip(items[::2], items[1::2], strict=True))
        return template.kind(items)
    return template


def run_node(node: Callable[[dict[Any, Any]], Any], names: tuple[Any, ...], *inputs: Any) -> Any:
    """Run a dask node of a kind that fastdist does not take apart.

    Parameters
    ----------
    node : dask._task_spec.GraphNode
        The node; calling it with a dict of inputs runs it.
    names : tuple
        The keys under which the node knows its inputs.
    *inputs : object
        The inputs, in the order of `names`.
    """
    return node(dict(zip(names, inputs, strict=True)))
