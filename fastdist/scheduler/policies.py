"""Policies of the memory manager: what they are asked, and what they may suggest.

A policy of one's own is a subclass of `ActiveMemoryManagerPolicy`, named by the setting
`scheduler.active-memory-manager.policies` or given to `scheduler.extensions["amm"].add_policy`. Tasks and workers are
seen through the scheduler's views. May import: nothing of fastdist.
"""

from __future__ import annotations

import abc
from collections.abc import Generator, Iterable
from typing import Any, ClassVar, NamedTuple


class Suggestion(NamedTuple):
    """One copy of a task's result more, or one less.

    Parameters
    ----------
    op : str
        `"replicate"` or `"drop"`.
    ts : TaskState
        The task.
    candidates : set of WorkerState, optional
        Among which workers the memory manager chooses; all by default.
    """

    op: str
    ts: Any
    candidates: Iterable[Any] | None = None


class ActiveMemoryManagerPolicy(abc.ABC):
    """What may be done about the memory of workers; a subclass has a `run`.

    Examples
    --------
    >>> class Everywhere(ActiveMemoryManagerPolicy):
    ...     def run(self):
    ...         for task in self.manager.scheduler.tasks.values():
    ...             if task.state == "memory":
    ...                 yield Suggestion("replicate", task)
    """

    #: The memory manager that it was added to.
    manager: Any

    @abc.abstractmethod
    def run(self) -> Generator[Suggestion | tuple[Any, ...], Any, None]:
        """Suggest what to do, one copy at a time; each `yield` gives the worker that was chosen, or None."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ReduceReplicas(ActiveMemoryManagerPolicy):
    """Drop the copies that nobody needs. The scheduler's core does it; see `_core/scheduler/replicas`."""

    #: The memory manager has the core do it, in place of `run`.
    in_core: ClassVar[bool] = True

    def run(self) -> Generator[Suggestion, Any, None]:
        """Nothing that is left to the memory manager."""
        yield from ()
