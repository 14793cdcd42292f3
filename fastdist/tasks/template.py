"""What workers run for the rows of a dask graph that are more than one plain call.

A template is a small program: calls, one after the other, each of functions, constants, the arguments of the
row and the results of earlier calls. Rows that differ only in their arguments share one template, which
travels once. May import the standard library only, so that it costs workers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class Argument:
    """Stands for argument `number` of a row; from the number of its arguments on, for the result of a call."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[type[Argument], tuple[int]]:
        return Argument, (self.number,)

    def __repr__(self) -> str:
        return f"Argument({self.number})"


class Build:
    """A container or slice made of constants, arguments and other containers.

    The items of a dict are its keys and values in turn; those of a slice are start, stop and step.
    """

    __slots__ = ("items", "kind")

    def __init__(self, kind: type, items: tuple[Any, ...]) -> None:
        self.kind = kind
        self.items = items

    def __reduce__(self) -> tuple[type[Build], tuple[type, tuple[Any, ...]]]:
        return Build, (self.kind, self.items)

    def __repr__(self) -> str:
        return f"Build({self.kind.__name__}, {self.items!r})"


#: function, arguments, keyword arguments
Step = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Template:
    """A program of calls; calling it with the arguments of a row runs it.

    Parameters
    ----------
    n_arguments : int
        How many arguments a row has.
    steps : sequence of Step
        The calls, in order; what the last one returns is the result. `Argument` and `Build` objects in their
        arguments are replaced, also in each other; anything else is a constant, and nobody looks into it.

    Examples
    --------
    >>> Template(1, [(abs, (-7,), {}), (max, (Argument(0), Argument(1)), {})])(3)
    7
    """

    __slots__ = ("dead_after", "n_arguments", "steps")

    def __init__(self, n_arguments: int, steps: Sequence[Step]) -> None:
        self.n_arguments = n_arguments
        self.steps = tuple(steps)
        self.dead_after = _dead_after(n_arguments, self.steps)

    def __reduce__(self) -> tuple[type[Template], tuple[int, tuple[Step, ...]]]:
        return Template, (self.n_arguments, self.steps)

    def __repr__(self) -> str:
        return f"Template({self.n_arguments}, {self.steps!r})"

    def __call__(self, *arguments: Any) -> Any:
        values = list(arguments)
        del arguments
        result = None
        for (function, args, kwargs), dead in zip(self.steps, self.dead_after, strict=True):
            given = [_fill(item, values) for item in args]
            if kwargs:
                result = function(*given, **{name: _fill(item, values) for name, item in kwargs.items()})
            else:
                result = function(*given)
            values.append(result)
            # What no later call needs must not stay in memory: it may be large.
            for number in dead:
                values[number] = None
        return result


def run_template(template: Template, *arguments: Any) -> Any:
    """Run a template that no other row shares, and that came with its arguments."""
    return template(*arguments)


def _fill(item: Any, values: list[Any]) -> Any:
    kind = type(item)
    if kind is Argument:
        return values[item.number]
    if kind is not Build:
        return item
    items = [_fill(inner, values) for inner in item.items]
    if item.kind is dict:
        return dict(zip(items[::2], items[1::2], strict=True))
    return slice(*items) if item.kind is slice else item.kind(items)


def _dead_after(n_arguments: int, steps: tuple[Step, ...]) -> tuple[tuple[int, ...], ...]:
    """For each call the numbers of the values that it is the last to use."""
    last_use = {n_arguments + number: number for number in range(len(steps) - 1)}
    for number, (_, args, kwargs) in enumerate(steps):
        stack: list[Any] = [*args, *kwargs.values()]
        while stack:
            item = stack.pop()
            if type(item) is Argument:
                last_use[item.number] = number
            elif type(item) is Build:
                stack.extend(item.items)
    dead: list[list[int]] = [[] for _ in steps]
    for value, number in last_use.items():
        dead[number].append(value)
    return tuple(map(tuple, dead))
