"""The options of a worker: those that are built, and clear errors for those that are not.

May import: `fastdist.config`, `fastdist.comm`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack

from fastdist.comm.addresses import bracketed, resolve_listen_host, unparse_address
from fastdist.security import check_security

#: Options of dask's worker that are not built yet, with the values that ask for nothing.
NOT_BUILT: dict[str, tuple[Any, ...]] = {
    "services": (None, {}),
    "executor": (None,),
    "silence_logs": (None,),
    "extensions": (None, {}),
    "metrics": (None, {}),
    "startup_information": (None, {}),
    "dashboard_address": (None,),
    "dashboard": (False, None),
    "http_prefix": ("/", None),
    "low_level_profiler": (None, False),
    "validate": (None, False),
    "profile_cycle_interval": (None,),
    "transition_counter_max": (False, None),
    "data": (None,),
    "scheduler_sni": (None,),
    "WorkerStateClass": (None,),
}


def needed_resources(packed: bytes) -> dict[str, float]:
    """The resources that the options of a task ask for."""
    options = msgpack.unpackb(packed)
    return dict(options.get("resources") or {})


def refuse_unbuilt(options: Mapping[str, Any]) -> None:
    """Raise for every option that asks for something that is not built, and for unknown ones.

    Raises
    ------
    NotImplementedError
        The option is known, and its value asks for a feature that does not exist yet.
    TypeError
        There is no such option.
    """
    for name, value in options.items():
        if name == "security":
            check_security(value, "Worker")
            continue
        if name not in NOT_BUILT:
            raise TypeError(f"Worker() has no option {name!r}")
        if not any(value is nothing or value == nothing for nothing in NOT_BUILT[name]):
            raise NotImplementedError(f"Worker({name}={value!r}) is not built yet")


def scheduler_address(
    address: str | None, port: int | None, scheduler_file: str | os.PathLike[str] | None
) -> str:
    """The address of the scheduler, from whichever way it was given.

    Raises
    ------
    ValueError
        If it was not given, or the file holds none.
    """
    if address is not None:
        if port is None:
            return address
        return unparse_address("tcp", address, port)
    if scheduler_file is None:
        raise ValueError("a worker needs the address of its scheduler, or a scheduler_file that holds it")
    found = json.loads(Path(scheduler_file).read_text()).get("address")
    if not isinstance(found, str):
        raise ValueError(f"the scheduler file {os.fspath(scheduler_file)} holds no address")
    return found


def listen_address(
    scheduler: str, protocol: str | None, host: str | None, port: int | str | None, interface: str | None
) -> str:
    """Where a worker listens for those that want its data.

    With a scheduler in this process it is a name in this process, unless the options ask for a port.
    """
    wanted = (protocol or "").removesuffix("://")
    if wanted not in ("", "tcp", "inproc"):
        raise NotImplementedError(f"Worker(protocol={protocol!r}) is not built yet; use 'tcp' or 'inproc'")
    if not wanted:
        wanted = "inproc" if scheduler.startswith("inproc://") and not (host or port or interface) else "tcp"
    if wanted == "inproc":
        return "inproc://"
    if host and "://" in host:
        host = host.partition("://")[2]
    bound = resolve_listen_host(host, interface)
    if not bound and scheduler.startswith("tcp://127.0.0.1:"):
        # Nobody outside of this machine can reach the scheduler, so nobody outside needs this worker.
        bound = "127.0.0.1"
    return f"tcp://{bracketed(bound)}:{port or 0}"
