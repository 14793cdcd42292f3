"""The values of queues and variables: opaque bytes, and the tasks of the futures in them, which they keep.

May import: `config`, `rpc`, `scheduler.extensions`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fastdist import config
from fastdist.rpc.fields import items
from fastdist.scheduler.extensions.keeper import Keeper

#: Futures in one value.
MAX_FUTURES = 100_000


@dataclass(eq=False)
class Value:
    """One value; `ids` are the keeper's wants of its tasks."""

    payload: bytes
    keys: list[bytes] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)


class Values:
    """Takes values from messages and counts their bytes.

    Parameters
    ----------
    scheduler : Scheduler
        Whose core has the tasks.
    name : str
        What keeps the tasks, as the core knows it.
    """

    def __init__(self, scheduler: Any, name: str) -> None:
        self._keeper = Keeper(scheduler, name)
        self._name = name
        self.n_bytes = 0

    def take(self, fields: dict[str, Any], buffers: list[Any]) -> Value:
        """The value of a message; its tasks are kept from now on.

        Raises
        ------
        MemoryError
            If there is no room for it.
        """
        keys = items(fields, "keys", bytes, MAX_FUTURES)
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        limit = config.get("scheduler.max-coordination-bytes")
        if self.n_bytes + size > limit:
            raise MemoryError(
                f"a value of {size} bytes has no room beside the {self.n_bytes} bytes that are in the {self._name} "
                f"already; the setting scheduler.max-coordination-bytes allows {limit}. Scatter large data, and pass "
                "the future on"
            )
        # A copy: in one process the buffers are the sender's own memory.
        value = Value(b"".join(buffers), keys)
        value.ids = self._keeper.keep(keys) if keys else []
        self.n_bytes += size
        return value

    def restore(self, fact: list[Any]) -> Value:
        """A value that the journal has; the core's own record keeps its tasks."""
        value = Value(*fact)
        self.n_bytes += len(value.payload)
        return value

    def keep_only(self, values: Iterable[Value]) -> None:
        """Let go of the tasks that none of these values needs: what was given away in an earlier life."""
        self._keeper.keep_only(id for value in values for id in value.ids)

    def forget(self, value: Value) -> None:
        """As `drop`, for a value whose tasks the core has let go of already."""
        self.n_bytes -= len(value.payload)

    def share(self, value: Value) -> Value:
        """The same value once more, for somebody who has yet to say that it arrived."""
        self.n_bytes += len(value.payload)
        return Value(value.payload, value.keys, self._keeper.keep(value.keys) if value.keys else [])

    def drop(self, value: Value) -> None:
        """Let go of a value and its tasks."""
        self.n_bytes -= len(value.payload)
        if value.ids:
            self._keeper.release(value.ids)
            value.ids = []


def fact_of(value: Value) -> list[Any]:
    """A value, as the journal has it."""
    return [value.payload, value.keys, value.ids]
