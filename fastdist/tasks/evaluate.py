"""What a worker runs for the rows of a dask graph that are no plain function call.

The client names these functions in the rows that it makes: for a literal, for dask nodes that only dask can
run, for functions that belong into an executor of the worker; calls inside of calls are a `Template`. May
import the standard library only, so that it costs workers nothing; `fastdist.context` when called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Call:
    """A call inside a task, while the client takes a graph apart."""

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


def literal(value: Any) -> Any:
    """The value of a row that is a literal, or another name for its only input."""
    return value


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


class InExecutor:
    """A function that runs in one of the worker's other executors; the task waits for it in its own place.

    Parameters
    ----------
    name : str
        ``offload``, or one of `Worker(executor=)`.
    function : callable
    """

    __slots__ = ("function", "name")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function

    def __reduce__(self) -> tuple[type[InExecutor], tuple[str, Callable[..., Any]]]:
        return InExecutor, (self.name, self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from concurrent.futures import ThreadPoolExecutor
        from contextvars import copy_context

        from fastdist.context import get_worker

        executors = get_worker().executors
        executor = executors.get(self.name)
        if executor is None:
            known = ", ".join(map(repr, ("default", *executors)))
            raise ValueError(f"the worker has no executor {self.name!r}; it has {known}")
        if not isinstance(executor, ThreadPoolExecutor):
            # Another process knows nothing of this task.
            return executor.submit(self.function, *args, **kwargs).result()
        return executor.submit(copy_context().run, self.function, *args, **kwargs).result()
