"""What the snippets of the differential test share. May import: the standard library."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

#: The library that the snippets run on, by its import name.
LIBRARY = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] in ("distributed", "fastdist") else "fastdist"

SNIPPETS: dict[str, Callable[[Any, Any], Any]] = {}
PATIENCE = 10


def snippet(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    SNIPPETS[function.__name__] = function
    return function


def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result, or the class of the error."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return f"raises {type(error).__name__}"


def inc(x: int) -> int:
    return x + 1


def fail(x: Any = None) -> Any:
    raise ZeroDivisionError("on purpose", x)


class Counter:
    kind = "counter"
    n = 0

    def __init__(self, start: int = 0) -> None:
        self.n = start

    def add(self, by: int = 1) -> int:
        self.n += by
        return self.n

    def fail(self) -> None:
        raise KeyError("inside")


def lib_event(name: str) -> bool:
    """Wait for an event of the cluster, as a task."""
    return bool(importlib.import_module(LIBRARY).Event(name).wait(PATIENCE))
