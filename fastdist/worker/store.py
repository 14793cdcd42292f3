"""The data of a worker that has no memory limit: values by task id, in a dict.

`fastdist.worker.spill.SpillStore` has the same methods and keeps what is too much on disk. May import: nothing of
fastdist.
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

    def __contains__(self, task_id: object) -> bool:
        return task_id in self.values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[int]:
        return iter(list(self.values))
