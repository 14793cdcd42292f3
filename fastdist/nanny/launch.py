"""What a worker's process is started with: its environment, its folder, its configuration.

May import: `fastdist.system`, `fastdist.config`, `fastdist.comm.token`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from fastdist import config
from fastdist.comm.token import Token
from fastdist.system.channel import Message
from fastdist.system.processes import ChildProcess, child_environ

#: Workers agree on the hashes of strings, so that data grouped by hash meets.
HASH_SEED = "6640"


def launch_worker_process(environ: Mapping[str, str], descriptors: tuple[int, ...] = ()) -> ChildProcess:
    """Start the process of a worker; it waits for its configuration.

    Parameters
    ----------
    environ:
        Variables that win over those of this process.
    descriptors:
        Descriptors that the process inherits.
    """
    return ChildProcess(
        "fastdist.worker.process",
        environ=child_environ(
            {**config.get("nanny.pre-spawn-environ"), "PYTHONHASHSEED": HASH_SEED},
            {**config.get("nanny.environ"), **environ},
        ),
        descriptors=descriptors,
        capture_errors=True,
    )


def worker_configuration(
    scheduler_address: str,
    *,
    token: Token | None,
    insecure: bool,
    nanny: str,
    worker_class: str | type | None,
    scratch: str,
    log_level: int,
    options: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Message:
    """What the process of a worker reads from its socket.

    Parameters
    ----------
    options:
        Arguments of the worker.
    settings:
        Names, or nested names as in dask's configuration, and values that differ from those of this process.
    environ:
        What `launch_worker_process` got. The folders of its `PYTHONPATH` are searched before those of this process.
    """
    values, for_dask = config.for_child(settings or {})
    given, inherited = import_path(environ), os.environ.get("PYTHONPATH")
    ahead = given.split(os.pathsep) if given and given != inherited else []
    variables = {"PYTHONPATH": given}
    if for_dask is not None:
        variables[config.INHERITED] = for_dask
    return {
        "op": "start",
        "scheduler_address": scheduler_address,
        "token": None if token is None else token.to_hex(),
        "token_origin": "handed over by the parent process" if token is None else token.describe(),
        "insecure": insecure,
        "nanny": nanny,
        "worker_class": import_name(worker_class),
        "scratch": scratch,
        "log_level": log_level,
        "sys_path": [entry or os.getcwd() for entry in dict.fromkeys([*ahead, *sys.path])],
        "argv": list(getattr(sys, "argv", [])),
        "settings": values,
        "restore_environ": variables,
        "options": dict(options),
    }


def import_path(environ: Mapping[str, str] | None) -> str | None:
    """`PYTHONPATH` as the code of the user sees it in the worker: the process itself starts with all of `sys.path`."""
    layers = (environ or {}, config.get("nanny.environ"), os.environ, config.get("nanny.pre-spawn-environ"))
    found = (layer["PYTHONPATH"] for layer in layers if "PYTHONPATH" in layer)
    return next(found, None)


def import_name(worker_class: str | type | None) -> str | None:
    """`module:name` of a class that another process can import; None stays None.

    Raises
    ------
    ValueError
        Other processes cannot import the class.
    """
    if worker_class is None:
        return None
    if isinstance(worker_class, str):
        module, separator, name = worker_class.partition(":")
        if not separator:
            module, _, name = worker_class.rpartition(".")
        return f"{module}:{name}"
    if worker_class.__module__ == "__main__" or "<locals>" in worker_class.__qualname__:
        raise ValueError(
            f"{worker_class.__qualname__} cannot be imported by the processes of workers; "
            "move it to a module of its own, or use processes=False"
        )
    return f"{worker_class.__module__}:{worker_class.__qualname__}"


def effective_log_level(level: int | str | None) -> int:
    """A level for the logger `fastdist`: as given, or as it is in this process."""
    if level is None or level is False:
        return logging.getLogger("fastdist").getEffectiveLevel()
    if isinstance(level, str):
        number = logging.getLevelName(level.upper())
        if not isinstance(number, int):
            raise ValueError(f"{level!r} is not a logging level")
        return number
    return int(level)
