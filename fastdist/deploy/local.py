"""A cluster on this machine: the scheduler in this process, workers in child processes or in threads.

May import: every layer below `deploy`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastdist.comm.token import Token
from fastdist.deploy.cluster import Cluster
from fastdist.nanny import Nanny
from fastdist.status import Status
from fastdist.system.memory import total_memory
from fastdist.system.processors import processor_count
from fastdist.worker.memory import parse_memory_limit

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler
    from fastdist.worker.worker import Worker

#: There is no dashboard yet. These values ask for none, or are what scripts write to avoid a clash of ports.
HARMLESS_DASHBOARD_ADDRESSES = (None, "", False, ":8787", ":0", "127.0.0.1:0", "localhost:0", 0)


#: Seconds that tasks of workers in this process get to end when the cluster is closed.
TASK_GRACE = 0.5


class LocalCluster(Cluster):
    """A scheduler and workers on this machine, reachable from this machine only.

    The scheduler lives on a background thread of this process. A fresh secret is made for each cluster;
    whoever does not hold it gets no connection.

    Parameters
    ----------
    name:
        Name of the cluster.
    n_workers, threads_per_worker:
        Number of workers and their threads; by default as many as suit the processors.
    processes:
        Whether workers are processes (default) or live in this one.
    host, interface:
        Where to listen; the loopback interface by default.
    scheduler_port:
        Port of the scheduler; 0 for any.
    silence_logs:
        Level below which fastdist logs nothing; False to leave logging alone.
    asynchronous:
        Whether the cluster lives on the running event loop and is awaited.
    protocol:
        `"tcp"` or `"inproc"`; by default inproc for workers in this process, else tcp.
    worker_class:
        Class of the workers: a kind of Nanny, or a kind of worker that other processes can import.
    scheduler_kwargs:
        Further arguments of the scheduler.
    **worker_kwargs:
        Further arguments of the workers: memory_limit, resources, local_directory, ...

    Raises
    ------
    NotImplementedError
        A parameter asks for something that is not built yet; the text names it.
    RuntimeError
        The cluster could not start.

    Example
    -------
    >>> with LocalCluster(n_workers=2, threads_per_worker=1) as cluster:
    ...     len(cluster.workers)
    2
    """

    def __init__(
        self,
        name: str | None = None,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        processes: bool | None = None,
        loop: Any = None,
        start: bool | None = None,
        host: str | None = None,
        ip: str | None = None,
        scheduler_port: int = 0,
        silence_logs: int | str | bool = logging.WARN,
        dashboard_address: str | None = ":8787",
        worker_dashboard_address: str | None = None,
        services: Mapping[str, Any] | None = None,
        worker_services: Mapping[str, Any] | None = None,
        service_kwargs: Mapping[str, Any] | None = None,
        asynchronous: bool = False,
        security: Any = None,
        protocol: str | None = None,
        blocked_handlers: list[str] | None = None,
        interface: str | None = None,
        worker_class: type | str | None = None,
        scheduler_kwargs: Mapping[str, Any] | None = None,
        scheduler_sync_interval: float = 1,
        **worker_kwargs: Any,
    ) -> None:
        super().__init__(asynchronous=asynchronous, name=name)
        _refuse_unbuilt(
            {
                "loop": loop,
                "start": start,
                "worker_dashboard_address": worker_dashboard_address,
                "services": services or None,
                "worker_services": worker_services or None,
                "service_kwargs": service_kwargs or None,
                "security": security or None,
                "blocked_handlers": blocked_handlers or None,
                "scheduler_sync_interval": None if scheduler_sync_interval == 1 else scheduler_sync_interval,
                "dashboard_address": None if _is_harmless(dashboard_address) else dashboard_address,
            }
        )
        self.processes, self._nanny_class, self._worker_class = _worker_classes(processes, worker_class)
        counts = _counts(n_workers, threads_per_worker, self.processes)
        self._n_workers, self.threads_per_worker = counts
        self._protocol = _protocol(protocol, self.processes, scheduler_port, host or ip)
        self._memory_limit = _memory_limit(worker_kwargs.pop("memory_limit", "auto"), *counts)
        self._host, self._interface, self._port = host or ip, interface, scheduler_port
        self._scheduler_kwargs = dict(scheduler_kwargs or {})
        self._worker_kwargs = worker_kwargs
        self._silence_logs = silence_logs
        self._token = Token.generate("made for this cluster and handed to its workers")
        self._next_name = 0
        self._level_before: int | None = None
        self.scheduler: Scheduler | None = None
        self.workers: dict[int, Nanny | Worker] = {}
        if not asynchronous:
            self._start_blocking()

    @property
    def scheduler_address(self) -> str:
        """Address of the scheduler."""
        return super().scheduler_address if self.scheduler is None else self.scheduler.address

    @property
    def token(self) -> Token:
        """The secret that clients and workers of this cluster show."""
        return self._token

    @property
    def scheduler_info(self) -> dict[str, Any]:
        """What the scheduler says of itself and its workers; empty before the cluster is started."""
        return {} if self.scheduler is None else self.scheduler.identity()

    def __repr__(self) -> str:
        count = len(self.workers)
        memory = "" if self._memory_limit is None else f", memory={_format_bytes(count * self._memory_limit)}"
        return (
            f"{type(self).__name__}({self.name}, '{self.scheduler_address}', workers={count}, "
            f"threads={count * self.threads_per_worker}{memory})"
        )

    # -- on the loop -----------------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._silence()
        new = self._new_workers(self._n_workers) if self.processes else {}
        # The processes import what they need while the scheduler starts.
        for worker in new.values():
            if isinstance(worker, Nanny):
                worker.spawn()
        from fastdist.scheduler.scheduler import Scheduler

        scheduler = Scheduler(
            host=self._listen_host(),
            port=self._port,
            protocol=self._protocol,
            interface=self._interface,
            token=self._token,
            **self._scheduler_kwargs,
        )
        try:
            await scheduler
        except BaseException:
            # An interrupted wait leaves it starting.
            await scheduler.close(reason="the start of the cluster was interrupted")
            raise
        self.scheduler = scheduler
        if not self.processes:
            new = self._new_workers(self._n_workers)
        await self._start_workers(new)

    async def _start_workers(self, new: dict[int, Any]) -> None:
        assert self.scheduler is not None
        for worker in new.values():
            if isinstance(worker, Nanny):
                worker.scheduler_address = self.scheduler.address
        starting = [asyncio.ensure_future(_start_one(worker)) for worker in new.values()]
        try:
            if starting:
                await asyncio.wait(starting, return_when=asyncio.FIRST_EXCEPTION)
            for task in starting:
                if task.done():
                    task.result()
        except BaseException:
            if self._status is not Status.running:
                # First: it must not complain of connections that break off because we end their workers.
                await self.scheduler.close(reason="the start of the cluster was interrupted")
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            raise

    async def _close(self, timeout: float) -> None:
        reason = f"cluster {self.name} was closed"
        workers, self.workers = list(self.workers.values()), {}
        closing = [_close_one(worker, timeout, reason) for worker in workers]
        if self.scheduler is not None:
            closing.append(self.scheduler.close(reason=reason))
        outcomes = await asyncio.gather(*closing, return_exceptions=True)
        self._unsilence()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _scale(self, n: int) -> None:
        await self._start_once()
        if n > len(self.workers):
            await self._start_workers(self._new_workers(n - len(self.workers)))
            return
        surplus = sorted(self.workers)[n:]
        leaving = [self.workers.pop(name) for name in surplus]
        reason = f"cluster {self.name} was scaled to {n} workers"
        await asyncio.gather(*(_close_one(worker, 10.0, reason) for worker in leaving))

    def _abandon(self) -> None:
        for worker in self.workers.values():
            if isinstance(worker, Nanny):
                worker.abandon()
        self.workers = {}
        self._unsilence()

    # -- workers ---------------------------------------------------------------------------------------------

    def _new_workers(self, count: int) -> dict[int, Any]:
        """Make workers that are not started yet; they count as this cluster's from now on."""
        new: dict[int, Any] = {}
        for name in range(self._next_name, self._next_name + count):
            new[name] = self._new_nanny(name) if self.processes else self._new_worker(name)
        self._next_name += count
        self.workers.update(new)
        return new

    def _new_nanny(self, name: int) -> Nanny:
        return self._nanny_class(
            None,
            name=name,
            nthreads=self.threads_per_worker,
            memory_limit=self._memory_limit,
            token=self._token,
            host=self._listen_host(),
            silence_logs=self._child_log_level(),
            worker_class=self._worker_class,
            **self._worker_kwargs,
        )

    def _new_worker(self, name: int) -> Any:
        from fastdist.nanny.launch import import_name
        from fastdist.worker.process import load_class

        assert self.scheduler is not None
        own = self._worker_class
        worker_class: Any = own if isinstance(own, type) else load_class(import_name(own))
        return worker_class(
            self.scheduler.address,
            name=name,
            nthreads=self.threads_per_worker,
            memory_limit=self._memory_limit or 0,
            token=self._token,
            **self._worker_kwargs,
        )

    def _listen_host(self) -> str | None:
        if self._protocol == "inproc" or self._interface is not None:
            return None
        return (self._host or "127.0.0.1").rpartition("://")[2]

    # -- logging ---------------------------------------------------------------------------------------------

    def _child_log_level(self) -> int | str | None:
        return None if self._silence_logs is False else self._silence_logs

    def _silence(self) -> None:
        if self._silence_logs is not False:
            root = logging.getLogger("fastdist")
            self._level_before = root.level
            root.setLevel(self._silence_logs)

    def _unsilence(self) -> None:
        if self._level_before is not None:
            logging.getLogger("fastdist").setLevel(self._level_before)
            self._level_before = None


