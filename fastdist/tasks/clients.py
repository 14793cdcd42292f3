"""The client of a worker: its tasks submit and wait with it.

It is shared by all tasks of the worker, is made when it is first asked for, and lives on the worker's event loop.
May import: the layers below, and `client`.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from fastdist.client.client import Client
from fastdist.client.current import get_client
from fastdist.client.lifecycle import no_default
from fastdist.client.starting import WorkerHome
from fastdist.context import blocking, get_worker
from fastdist.errors import CommClosedError
from fastdist.status import Status

_making = threading.Lock()


def client_of(worker: Any, timeout: float | None = None) -> Client:
    """The client of a worker; see `fastdist.context.client_of`.

    On the worker's event loop it may not be connected yet; what is asked of it waits.

    Raises
    ------
    CommClosedError
        If the worker closes.
    OSError, TimeoutError
        If the scheduler cannot be reached.
    """
    client: Client | None = worker.client_of_tasks
    if client is None or client.status == "closed":
        client = _make(worker, timeout)
    try:
        client._wait_until_started()
    except BaseException:
        # The next task that asks tries again.
        worker.client_of_tasks = None
        raise
    return client


def _make(worker: Any, timeout: float | None) -> Client:
    with _making:
        client: Client | None = worker.client_of_tasks
        if client is not None and client.status != "closed":
            return client
        if worker.status in (Status.closing, Status.closed):
            raise CommClosedError(f"worker {worker.name} closes: its tasks get no client any more")
        client = worker.client_of_tasks = Client(
            WorkerHome(worker.scheduler_address, worker.event_loop, worker.token, worker.insecure),
            timeout=no_default if timeout is None else timeout,
            set_as_default=False,
            name="worker",
            insecure=worker.insecure,
        )
        return client


@contextlib.contextmanager
def worker_client(timeout: float | str | None = None, separate_thread: bool = True) -> Iterator[Client]:
    """The client of the worker that runs this task, in a `with` block.

    Parameters
    ----------
    timeout : number or str, optional
        For connecting to the scheduler, the first time.
    separate_thread : bool
        Whether other tasks may use the slot of this one in the meantime.

    Raises
    ------
    ValueError
        Outside of a task.

    Examples
    --------
    >>> def total(n):
    ...     with worker_client() as client:
    ...         return sum(client.gather(client.map(abs, range(n))))
    """
    get_worker()
    client = get_client(timeout=timeout)
    with blocking() if separate_thread else contextlib.nullcontext(), client.as_current():
        yield client


@contextlib.contextmanager
def local_client(*args: Any, **kwargs: Any) -> Iterator[Client]:
    """The old name of `worker_client`."""
    warnings.warn("local_client is now called worker_client", DeprecationWarning, stacklevel=3)
    with worker_client(*args, **kwargs) as client:
        yield client
