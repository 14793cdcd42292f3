"""The data of a worker: values by task id.

`DictStore` is for a worker without a memory limit, `SplitStore` puts small values before
`fastdist.worker.spill.SpillStore`, which has the same methods and keeps what is too much on disk. May import:
nothing of fastdist.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Store(Protocol):
    """What a worker needs of the place that holds its data. All methods may be called from any thread."""

    def put(self, task_id: int, value: object, nbytes: int) -> None:
        """Keep a value, in place of one that was there."""

    def get(self, task_id: int) -> Any:
        """The value; KeyError if there is none."""

    def drop(self, task_id: int) -> None:
        """Forget the value, if there is one."""

    def rename(self, pairs: list[tuple[int, int]]) -> None:
        """Keep values under other ids: pairs of an old and a new one; no new id is also an old one."""

    def __contains__(self, task_id: object) -> bool: ...

    def __len__(self) -> int: ...


class DictStore:
    """Keeps all values in memory.

    `values` is the dict itself: the execution loop uses it directly, without a call per task.

    Examples
    --------
    >>> store = DictStore()
    >>> store.put(1, "value", 5)
    >>> store.get(1)
    'value'
    """

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}

    def put(self, task_id: int, value: object, nbytes: int) -> None:
        """Keep a value, in place of one that was there."""
        self.values[task_id] = value

    def get(self, task_id: int) -> Any:
        """The value; KeyError if there is none."""
        return self.values[task_id]

    def drop(self, task_id: int) -> None:
        """Forget the value, if there is one."""
        self.values.pop(task_id, None)

    def rename(self, pairs: list[tuple[int, int]]) -> None:
        """Keep values under other ids."""
        for old, new in pairs:
            if old in self.values:
                self.values[new] = self.values.pop(old)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self.values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[int]:
        return iter(list(self.values))


#: A value of at most this many bytes is small.
SMALL_BYTES = 512


class SplitStore:
    """Keeps small values in a dict, and the others where they can be spilled.

    Most results of most graphs are a few bytes: they cost a dict entry each, and there is nothing to gain by
    spilling them. There is room for `room` small values; further ones are treated like large ones.

    Parameters
    ----------
    large : Store
        Where large values go.
    room : int
        How many values the dict takes.

    Examples
    --------
    >>> store = SplitStore(DictStore(), room=10)
    >>> store.put(1, "large", 1_000_000)
    >>> store.values, store.get(1)
    ({}, 'large')
    """

    def __init__(self, large: Store, room: int) -> None:
        self.values: dict[int, Any] = {}
        self.large = large
        self.room = room

    def put(self, task_id: int, value: object, nbytes: int) -> None:
        """Keep a value, in place of one that was there."""
        if nbytes <= SMALL_BYTES and len(self.values) < self.room:
            self.values[task_id] = value
        else:
            self.large.put(task_id, value, nbytes)
            self.values.pop(task_id, None)

    def get(self, task_id: int) -> Any:
        """The value; KeyError if there is none."""
        try:
            return self.values[task_id]
        except KeyError:
            return self.large.get(task_id)

    def drop(self, task_id: int) -> None:
        """Forget the value, if there is one."""
        self.values.pop(task_id, None)
        self.large.drop(task_id)

    def rename(self, pairs: list[tuple[int, int]]) -> None:
        """Keep values under other ids."""
        self.large.rename(pairs)
        for old, new in pairs:
            if old in self.values:
                self.values[new] = self.values.pop(old)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self.values or task_id in self.large

    def __len__(self) -> int:
        return len(self.values) + len(self.large)
