"""fastdist: Python functions and dask graphs on one machine or many, at microseconds of overhead per task.

The public names, each loaded when it is first used; nothing else lives here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastdist.client import Client, Future, as_completed, default_client, get_client, wait
    from fastdist.context import get_worker
    from fastdist.deploy.local import LocalCluster
    from fastdist.errors import (
        ClosedClientError,
        FutureCancelledError,
        FuturesCancelledError,
        KilledWorker,
        Reschedule,
    )
    from fastdist.nanny import Nanny
    from fastdist.scheduler.scheduler import Scheduler
    from fastdist.status import Status
    from fastdist.worker.worker import Worker

__version__ = "0.1.0"

_HOMES = {
    "CancelledError": "concurrent.futures",
    "Client": "fastdist.client",
    "ClosedClientError": "fastdist.errors",
    "Future": "fastdist.client",
    "FutureCancelledError": "fastdist.errors",
    "FuturesCancelledError": "fastdist.errors",
    "KilledWorker": "fastdist.errors",
    "LocalCluster": "fastdist.deploy.local",
    "Nanny": "fastdist.nanny",
    "Reschedule": "fastdist.errors",
    "Scheduler": "fastdist.scheduler.scheduler",
    "Status": "fastdist.status",
    "TimeoutError": "builtins",
    "Worker": "fastdist.worker.worker",
    "as_completed": "fastdist.client",
    "default_client": "fastdist.client",
    "get_client": "fastdist.client",
    "get_worker": "fastdist.context",
    "wait": "fastdist.client",
}

__all__ = [
    "CancelledError",
    "Client",
    "ClosedClientError",
    "Future",
    "FutureCancelledError",
    "FuturesCancelledError",
    "KilledWorker",
    "LocalCluster",
    "Nanny",
    "Reschedule",
    "Scheduler",
    "Status",
    "TimeoutError",
    "Worker",
    "as_completed",
    "default_client",
    "get_client",
    "get_worker",
    "wait",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