def nprocesses_nthreads(n: int | None = None) -> tuple[int, int]:
    """How many processes, with how many threads each, suit `n` processors (those of this machine if None).

    Example
    -------
    >>> nprocesses_nthreads(4), nprocesses_nthreads(32)
    ((4, 1), (8, 4))
    """
    n = processor_count() if n is None else n
    factors = [factor for factor in range(1, n + 1) if n % factor == 0]
    processes = n if n <= 4 else min(factor for factor in factors if factor >= math.sqrt(n))
    return processes, max(1, n // max(1, processes))


async def _start_one(worker: Any) -> None:
    await worker


async def _close_one(worker: Any, timeout: float, reason: str) -> None:
    if isinstance(worker, Nanny):
        await worker.close(timeout=timeout, reason=reason)
    else:
        await worker.close(timeout=min(timeout, TASK_GRACE), reason=reason)


def _counts(n_workers: int | None, threads: int | None, processes: bool) -> tuple[int, int]:
    cores = processor_count()
    if n_workers is not None and n_workers < 0:
        raise ValueError(f"a cluster cannot have {n_workers} workers")
    if threads is not None and threads < 1:
        raise ValueError(f"a worker cannot have {threads} threads")
    if n_workers is None and threads is None:
        return nprocesses_nthreads(cores) if processes else (1, cores)
    if n_workers is None:
        assert threads is not None
        return (max(1, cores // threads) if processes else 1), threads
    if threads is None:
        return n_workers, max(1, math.ceil(cores / n_workers)) if n_workers else cores
    return n_workers, threads


def _memory_limit(limit: str | float | None, n_workers: int, threads: int) -> int | None:
    if limit == "auto":
        return total_memory() // max(1, n_workers)
    return parse_memory_limit(limit, threads)


def _worker_classes(
    processes: bool | None, worker_class: type | str | None
) -> tuple[bool, type[Nanny], type | str | None]:
    """Whether workers are processes, the class of their nannies, and that of the workers if it is special."""
    if isinstance(worker_class, type) and issubclass(worker_class, Nanny):
        if processes is False:
            raise ValueError(f"{worker_class.__name__} contradicts processes=False: it starts one")
        return True, worker_class, None
    if processes is None:
        processes = worker_class is None
    return processes, Nanny, worker_class


def _protocol(protocol: str | None, processes: bool, port: int, host: str | None) -> str:
    if protocol is None and host is not None and "://" in host:
        protocol = host.partition("://")[0]
    if protocol is None:
        return "tcp" if processes or port or host else "inproc"
    plain = protocol.removesuffix("://")
    if plain not in ("tcp", "inproc"):
        raise NotImplementedError(f"protocol={protocol!r} is not built yet; use 'tcp' or 'inproc'")
    if plain == "inproc" and processes:
        raise ValueError("protocol='inproc' reaches no other process; use processes=False")
    return plain


def _is_harmless(dashboard_address: object) -> bool:
    return dashboard_address in HARMLESS_DASHBOARD_ADDRESSES


def _refuse_unbuilt(parameters: Mapping[str, Any]) -> None:
    for name, value in parameters.items():
        if value is not None:
            raise NotImplementedError(f"LocalCluster({name}={value!r}) is not built yet")


def _format_bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kiB", "MiB", "GiB", "TiB"):
        if size < 1024 * 0.9 or unit == "TiB":
            break
        size /= 1024
    return f"{count} B" if unit == "B" else f"{size:.2f} {unit}"
