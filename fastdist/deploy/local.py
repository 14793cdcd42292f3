"""A cluster on this machine: the scheduler in this process, workers in child processes or in threads.

May import: every layer below `deploy`.
"""

from __future__ import annotations

import inspect
import logging
import math
import os
from collections.abc import Mapping
from typing import Any

from fastdist.comm.token import Token
from fastdist.deploy.arguments import check_switch, check_worker_options, whole_number
from fastdist.deploy.process import import_class
from fastdist.deploy.spec import SpecCluster
from fastdist.deploy.supervised import SupervisedScheduler, journal_token
from fastdist.nanny import Nanny
from fastdist.security import check_security
from fastdist.system.memory import total_memory
from fastdist.system.processors import processor_count
from fastdist.worker.memory import parse_memory_limit

#: There is no dashboard yet. These values ask for none, or are what scripts write to avoid a clash of ports.
HARMLESS_DASHBOARD_ADDRESSES = (None, "", False, ":8787", ":0", "127.0.0.1:0", "localhost:0", 0)


class LocalCluster(SpecCluster):
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
    loop:
        A running event loop to live on, in place of a background thread.
    protocol:
        `"tcp"` or `"inproc"`; by default inproc for workers in this process, else tcp.
    worker_class:
        Class of the workers: a kind of Nanny, or a kind of worker that other processes can import.
    blocked_handlers:
        Operations of the scheduler that nobody may ask for.
    scheduler_kwargs:
        Further arguments of the scheduler.
    journal:
        A folder in which the scheduler keeps a journal. It runs in a process of its own then, and is started again
        should that die: what was submitted is computed, and results stay where they are.
    **worker_kwargs:
        Further arguments of the workers: memory_limit, resources, local_directory, ...

    Raises
    ------
    TypeError
        An argument has the wrong type, or is neither one of the cluster nor of its workers.
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
        journal: str | os.PathLike[str] | None = None,
        **worker_kwargs: Any,
    ) -> None:
        check_security(security, "LocalCluster")
        _refuse_unbuilt(
            {
                "start": start,
                "worker_dashboard_address": worker_dashboard_address,
                "services": services or None,
                "worker_services": worker_services or None,
                "service_kwargs": service_kwargs or None,
                "dashboard_address": None if _is_harmless(dashboard_address) else dashboard_address,
            }
        )
        host = host or ip
        check_switch(processes, "processes")
        n_workers = whole_number(n_workers, "n_workers")
        threads_per_worker = whole_number(threads_per_worker, "threads_per_worker")
        self.processes, nanny_class, self._worker_class = _worker_classes(processes, worker_class)
        n_workers, self.threads_per_worker = _counts(n_workers, threads_per_worker, self.processes)
        if worker_class is None:
            check_worker_options(worker_kwargs, self.processes, inspect.signature(LocalCluster).parameters)
        plain_protocol = _protocol(protocol or ("tcp" if journal else None), self.processes, scheduler_port, host)
        limit = _memory_limit(worker_kwargs.pop("memory_limit", "auto"), n_workers, self.threads_per_worker)
        listen_host = None
        if plain_protocol != "inproc" and interface is None:
            listen_host = (host or "127.0.0.1").rpartition("://")[2]
        self._token = self._make_token() if journal is None else journal_token(journal)
        options = {"nthreads": self.threads_per_worker, "token": self._token, **worker_kwargs}
        if self.processes:
            level = None if silence_logs is False else silence_logs
            options.update(memory_limit=limit, host=listen_host, silence_logs=level, worker_class=self._worker_class)
            worker = {"cls": nanny_class, "options": options}
        else:
            options["memory_limit"] = limit or 0
            worker = {"cls": import_class(self._worker_class or "fastdist.Worker"), "options": options}
        where: dict[str, Any] = {"host": listen_host, "port": scheduler_port, "protocol": plain_protocol}
        where.update(interface=interface, blocked_handlers=blocked_handlers)
        super().__init__(
            workers=dict.fromkeys(range(n_workers), worker),
            scheduler=_scheduler_spec(journal, self._token, {**where, **(scheduler_kwargs or {})}),
            worker=worker,
            asynchronous=asynchronous,
            loop=loop,
            security=security,
            silence_logs=silence_logs,
            name=name,
            scheduler_sync_interval=scheduler_sync_interval,
        )

    def _make_token(self) -> Token:
        """The secret of the cluster."""
        return Token.generate("made for this cluster and handed to its workers")

    @property
    def token(self) -> Token:
        """The secret that clients and workers of this cluster show."""
        return self._token

    def start_worker(self, *args: Any, **kwargs: Any) -> None:
        """Not available: `scale` starts workers.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError("LocalCluster.start_worker is gone: use cluster.scale(n)")

    def _html_rows(self) -> dict[str, str]:
        return {**super()._html_rows(), "Using processes": str(self.processes)}


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


def _scheduler_spec(journal: str | os.PathLike[str] | None, token: Token, options: dict[str, Any]) -> dict[str, Any]:
    """The scheduler in this process, or one with a journal in a process of its own."""
    if journal is None:
        return {"cls": "fastdist.Scheduler", "options": {"token": token, **options}}
    if options["protocol"] != "tcp":
        raise ValueError("LocalCluster(journal=) runs the scheduler as a process: it needs the protocol tcp")
    return {
        "cls": SupervisedScheduler,
        "options": {"journal": os.path.abspath(os.fspath(journal)), "scheduler_kwargs": options},
    }


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
