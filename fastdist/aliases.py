"""Where dask.distributed keeps a name, and where it is here: `from fastdist.lock import Lock` works, too.

A module of this table that is no file of its own is made when it is imported; one that is a file asks the table for
what it does not define (`__getattr__ = names_of(__name__)`). May import: `planned_names`; homes are text.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from fastdist.planned_names import PLANNED_NAMES

_TOP = "fastdist"


def _from(home: str, names: str) -> dict[str, str]:
    return {name: f"{home}:{name}" for name in names.split()}


_PLUGINS = _from(f"{_TOP}.plugins", "SchedulerPlugin WorkerPlugin NannyPlugin")
_COORDINATION = f"{_TOP}.client.coordination"
_TEXTS = f"{_TOP}.compat.texts"
_WAITING = f"{_TOP}.compat.waiting"
_BYTES = f"{_TOP}.compat.serialization"
_CONCURRENT = {"CancelledError": "concurrent.futures:CancelledError", "TimeoutError": "builtins:TimeoutError"}
_SERIALIZATION = {
    **_from(f"{_TOP}.compat.utils", "serialize deserialize"),
    **_from(_BYTES, "deserialize_bytes serialize_bytelist serialize_bytes"),
}

#: Module (below `fastdist`) and name, to the home of what has the name.
ALIASES: dict[str, dict[str, str]] = {
    "_signals": _from(_WAITING, "wait_for_signals"),
    "active_memory_manager": {
        **_from(f"{_TOP}.scheduler.policies", "ActiveMemoryManagerPolicy ReduceReplicas Suggestion"),
        "ActiveMemoryManagerExtension": f"{_TOP}.scheduler.extensions.memory_manager:MemoryManager",
        "AMMClientProxy": f"{_TOP}.client.control_calls:AMMClientProxy",
    },
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
        **_from("concurrent.futures", "ALL_COMPLETED FIRST_COMPLETED"),
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
    "comm.core": _from(f"{_TOP}.errors", "CommClosedError"),
    "comm.registry": _from(f"{_TOP}.compat.backends", "Backend backends get_backend"),
    "comm.utils": _from(_TEXTS, "ensure_concrete_host"),
    "compatibility": {
        **_from(_TEXTS, "LINUX MACOS WINDOWS logging_names"),
        **_from(_WAITING, "asyncio_run"),
    },
    "core": {
        **_from(f"{_TOP}.status", "Status"),
        **_from(f"{_TOP}.errors", "CommClosedError RPCClosed"),
        **_from(f"{_TOP}.compat.rpc", "rpc connect"),
        **_from(f"{_TOP}.compat.utils", "clean_exception error_message coerce_to_address"),
    },
    "deploy.adaptive": _from(f"{_TOP}.deploy", "Adaptive"),
    "deploy.spec": _from(f"{_TOP}.deploy.process", "ProcessInterface init_spec run_spec"),
    "deploy.utils": {
        **_from(f"{_TOP}.deploy.local", "nprocesses_nthreads"),
        **_from(f"{_TOP}.compat.utils", "CPU_COUNT"),
    },
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
    "protocol": _SERIALIZATION,
    "protocol.pickle": _from(_BYTES, "HIGHEST_PROTOCOL dumps loads"),
    "protocol.serialize": _SERIALIZATION,
    "queues": _from(_COORDINATION, "Queue"),
    "scheduler": {
        **_from(_TOP, "Scheduler KilledWorker"),
        "logger": f"{_TOP}.scheduler.scheduler:logger",
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
    "system": {
        **_from(f"{_TOP}.compat.utils", "CPU_COUNT MEMORY_LIMIT"),
        "memory_limit": f"{_TOP}.system.memory:total_memory",
    },
    "threadpoolexecutor": _from(_TOP, "rejoin secede"),
    "utils": {
        **_CONCURRENT,
        **_from(
            f"{_TOP}.compat.utils",
            "LoopRunner SyncMethodMixin ensure_ip format_dashboard_link get_ip import_term iscoroutinefunction"
            " key_split log_errors nbytes parse_ports sync thread_state",
        ),
        **_from(_WAITING, "All Any Deadline NoOpAwaitable offload wait_for"),
        **_from(
            _TEXTS,
            "WINDOWS TupleComparable ensure_memoryview get_ip_interface get_ipv6 get_traceback has_arg has_keyword"
            " import_file is_kernel json_load_robust key_split_group open_port read_block seek_delimiter"
            " silence_logging_cmgr tmp_text truncate_exception",
        ),
        **_from(f"{_TOP}.deploy.logs", "Log Logs"),
    },
    "utils_comm": _from(_WAITING, "retry"),
    "variable": _from(_COORDINATION, "Variable"),
    "worker": {
        **_from(_TOP, "Worker Reschedule get_client get_worker secede print warn"),
        **_from(f"{_TOP}.compat.utils", "CPU_COUNT thread_state"),
    },
    "worker_client": _from(_TOP, "local_client worker_client"),
    "worker_memory": _from(f"{_TOP}.compat.utils", "parse_memory_limit"),
    "worker_state_machine": _from(f"{_TOP}.compat.worker_state", "TaskState WorkerState"),
}

for _module, _names in PLANNED_NAMES.items():
    _homes = ALIASES.setdefault(_module, {})
    for _name in _names.split():
        _homes.setdefault(_name, f"{_TOP}.compat.planned:{_module}.{_name}")


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
        is_package = any(other.startswith(f"{name}.") for other in ALIASES)
        return ModuleSpec(fullname, self, is_package=is_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module that looks its names up when they are used."""
        name = spec.name.partition(".")[2]
        module = ModuleType(spec.name, f"Names that dask.distributed has in its module {name!r}.")
        names = ALIASES[name]
        vars(module).update(__getattr__=names_of(spec.name), __dir__=lambda: sorted(names), __all__=list(names))
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to be done."""
