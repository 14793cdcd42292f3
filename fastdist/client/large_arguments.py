"""The warning about a large object that is sent again and again as an argument.

May import: `_core`, `config`, `protocol.arguments`, `client.large_graph`.
"""

from __future__ import annotations

import warnings
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

from fastdist import config
from fastdist._core.codec.sizeof import sizeof
from fastdist.client.large_graph import bytes_in_words, stacklevel_of_caller
from fastdist.protocol.arguments import pickle_arguments

#: Large objects that were sent last, and are compared with those that are sent next.
REMEMBERED = 8


class ArgumentPickler:
    """Pickles arguments, and warns once if one large object comes a second time.

    Examples
    --------
    >>> payload, references = ArgumentPickler()((1, 2), None, None)
    """

    def __init__(self) -> None:
        self._threshold: int = config.get("admin.large-graph-warning-threshold")
        self._sent: deque[Any] = deque(maxlen=REMEMBERED)
        self._warned = False

    def __call__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, reference_type: type | None = None
    ) -> tuple[bytes, list[Any]]:
        """What `pickle_arguments` gives."""
        pickled = pickle_arguments(args, kwargs, reference_type)
        if len(pickled[0]) > self._threshold and not self._warned:
            self._compare(args, kwargs or {})
        return pickled

    def _compare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for place, value in _places(args, kwargs):
            size = sizeof(value)
            if size <= self._threshold:
                continue
            try:
                same = weakref.ref(value)
            except TypeError:
                # A list, bytes, ...: another one may be at its address later, so nothing can be said of it.
                continue
            if any(each() is value for each in self._sent):
                self._warn(place, value, size)
                return
            self._sent.append(same)

    def _warn(self, place: str, value: Any, size: int) -> None:
        self._warned = True
        self._sent.clear()
        kind = type(value)
        warnings.warn(
            f"One {kind.__module__}.{kind.__qualname__} of {bytes_in_words(size)} is sent again with each task "
            f"({place}). Send it once, future = client.scatter(value), and give the tasks the future.",
            UserWarning,
            stacklevel=stacklevel_of_caller(),
        )


def _places(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for number, value in enumerate(args):
        yield f"args[{number}]", value
    for name, value in kwargs.items():
        yield f"{name}=", value
