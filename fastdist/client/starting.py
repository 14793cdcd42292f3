"""What a client needs before it can connect: an address and a token. May import: `comm`, `errors`."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import json
import sys
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdist import config
from fastdist.client.options import parse_seconds
from fastdist.comm.token import Token, find_token

FILE_PAUSE = 0.01

#: What a client without an address starts; it lives above this layer.
LOCAL_CLUSTER = "fastdist.deploy.local:LocalCluster"

#: Secrets of the clusters of this process by the addresses of their schedulers.
_tokens_here: weakref.WeakValueDictionary[str, Token] = weakref.WeakValueDictionary()


def remember_token(address: str, token: Token | None) -> None:
    """A cluster of this process listens at an address: clients of this process need only that."""
    if token is not None:
        _tokens_here[address] = token


def forget_token(address: str) -> None:
    """The cluster of this process at an address is closed."""
    _tokens_here.pop(address, None)


@dataclass(frozen=True)
class WorkerHome:
    """Whom the client of a worker connects to, on which loop, and with what."""

    scheduler_address: str
    loop: asyncio.AbstractEventLoop
    token: Token | None
    insecure: bool


def local_cluster_class() -> Any:
    """The class of the cluster that a client without an address starts."""
    module, _, name = LOCAL_CLUSTER.partition(":")
    return getattr(importlib.import_module(module), name)


def seconds_of(value: Any, what: str) -> float:
    """A duration that must not be missing, in seconds."""
    seconds = parse_seconds(value, what)
    if seconds is None:
        raise ValueError(f"{what}=None has no meaning here; give seconds, or leave it out")
    return seconds


def heartbeat_seconds(value: Any) -> float:
    """The interval of heartbeats: a number counts milliseconds; the setting `client.heartbeat` if there is none."""
    if value is None:
        return float(config.get("client.heartbeat"))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = f"{value} ms"
    return seconds_of(value, "heartbeat_interval")


def refuse_unbuilt(**options: Any) -> None:
    """Raise NotImplementedError naming the first option that is set: none of these has an effect yet."""
    for name, value in options.items():
        if value:
            raise NotImplementedError(f"{name}= is not available yet")


async def find_address(
    start: Any, scheduler_file: str | None, timeout: float, *, token_file: str | None, insecure: bool
) -> tuple[str, Token | None, Any]:
    """Address of the scheduler, the secret to show, and the cluster object if there is one.

    Raises
    ------
    TypeError
        If `start` is no address and no cluster.
    RuntimeError
        If the cluster is closed.
    TimeoutError
        If the scheduler file does not appear.
    """
    if start is None and scheduler_file is not None:
        start = await read_scheduler_file(Path(scheduler_file), timeout)
    if isinstance(start, WorkerHome):
        return start.scheduler_address, start.token, None
    if isinstance(start, str):
        if "://" not in start:
            start = f"tcp://{start}"
        if insecure or start.startswith("inproc://"):
            return start, None, None
        here = _tokens_here.get(start) if token_file is None else None
        return start, find_token(token_file) if here is None else here, None
    address = getattr(start, "scheduler_address", None)
    if not isinstance(address, str):
        raise TypeError(f"the scheduler must be given as an address or a cluster, not as {start!r}")
    status = getattr(start, "status", None)
    if getattr(status, "name", status) in ("closing", "closed"):
        raise RuntimeError(f"the cluster {start!r} is closed")
    token = getattr(start, "token", None)
    if token is None and not insecure and not address.startswith("inproc://"):
        token = find_token(token_file)
    return address, token, start


async def read_scheduler_file(path: Path, timeout: float) -> str:
    """The address in a JSON file that a scheduler writes; the file is waited for."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            address = json.loads(await asyncio.to_thread(path.read_text))["address"]
        except (FileNotFoundError, json.JSONDecodeError):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no scheduler has written {path} within {timeout:g} s") from None
            await asyncio.sleep(FILE_PAUSE)
            continue
        if not isinstance(address, str):
            raise TypeError(f"the address in {path} is no text: {address!r}")
        return address


def resolve_type(name: str | None) -> Any:
    """The class of that name if its module is loaded here, else the name."""
    if name is None:
        return None
    found = getattr(builtins, name.removeprefix("builtins."), None)
    if isinstance(found, type):
        return found
    module_name, _, attribute = name.rpartition(".")
    while module_name:
        module = sys.modules.get(module_name)
        if module is not None:
            found = module
            for part in attribute.split("."):
                found = getattr(found, part, None)
            return found if isinstance(found, type) else name
        module_name, _, head = module_name.rpartition(".")
        attribute = f"{head}.{attribute}"
    return name
