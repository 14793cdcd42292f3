"""What a worker tells about itself: at its registration, with each sign of life, and to people.

May import: layers L0 to L3, and of this folder the options, the transfer and the spill store.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgpack

from fastdist._core.worker.inspect import state_counts
from fastdist.errors import CommClosedError
from fastdist.rpc import fields as check
from fastdist.status import Status
from fastdist.system.memory import process_memory
from fastdist.versions import running_versions
from fastdist.worker.options import take_executors

if TYPE_CHECKING:
    from fastdist._core.worker.core import WorkerCore
    from fastdist.rpc.peer import Peer
    from fastdist.worker.returning import SchedulerLink
    from fastdist.worker.spill import SpillStore
    from fastdist.worker.transfer import Transfer

logger = logging.getLogger("fastdist.worker")


class Reporting:
    """The part of Worker that says who it is and how it is."""

    if TYPE_CHECKING:
        address: str
        nthreads: int
        memory_limit: int | None
        resources: dict[str, float]
        nanny: str | None
        scheduler_address: str
        status: Status
        core: WorkerCore
        transfer: Transfer
        _directory: str | None
        _spill_store: SpillStore | None
        _heartbeat_interval: float | None
        _heartbeat_fixed: bool
        _told_of: set[str]
        link: SchedulerLink

        @property
        def name(self) -> int | str: ...
        @property
        def scheduler(self) -> Peer: ...

    def _init_reporting(self, options: dict[str, Any]) -> None:
        """Take what users add out of `options`: executors, and functions of the worker for its reports, by name."""
        #: Besides `offload`; tasks name them by `dask.annotate(executor=)`.
        self.further_executors = take_executors(options.pop("executor", None))
        #: They run for each report, and their values are in the worker's metrics on the scheduler.
        self.metrics = _functions(options.pop("metrics", None), "metrics")
        #: They run once, at the registration.
        self.startup_information = _functions(options.pop("startup_information", None), "startup_information")
        self._told_of = set()

    async def _added(self, functions: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
        """The values of the functions that users added; those that fail are left out, and named in the log once."""
        values = {}
        for name, function in list(functions.items()):
            try:
                value = function(self)
                values[name] = await value if inspect.isawaitable(value) else value
                msgpack.packb(values[name])
            except Exception:
                values.pop(name, None)
                if name not in self._told_of:
                    self._told_of.add(name)
                    logger.exception("the function %r that was given to worker %s gives no value", name, self.name)
        return values

    def _on_heartbeat_interval(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        if not self._heartbeat_fixed:
            self._heartbeat_interval = check.number(fields, "seconds", 0.01, 3600.0)

    async def _heartbeats(self) -> None:
        assert self._heartbeat_interval is not None
        while True:
            await asyncio.sleep(self._heartbeat_interval)
            added = await self._added(self.metrics) if self.metrics else {}
            with contextlib.suppress(CommClosedError):
                # Without a connection there is nobody to tell; there may be one again.
                digest = await self.link.digest()
                self.scheduler.notify("heartbeat", metrics={**self.get_metrics(), **added}, digest=digest)

    def get_metrics(self) -> dict[str, Any]:
        """What a heartbeat reports."""
        spill = self._spill_store
        return {
            "time": time.time(),
            "cpu_seconds": time.process_time(),
            "memory": process_memory(),
            "managed_bytes": 0 if spill is None else spill.memory_bytes,
            "spilled_bytes": 0 if spill is None else spill.disk_bytes,
            "task_counts": state_counts(self.core),
            "bytes_fetched": self.transfer.bytes_fetched,
            "bytes_served": self.transfer.bytes_served,
        }

    def registration(self) -> dict[str, Any]:
        """Who this worker is, for the scheduler."""
        return {
            "address": self.address,
            "name": self.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "nthreads": self.nthreads,
            "memory_limit": self.memory_limit or 0,
            "resources": self.resources,
            "local_directory": self._directory or "",
            "nanny": self.nanny,
            "versions": running_versions(),
        }

    def identity(self) -> dict[str, Any]:
        """Who this worker is."""
        return {
            "type": type(self).__name__,
            "id": str(self.name),
            "name": self.name,
            "address": self.address,
            "scheduler": self.scheduler_address,
            "nthreads": self.nthreads,
            "memory_limit": self.memory_limit or 0,
            "status": self.status.value,
        }

    def _tell_status(self, status: Status) -> None:
        try:
            self.scheduler.notify("worker-status", status=status.value)
        except CommClosedError:
            logger.debug(
                "the scheduler is gone; it does not learn that worker %s is %s", self.name, status.value
            )

    def __repr__(self) -> str:
        counts = state_counts(self.core) if hasattr(self, "core") else {}
        return (
            f"<{type(self).__name__} {self.address!r}, name: {self.name}, status: {self.status.value}, "
            f"stored: {counts.get('memory', 0)}, running: {counts.get('executing', 0)}/{self.nthreads}, "
            f"ready: {counts.get('ready', 0)}, comm: {counts.get('in_flight', 0)}, "
            f"waiting: {counts.get('waiting', 0)}>"
        )


def _functions(given: Any, what: str) -> dict[str, Callable[[Any], Any]]:
    """A mapping of names to functions.

    Raises
    ------
    TypeError
        If it is none.
    """
    functions = dict(given or {})
    for name, function in functions.items():
        if not isinstance(name, str) or not callable(function):
            raise TypeError(f"Worker({what}=) takes names and functions of the worker, not {name!r}: {function!r}")
    return functions
