"""The options of a worker: those that are built, and clear errors for those that are not.

May import: `fastdist.config`, `fastdist.comm`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import msgpack

from fastdist import config
from fastdist.comm.addresses import bracketed, resolve_listen_host, unparse_address
from fastdist.security import check_security

#: Seconds between two looks for a scheduler file.
FILE_PAUSE = 0.05

#: Options of dask's worker that are not built yet, with the values that ask for nothing.
NOT_BUILT: dict[str, tuple[Any, ...]] = {
    "services": (None, {}),
    "silence_logs": (None,),
    "extensions": (None, {}),
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


def take_executors(given: Any) -> dict[str, Executor]:
    """The executors besides the worker's own threads, by name, that tasks ask for with `dask.annotate(executor=)`.

    Raises
    ------
    NotImplementedError
        If it shall take the place of the worker's own threads.
    TypeError
        If it is no mapping of names to executors.
    """
    if isinstance(given, Executor) or (isinstance(given, Mapping) and "default" in given):
        raise NotImplementedError(
            "Worker(executor=) is not built yet for the tasks that name no executor; give a dict of further ones"
        )
    executors = dict(given or {})
    for name, executor in executors.items():
        if not isinstance(name, str) or not isinstance(executor, Executor):
            raise TypeError(f"Worker(executor=) takes a dict of names and executors, not {name!r}: {executor!r}")
    return executors


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
    address: str | None,
    port: int | None,
    scheduler_file: str | os.PathLike[str] | None,
    patience: float | None = None,
) -> str:
    """The address of the scheduler, from whichever way it was given.

    Parameters
    ----------
    patience : float, optional
        Seconds to wait for the file; the setting `comm.timeouts.connect` by default.

    Raises
    ------
    TimeoutError
        If the file does not come.
    ValueError
        If the address was not given, or the file holds none.
    """
    if address is not None:
        if port is None:
            return address
        return unparse_address("tcp", address, port)
    if scheduler_file is None:
        raise ValueError("a worker needs the address of its scheduler, or a scheduler_file that holds it")
    return address_in_file(scheduler_file, config.get("comm.timeouts.connect") if patience is None else patience)


def address_in_file(path: str | os.PathLike[str], patience: float) -> str:
    """The address in a scheduler file; servers are often started together, so the file is waited for.

    Raises
    ------
    TimeoutError
        If nobody has written it within so many seconds.
    ValueError
        If it holds no address.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            content = json.loads(Path(path).read_text())
            break
        except (FileNotFoundError, json.JSONDecodeError):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no scheduler has written {os.fspath(path)} within {patience:g} s") from None
        time.sleep(FILE_PAUSE)
    address = content.get("address") if isinstance(content, dict) else None
    if not isinstance(address, str):
        raise ValueError(f"the scheduler file {os.fspath(path)} holds no address")
    return address


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
