"""fastdist: Python functions and dask graphs on one machine or many, at microseconds of overhead per task.

The public names, each loaded when it is first used; nothing else lives here.
"""

from __future__ import annotations

import sys
from importlib import import_module
from os import environ as _environ
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastdist.builtin_plugins import (
        CondaInstall,
        Environ,
        InstallPlugin,
        PipInstall,
        UploadDirectory,
        UploadFile,
    )
    from fastdist.client import Client, Future, as_completed, default_client, get_client, wait
    from fastdist.client.actor import Actor, ActorFuture, BaseActorFuture
    from fastdist.client.coordination import Event, Lock, MultiLock, Queue, Semaphore, Variable
    from fastdist.client.helpers import fire_and_forget, futures_of
    from fastdist.client.planned import performance_report, span
    from fastdist.client.progress import progress
    from fastdist.client.task_records import get_task_metadata, get_task_stream
    from fastdist.compat.names import CompatibleExecutor
    from fastdist.compat.rpc import connect
    from fastdist.compat.utils import sync
    from fastdist.context import get_worker
    from fastdist.deploy.adaptive import Adaptive
    from fastdist.deploy.local import LocalCluster
    from fastdist.deploy.spec import SpecCluster
    from fastdist.deploy.ssh import SSHCluster
    from fastdist.deploy.subprocess import SubprocessCluster
    from fastdist.errors import (
        ClosedClientError,
        FutureCancelledError,
        FuturesCancelledError,
        KilledWorker,
        Reason,
        Reschedule,
        TaskInterrupted,
        TaskTimeout,
        WorkerDeath,
    )
    from fastdist.nanny import Nanny
    from fastdist.plugins import NannyPlugin, SchedulerPlugin, WorkerPlugin
    from fastdist.retries import Retry, exponential
    from fastdist.scheduler.scheduler import Scheduler
    from fastdist.security import Security
    from fastdist.status import Status
    from fastdist.tasks.clients import local_client, worker_client
    from fastdist.tasks.output import print, warn
    from fastdist.tasks.slots import rejoin, secede
    from fastdist.worker.worker import Worker

__version__ = "0.1.0"

_HOMES = {
    "Actor": "fastdist.client.actor",
    "ActorFuture": "fastdist.client.actor",
    "Adaptive": "fastdist.deploy.adaptive",
    "BaseActorFuture": "fastdist.client.actor",
    "CancelledError": "concurrent.futures",
    "Client": "fastdist.client",
    "ClosedClientError": "fastdist.errors",
    "CompatibleExecutor": "fastdist.compat.names",
    "CondaInstall": "fastdist.builtin_plugins",
    "Environ": "fastdist.builtin_plugins",
    "Event": "fastdist.client.coordination",
    "Future": "fastdist.client",
    "FutureCancelledError": "fastdist.errors",
    "FuturesCancelledError": "fastdist.errors",
    "InstallPlugin": "fastdist.builtin_plugins",
    "KilledWorker": "fastdist.errors",
    "LocalCluster": "fastdist.deploy.local",
    "Lock": "fastdist.client.coordination",
    "MultiLock": "fastdist.client.coordination",
    "Nanny": "fastdist.nanny",
    "NannyPlugin": "fastdist.plugins",
    "PipInstall": "fastdist.builtin_plugins",
    "Queue": "fastdist.client.coordination",
    "Reason": "fastdist.errors",
    "Reschedule": "fastdist.errors",
    "TaskInterrupted": "fastdist.errors",
    "TaskTimeout": "fastdist.errors",
    "Retry": "fastdist.retries",
    "SSHCluster": "fastdist.deploy.ssh",
    "Scheduler": "fastdist.scheduler.scheduler",
    "SchedulerPlugin": "fastdist.plugins",
    "Security": "fastdist.security",
    "Semaphore": "fastdist.client.coordination",
    "SpecCluster": "fastdist.deploy.spec",
    "Status": "fastdist.status",
    "SubprocessCluster": "fastdist.deploy.subprocess",
    "TimeoutError": "builtins",
    "UploadDirectory": "fastdist.builtin_plugins",
    "UploadFile": "fastdist.builtin_plugins",
    "Variable": "fastdist.client.coordination",
    "Worker": "fastdist.worker.worker",
    "WorkerDeath": "fastdist.errors",
    "WorkerPlugin": "fastdist.plugins",
    "as_completed": "fastdist.client",
    "connect": "fastdist.compat.rpc",
    "default_client": "fastdist.client",
    "exponential": "fastdist.retries",
    "fire_and_forget": "fastdist.client.helpers",
    "futures_of": "fastdist.client.helpers",
    "get_client": "fastdist.client",
    "get_task_metadata": "fastdist.client.task_records",
    "get_task_stream": "fastdist.client.task_records",
    "get_worker": "fastdist.context",
    "local_client": "fastdist.tasks.clients",
    "performance_report": "fastdist.client.planned",
    "print": "fastdist.tasks.output",
    "progress": "fastdist.client.progress",
    "rejoin": "fastdist.tasks.slots",
    "secede": "fastdist.tasks.slots",
    "span": "fastdist.client.planned",
    "sync": "fastdist.compat.utils",
    "wait": "fastdist.client",
    "warn": "fastdist.tasks.output",
    "worker_client": "fastdist.tasks.clients",
}

__all__ = [
    "Actor",
    "ActorFuture",
    "Adaptive",
    "BaseActorFuture",
    "CancelledError",
    "Client",
    "ClosedClientError",
    "CompatibleExecutor",
    "CondaInstall",
    "Environ",
    "Event",
    "Future",
    "FutureCancelledError",
    "FuturesCancelledError",
    "InstallPlugin",
    "KilledWorker",
    "LocalCluster",
    "Lock",
    "MultiLock",
    "Nanny",
    "NannyPlugin",
    "PipInstall",
    "Queue",
    "Reason",
    "Reschedule",
    "Retry",
    "SSHCluster",
    "Scheduler",
    "SchedulerPlugin",
    "Security",
    "Semaphore",
    "SpecCluster",
    "Status",
    "SubprocessCluster",
    "TaskInterrupted",
    "TaskTimeout",
    "TimeoutError",
    "UploadDirectory",
    "UploadFile",
    "Variable",
    "Worker",
    "WorkerDeath",
    "WorkerPlugin",
    "as_completed",
    "connect",
    "default_client",
    "exponential",
    "fire_and_forget",
    "futures_of",
    "get_client",
    "get_task_metadata",
    "get_task_stream",
    "get_worker",
    "local_client",
    "performance_report",
    "print",
    "progress",
    "rejoin",
    "secede",
    "span",
    "sync",
    "wait",
    "warn",
    "worker_client",
]


class _Aliases:
    """Finds the modules that exist only in the table of aliases, once all files have been looked at."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> Any:
        if not fullname.startswith(f"{__name__}."):
            return None
        return import_module(f"{__name__}.aliases").AliasFinder().find_spec(fullname)


sys.meta_path.append(_Aliases)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if name == "dask" or (home is None and name in import_module(f"{__name__}.aliases").ALIASES):
        return import_module(name if name == "dask" else f"{__name__}.{name}")
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        # Importing the module `worker_client` shall not put it in the place of the function.
        if name in _HOMES and isinstance(value, ModuleType):
            value = getattr(import_module(_HOMES[name]), name)
        super().__setattr__(name, value)

    def __reduce__(self) -> Any:
        # A task may refer to the package.
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package


if _environ.get("FASTDIST_AS_DISTRIBUTED", "").strip().lower() not in ("", "0", "false", "no", "off"):
    import_module(f"{__name__}.as_distributed")
