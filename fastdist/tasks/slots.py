"""Tasks that leave the slots of their worker for good. May import: `fastdist.context`."""

from __future__ import annotations

from fastdist.context import CurrentTask, current_task


def _task() -> CurrentTask:
    task = current_task.get()
    if task is None or task.key is None:
        raise ValueError("no task is executing here: secede() and rejoin() work inside of a task only")
    return task


def secede() -> None:
    """Have this task execute beside the slots of its worker, so that another task can start in its place.

    Waiting for futures needs no `secede`: it gives the slot back by itself, and takes it again afterwards.

    Raises
    ------
    ValueError
        Outside of a task.
    TooManyThreadsError
        If the worker may start no more threads.

    Examples
    --------
    >>> def watch(path):
    ...     secede()
    ...     while not exists(path):
    ...         sleep(1)
    """
    _task().secede()


def rejoin() -> None:
    """Undo `secede`: wait until the worker has a slot for this task. Does nothing for a task that has one.

    Raises
    ------
    ValueError
        Outside of a task.
    """
    _task().rejoin()
