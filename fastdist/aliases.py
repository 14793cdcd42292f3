"""Where dask.distributed keeps a name, and where it is here: `from fastdist.lock import Lock` works, too.

A module of this table that is no file of its own is made when it is imported; one that is a file asks the table for
what it does not define (`__getattr__ = names_of(__name__)`). May import: nothing of fastdist; homes are text.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_TOP = "fastdist"


def _from(home: str, names: str) -> dict[str, str]:
    return {name: f"{home}:{name}" for name in names.split()}


_PLUGINS = _from(f"{_TOP}.plugins", "SchedulerPlugin WorkerPlugin NannyPlugin")
_COORDINATION = f"{_TOP}.client.coordination"
_CONCURRENT = {"CancelledError": "concurrent.futures:CancelledError", "TimeoutError": "builtins:TimeoutError"}

#: Module (below `fastdist`) and name, to the home of what has the name.
ALIASES: dict[str, dict[str, str]] = {
    "active_memory_manager": {},
    "actor": _from(f"{_TOP}.client.actor", "Actor ActorFuture BaseActorFuture"),
    "cfexecutor": _from(f"{_TOP}.client.executor", "ClientExecutor"),
    "client": {
        **_from(
            _TOP,
            "ClosedClientError FutureCancelledError FuturesCancelledError fire_and_forget futures_of progress"
            " get_task_metadata get_task_stream performance_report",
        ),
        **_from(f"{_TOP}.client.helpers", "ensure_default_client temp_default_client"),
        **_from(f"{_TOP}.errors", "CancelledFuturesGroup"),
        **_from(f"{_TOP}.compat.names", "CompatibleExecutor"),
        **_CONCURRENT,
    },
    "cli.dask_scheduler": _from(f"{_TOP}.cli.scheduler", "main"),
    "cli.dask_spec": _from(f"{_TOP}.cli.spec", "main"),
    "cli.dask_worker": _from(f"{_TOP}.cli.worker", "main"),
    "cluster_dump": _from(f"{_TOP}.client.cluster_dump", "DumpArtefact load_cluster_dump write_state"),
    "comm": {
        **_from(
            f"{_TOP}.compat.addresses",
            "get_address_host get_address_host_port get_local_address_for resolve_address",
        ),
        **_from(f"{_TOP}.errors", "CommClosedError"),
    },
    "comm.addressing": {
        **_from(f"{_TOP}.comm", "parse_address"),
        **_from(
            f"{_TOP}.compat.addresses",
            "get_address_host get_address_host_port get_local_address_for resolve_address",
        ),
    },
    "core": {
        **_from(f"{_TOP}.status", "Status"),
        **_from(f"{_TOP}.errors", "CommClosedError RPCClosed"),
        **_from(f"{_TOP}.compat.rpc", "rpc connect"),
        **_from(f"{_TOP}.compat.utils", "clean_exception error_message coerce_to_address"),
    },
    "deploy.adaptive": _from(f"{_TOP}.deploy", "Adaptive"),
    "deploy.utils": _from(f"{_TOP}.deploy.local", "nprocesses_nthreads"),
    "diagnostics": {
        **_from(f"{_TOP}.client.planned", "MemorySampler"),
        **_from(f"{_TOP}.client.progress", "progress"),
    },
    "diagnostics.memory_sampler": _from(f"{_TOP}.client.planned", "MemorySampler"),
    "diagnostics.memray": _from(f"{_TOP}.client.planned", "memray_scheduler memray_workers"),
    "diagnostics.progressbar": _from(f"{_TOP}.client.progress", "progress"),
    "diagnostics.task_stream": _from(f"{_TOP}.client.task_records", "get_task_stream"),
    "event": _from(_COORDINATION, "Event"),
    "exceptions": _from(f"{_TOP}.errors", "Reschedule WorkerStartTimeoutError"),
    "lock": _from(_COORDINATION, "Lock"),
    "metrics": {"time": "time:time", "monotonic": "time:monotonic", "thread_time": "time:thread_time"},
    "multi_lock": _from(_COORDINATION, "MultiLock"),
    "protocol": _from(f"{_TOP}.compat.utils", "serialize deserialize"),
    "queues": _from(_COORDINATION, "Queue"),
    "scheduler": {
        **_from(_TOP, "Scheduler KilledWorker"),
        **_from(f"{_TOP}.errors", "NoValidWorkerError NoWorkerError"),
        **_from(f"{_TOP}.compat.scheduler_members", "WorkerState ClientState"),
        **_from(f"{_TOP}.compat.scheduler_tasks", "TaskState TaskGroup TaskPrefix"),
        **_from(f"{_TOP}.compat.memory", "MemoryState"),
    },
    "semaphore": _from(_COORDINATION, "Semaphore"),
    "sizeof": {"sizeof": f"{_TOP}._core.codec.sizeof:sizeof", "safe_sizeof": f"{_TOP}._core.codec.sizeof:sizeof"},
    "objects": _from(f"{_TOP}.client.information", "HasWhat SchedulerInfo WhoHas"),
    "publish": _from(f"{_TOP}.client.dataset_calls", "Datasets"),
    "spans": _from(_TOP, "span"),
    "system": _from(f"{_TOP}.compat.utils", "CPU_COUNT MEMORY_LIMIT"),
    "threadpoolexecutor": _from(_TOP, "rejoin secede"),
    "utils": {
        **_CONCURRENT,
        **_from(
            f"{_TOP}.compat.utils",
            "LoopRunner SyncMethodMixin ensure_ip format_dashboard_link get_ip import_term iscoroutinefunction"
            " key_split log_errors nbytes parse_ports sync thread_state",
        ),
        **_from(f"{_TOP}.deploy.logs", "Log Logs"),
    },
    "variable": _from(_COORDINATION, "Variable"),
    "widgets": {},
    "worker": {
        **_from(_TOP, "Worker Reschedule get_client get_worker secede print warn"),
        **_from(f"{_TOP}.compat.utils", "thread_state"),
    },
    "worker_client": _from(_TOP, "local_client worker_client"),
}


def names_of(module: str) -> Callable[[str], Any]:
    """A `__getattr__` for a module: what it does not define comes from the table.

    Parameters
    ----------
    module : str
        Its full name.
    """
    homes = ALIASES.get(module.removeprefix(f"{_TOP}."), {})

    def lookup(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        source, _, attribute = home.partition(":")
        value = getattr(import_module(source), attribute)
        vars(sys.modules[module])[name] = value
        return value

    return lookup


class AliasFinder:
    """Makes the modules of the table that are no files.

    It has what `importlib.abc` asks of a finder and a loader, without the milliseconds that importing that takes.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of the table; none for any other."""
        top, _, name = fullname.partition(".")
        if top != _TOP or name not in ALIASES:
            return None
        return ModuleSpec(fullname, self)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module that looks its names up when they are used."""
        name = spec.name.partition(".")[2]
        module = ModuleType(spec.name, f"Names that dask.distributed has in its module {name!r}.")
        names = ALIASES[name]
        vars(module).update(__getattr__=names_of(spec.name), __dir__=lambda: sorted(names), __all__=list(names))
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to be done."""
