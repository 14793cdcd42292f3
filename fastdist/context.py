"""What surrounds the code that is running: the current task, worker and client.

A worker sets the task and itself around each call; the layer of the clients, which this layer must not import, is
found by name. May import: nothing of fastdist.
"""

from __future__ import annotations

from contextvars import ContextVar
from importlib import import_module
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

    def give_slot_back(self) -> bool:
        """Let other tasks execute while this one waits; False if there is nothing to give."""

    def take_slot(self) -> None:
        """Undo `give_slot_back`."""

    def secede(self) -> None:
        """Execute beside the slots of the worker from now on."""

    def rejoin(self) -> None:
        """Undo `secede`."""


current_task: ContextVar[CurrentTask | None] = ContextVar("fastdist_current_task", default=None)
"""The executing task; each execution thread sets it once, to an object that changes with the task."""

current_worker: ContextVar[Any] = ContextVar("fastdist_current_worker", default=None)
"""The worker whose code is running: in its tasks, plugins and functions sent with `Client.run`."""

#: What makes the clients of workers; it lives above this layer.
CLIENTS = "fastdist.tasks.clients"


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


class blocking:
    """What every wait for something that another task may bring about goes through.

    Inside of a task, its slot goes to other tasks for the time of the `with` block; afterwards the block ends once
    there is a slot for it again (for a coroutine, at once). Resources stay taken. Anywhere else it does nothing,
    and blocks may lie inside each other.

    Raises
    ------
    TooManyThreadsError
        At its beginning, if the worker may start no more threads for other tasks.

    Examples
    --------
    >>> with blocking():  # doctest: +SKIP
    ...     event.wait()
    """

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: CurrentTask | None = None

    def __enter__(self) -> None:
        task = current_task.get()
        if task is not None and task.give_slot_back():
            self._task = task

    def __exit__(self, *exception: object) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.take_slot()


def client_of(worker: Any, timeout: float | None = None) -> Any:
    """The client of a worker, for its tasks; made when it is first asked for.

    Parameters
    ----------
    worker : Worker
        The worker.
    timeout : float, optional
        Seconds to connect.
    """
    return import_module(CLIENTS).client_of(worker, timeout)
