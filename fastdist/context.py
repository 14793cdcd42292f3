"""What surrounds the code that is running: the current task, worker and client.

A worker sets the task and itself around each call; the client layer, which this layer must not import, says
how to find or make a client. May import: nothing of fastdist.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol


class CurrentTask(Protocol):
    """The task that is executing: set by the worker, read by user code."""

    @property
    def key(self) -> Any:
        """Key of the task."""

    @property
    def task_id(self) -> int:
        """Id of the task within the scheduler's epoch."""

    @property
    def attempt(self) -> int:
        """Which attempt of the task this is."""

    @property
    def worker(self) -> Any:
        """The worker that executes it."""


current_task: ContextVar[CurrentTask | None] = ContextVar("fastdist_current_task", default=None)
"""The executing task; each execution thread sets it once, to an object that changes with the task."""

current_worker: ContextVar[Any] = ContextVar("fastdist_current_worker", default=None)
"""The worker whose code is running: in its tasks, plugins and functions sent with `Client.run`."""

_client_factory: Callable[..., Any] | None = None


def get_worker() -> Any:
    """The worker that runs the current task.

    Returns
    -------
    fastdist.Worker

    Raises
    ------
    ValueError
        Outside of a task.

    Examples
    --------
    >>> client.submit(lambda: get_worker().name).result()  # doctest: +SKIP
    0
    """
    worker = current_worker.get()
    if worker is None:
        raise ValueError("No worker found: get_worker() works inside of a task only")
    return worker


def get_current_task() -> CurrentTask:
    """The task that is executing, with its `key`, `task_id` and `attempt`.

    Raises
    ------
    ValueError
        Outside of a task.
    """
    task = current_task.get()
    if task is None or task.key is None:
        raise ValueError("no task is executing here")
    return task


def set_client_factory(factory: Callable[..., Any] | None) -> None:
    """Say how `get_client` finds or makes a client; called once by the client layer when it is imported."""
    global _client_factory
    _client_factory = factory


def client_factory() -> Callable[..., Any]:
    """What the client layer set with `set_client_factory`.

    Raises
    ------
    RuntimeError
        If the client layer has not been imported.
    """
    if _client_factory is None:
        raise RuntimeError("no client layer is loaded: import fastdist.client first")
    return _client_factory
