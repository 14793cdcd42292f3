"""A cluster by description: which classes with which options make its scheduler and its workers.

May import: every layer below `deploy`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sys
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from fastdist import config
from fastdist.aliases import names_of
from fastdist.client.starting import forget_token, remember_token
from fastdist.comm.token import Token
from fastdist.config import parse_bytes
from fastdist.deploy.cluster import Cluster
from fastdist.deploy.process import ProcessInterface, import_class, init_spec, run_spec
from fastdist.nanny import Nanny
from fastdist.security import check_security
from fastdist.status import Status

__all__ = ["NoOpAwaitable", "ProcessInterface", "SpecCluster", "init_spec", "run_spec"]

logger = logging.getLogger("fastdist.deploy")

#: Seconds that tasks of workers in this process get to end when the cluster is closed.
TASK_GRACE = 0.5
#: Seconds that workers get to give their data away, and then to close, when the cluster is scaled down.
LEAVE_TIMEOUT = 10.0

Spec = dict[str, Any]


class SpecCluster(Cluster):
    """A cluster of whatever has the shape of a scheduler and of workers.

    A worker class is called with the address of the scheduler and its options, among them `name`; it is awaitable,
    and has `async close()`, `status` and `name`. A scheduler is awaitable and has `address`, `status`, and `async
    close()`. `ProcessInterface` is a base for both.

    Parameters
    ----------
    workers : mapping, optional
        Name -> {"cls": class or its dotted name, "options": keywords}; with "group", a list of suffixes, one of these
        stands for several workers named name + suffix.
    scheduler : mapping, optional
        {"cls": ..., "options": ...}; fastdist's own by default.
    worker : mapping, optional
        The same for workers that `scale` starts.
    asynchronous, loop, name, scheduler_sync_interval
        As of `Cluster`.
    security : Security, dict or bool, optional
        Connections are not encrypted yet: what asks for that is refused.
    silence_logs : int, str or bool
        Level below which fastdist logs nothing meanwhile; False to leave logging alone.
    shutdown_on_close : bool
        Whether the end of the interpreter closes the cluster.
    shutdown_scheduler : bool
        Whether closing closes the scheduler, too.

    Examples
    --------
    >>> nanny = {"cls": Nanny, "options": {"nthreads": 1}}
    >>> with SpecCluster(workers={0: nanny, "big": nanny}, worker=nanny) as cluster:  # doctest: +SKIP
    ...     cluster.scale(3)
    """

    def __init__(
        self,
        workers: Mapping[Any, Spec] | None = None,
        scheduler: Spec | None = None,
        worker: Spec | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        security: Any = None,
        silence_logs: int | str | bool = False,
        name: str | None = None,
        shutdown_on_close: bool = True,
        scheduler_sync_interval: float | str = 1,
        shutdown_scheduler: bool = True,
    ) -> None:
        check_security(security, type(self).__name__)
        super().__init__(
            asynchronous=asynchronous, loop=loop, name=name, scheduler_sync_interval=scheduler_sync_interval
        )
        self.security = security
        self.scheduler_spec: Spec = dict(scheduler or {"cls": "fastdist.Scheduler", "options": {}})
        self.worker_spec: dict[Any, Spec] = dict(workers or {})
        self.new_spec: Spec | None = None if worker is None else dict(worker)
        self.workers: dict[Any, Any] = {}
        self.scheduler: Any = None
        self.shutdown_on_close = shutdown_on_close
        self.shutdown_scheduler = shutdown_scheduler
        self._i = 0
        self._silence_logs = silence_logs.upper() if isinstance(silence_logs, str) else silence_logs
        self._level_before: int | None = None
        self._remote_info: dict[str, Any] = {}
        self._correcting: asyncio.Lock | None = None
        self._jobs: set[asyncio.Future[Any]] = set()
        self._absent: dict[Any, asyncio.TimerHandle] = {}
        if not asynchronous:
            self._start_blocking()

    # -- what it is ------------------------------------------------------------------------------------------

    @property
    def scheduler_address(self) -> str:
        """Address of the scheduler."""
        address = None if self.scheduler is None else self.scheduler.address
        return super().scheduler_address if address is None else address

    @property
    def token(self) -> Token | None:
        """The secret that clients and workers of this cluster show; None if it is the user's."""
        return getattr(self.scheduler, "token", None)

    @property
    def _server(self) -> Any:
        """The scheduler if it lives in this process."""
        return self.scheduler if _is_a(self.scheduler, "fastdist.scheduler.scheduler", "Scheduler") else None

    @property
    def scheduler_info(self) -> dict[str, Any]:
        """What the scheduler says of itself and its workers; empty before the cluster is started."""
        server = self._server
        return self._remote_info if server is None or not server.listeners else server.identity()

    async def _fresh_info(self) -> Mapping[str, Any]:
        if self._server is None:
            self._remote_info = await self.scheduler_comm.identity()
        return self.scheduler_info

    @property
    def requested(self) -> set[Any]:
        """Names of the workers that were started."""
        return {name for place in self.workers for name in self._names_of(place)}

    @property
    def plan(self) -> set[Any]:
        """Names of the workers that there should be."""
        return {name for place in self.worker_spec for name in self._names_of(place)}

    def _names_of(self, place: Any) -> list[Any]:
        group = self.worker_spec.get(place, {}).get("group")
        return [place] if group is None else [f"{place}{suffix}" for suffix in group]

    # -- scaling ---------------------------------------------------------------------------------------------

    def scale(self, n: int = 0, memory: Any = None, cores: float | None = None) -> Any:
        """Have `n` workers: start new ones, or close those that are not there yet, then the newest.

        Parameters
        ----------
        n : int
            How many workers; at least so many as `memory` and `cores` need.
        memory : str or number, optional
            Memory of all workers together.
        cores : number, optional
            Threads of all workers together.

        Returns
        -------
        None, or an awaitable that may be left alone where calls are awaited.
        """
        if n < 0:
            raise ValueError(f"a cluster cannot have {n} workers")
        if memory is not None:
            n = max(n, math.ceil(parse_bytes(memory) / self._memory_per_worker()))
        if cores is not None:
            n = max(n, math.ceil(cores / self._threads_per_worker()))
        return self.sync(self._scale_soon, n)

    scale_up = scale

    async def scale_down(self, workers: Iterable[Any]) -> None:
        """Close these workers, by name; of a group, the whole of it."""
        places = {str(name): place for place in self.worker_spec for name in self._names_of(place)}
        places.update({str(place): place for place in self.worker_spec})
        for worker in list(workers):
            self.worker_spec.pop(places.get(str(worker)), None)
        await self._correct_state()

    def sync(
        self,
        func: Any,
        *args: Any,
        asynchronous: bool | None = None,
        callback_timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """As of `Cluster`; what `scale` returns need not be awaited."""
        outcome = super().sync(func, *args, asynchronous=asynchronous, callback_timeout=callback_timeout, **kwargs)
        if getattr(func, "__func__", None) is SpecCluster._scale_soon and asyncio.iscoroutine(outcome):
            return self._in_background(outcome)
        return outcome

    def _in_background(self, coroutine: Any) -> asyncio.Future[Any]:
        job = asyncio.ensure_future(coroutine)
        self._jobs.add(job)
        job.add_done_callback(self._job_done)
        return job

    def _job_done(self, job: asyncio.Future[Any]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and job.exception() is not None:
            logger.error("cluster %s could not be changed: %s", self.name, job.exception())

    async def _scale_soon(self, n: int) -> None:
        self._plan_workers(n)
        await self._start_once()
        await self._correct_state()

    def _plan_workers(self, n: int) -> None:
        if len(self.worker_spec) > n:
            for name in [place for place in self.worker_spec if place not in self.workers][::-1]:
                if len(self.worker_spec) > n:
                    del self.worker_spec[name]
        while len(self.worker_spec) > n:
            self.worker_spec.popitem()
        while len(self.worker_spec) < n:
            self.worker_spec.update(self.new_worker_spec())

    def new_worker_spec(self) -> dict[Any, Spec]:
        """Name and description of the next worker that `scale` starts.

        Raises
        ------
        ValueError
            If the cluster was given no `worker` to scale with.
        """
        if self.new_spec is None:
            raise ValueError(f"{type(self).__name__} cannot be scaled up: it was given no worker= to start")
        name = self._new_worker_name(self._i)
        while name in self.worker_spec or name in self.workers:
            self._i += 1
            name = self._new_worker_name(self._i)
        self._i += 1
        return {name: self.new_spec}

    def _new_worker_name(self, worker_number: int) -> Any:
        """Name of a worker; subclasses may have others."""
        return worker_number

    def _threads_per_worker(self) -> int:
        options = (self.new_spec or {}).get("options", {})
        for name in ("nthreads", "ncores", "threads", "cores"):
            if options.get(name):
                return int(options[name])
        raise ValueError("scale(cores=...) needs a worker= with the option nthreads")

    def _memory_per_worker(self) -> int:
        options = (self.new_spec or {}).get("options", {})
        for name in ("memory_limit", "memory"):
            if options.get(name):
                return parse_bytes(options[name])
        raise ValueError("scale(memory=...) needs a worker= with the option memory_limit")

    @classmethod
    def from_name(cls, name: str) -> Any:
        """Not available: an object for a cluster that somebody else started."""
        raise NotImplementedError(f"{cls.__name__}.from_name is not available")

    # -- on the loop -----------------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._silence()
        early = self._make_early()
        cls = import_class(self.scheduler_spec["cls"])
        scheduler = cls(**(self.scheduler_spec.get("options") or {}))
        try:
            await scheduler
        except BaseException:
            # An interrupted wait leaves it starting.
            await scheduler.close()
            raise
        self.scheduler = scheduler
        remember_token(self.scheduler_address, self.token)
        if self._server is not None:
            from fastdist.deploy.watch import Watch

            self._server.extensions[f"cluster-{self.name}"] = Watch(self._server, self)
        else:
            self._in_background(self._look_now_and_then())
        await self._start_workers(early or self._make_workers(self.worker_spec))
        if early:
            await self._start_workers(self._make_workers(set(self.worker_spec) - set(early)))

    def _make_early(self) -> dict[Any, Any]:
        """Nannies, whose processes import what they need while the scheduler starts."""
        early = {}
        for name, spec in self.worker_spec.items():
            cls = import_class(spec["cls"])
            if isinstance(cls, type) and issubclass(cls, Nanny):
                early[name] = self._make_worker(name, cls, spec, None)
        self.workers.update(early)
        for worker in early.values():
            worker.spawn()
        return early

    def _make_workers(self, names: Iterable[Any]) -> dict[Any, Any]:
        """Make workers that are not started yet; they count as this cluster's from now on."""
        contact = getattr(self.scheduler, "contact_address", None) or self.scheduler.address
        new = {}
        for name in names:
            spec = self.worker_spec[name]
            new[name] = self._make_worker(name, import_class(spec["cls"]), spec, contact)
        self.workers.update(new)
        return new

    def _make_worker(self, name: Any, cls: Any, spec: Spec, address: str | None) -> Any:
        worker = cls(address, **{"name": name, **(spec.get("options") or {})})
        # Some classes have slots, and no place for it.
        with contextlib.suppress(AttributeError):
            worker._cluster = weakref.ref(self)
        return worker

    async def _start_workers(self, new: Mapping[Any, Any]) -> None:
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
                await self._close_scheduler("the start of the cluster was interrupted")
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            raise

    async def _correct_state(self) -> None:
        """Make what is agree with what should be."""
        if self._correcting is None:
            self._correcting = asyncio.Lock()
        async with self._correcting:
            if self._status in (Status.closing, Status.closed):
                return
            surplus = [name for name in self.workers if name not in self.worker_spec]
            if surplus:
                await self._retire(surplus)
                leaving = [self.workers.pop(name) for name in surplus if name in self.workers]
                reason = f"cluster {self.name} was scaled to {len(self.worker_spec)} workers"
                await asyncio.gather(*(_close_one(worker, LEAVE_TIMEOUT, reason) for worker in leaving))
            missing = [name for name in self.worker_spec if name not in self.workers]
            if missing:
                await self._start_workers(self._make_workers(missing))

    async def _retire(self, places: list[Any]) -> None:
        """Have the data of workers moved to others before they close."""
        names = [name for place in places for name in self._names_of(place)]
        here = [name for name in names if name in {str(each) for each in self.observed} | self.observed]
        if not here or len(here) == len(self.observed):
            return
        try:
            server = self._server
            if server is not None:
                retiring = server.retire_workers(names=here, close_workers=False, remove=False)
            else:
                retiring = self.scheduler_comm.call("retire-workers", names=here, close_workers=False, remove=False)
            await asyncio.wait_for(retiring, LEAVE_TIMEOUT)
        except (KeyError, ValueError, OSError, asyncio.TimeoutError) as error:
            # They close anyway: what only they have is computed again.
            logger.warning("the data of workers %s could not be moved: %r", here, error)

    async def _close(self, timeout: float) -> None:
        reason = f"cluster {self.name} was closed"
        if self.scheduler is not None:
            forget_token(self.scheduler_address)
        for job in list(self._jobs):
            job.cancel()
        for timer in self._absent.values():
            timer.cancel()
        workers, self.workers = list(self.workers.values()), {}
        closing = [_close_one(worker, timeout, reason) for worker in workers]
        if self.shutdown_scheduler:
            closing.append(self._close_scheduler(reason))
        outcomes = await asyncio.gather(*closing, return_exceptions=True)
        self._unsilence()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _close_scheduler(self, reason: str) -> None:
        if self._server is not None:
            await self._server.close(reason=reason)
        elif self.scheduler is not None:
            await self.scheduler.close()

    def _abandon(self) -> None:
        for worker in self.workers.values():
            if isinstance(worker, Nanny):
                worker.abandon()
        self.workers = {}
        self._unsilence()

    # -- workers that come and go by themselves --------------------------------------------------------------

    async def _look_now_and_then(self) -> None:
        """Keep `scheduler_info` of a scheduler elsewhere up to date."""
        while True:
            before = self.observed
            with contextlib.suppress(OSError):
                await self._fresh_info()
                for name in before - self.observed:
                    self._worker_left(name)
            await asyncio.sleep(self.scheduler_sync_interval)

    def _worker_left(self, name: Any, for_good: bool = False) -> None:
        """The scheduler lost a worker: if it is not back in time, what started it is given up, too."""
        if self._status is not Status.running or self._loop is None:
            return
        patience = 0.0 if for_good else float(config.get("deploy.lost-worker-timeout"))
        old = self._absent.pop(name, None)
        if old is not None:
            old.cancel()
        self._absent[name] = self._loop.call_later(patience, self._give_up, name)

    def _give_up(self, name: Any) -> None:
        self._absent.pop(name, None)
        if self._status is not Status.running or str(name) in map(str, self.observed):
            return
        place = next((place for place in self.workers if str(name) in map(str, self._names_of(place))), None)
        if place is None or any(str(each) in map(str, self.observed) for each in self._names_of(place)):
            return
        worker = self.workers.pop(place)
        self._in_background(_close_one(worker, LEAVE_TIMEOUT, "the scheduler lost it, and it did not come back"))

    # -- logging ---------------------------------------------------------------------------------------------

    def _silence(self) -> None:
        if self._silence_logs is not False:
            root = logging.getLogger("fastdist")
            self._level_before = root.level
            root.setLevel(self._silence_logs)

    def _unsilence(self) -> None:
        if self._level_before is not None:
            logging.getLogger("fastdist").setLevel(self._level_before)
            self._level_before = None


class NoOpAwaitable:
    """Something to await that is done already."""

    def __await__(self) -> Any:
        return _nothing().__await__()


async def _nothing() -> None:
    return None


async def _start_one(worker: Any) -> None:
    await worker


async def _close_one(worker: Any, timeout: float, reason: str) -> None:
    if isinstance(worker, Nanny):
        await worker.close(timeout=timeout, reason=reason)
    elif _is_a(worker, "fastdist.worker.worker", "Worker"):
        await worker.close(timeout=min(timeout, TASK_GRACE), reason=reason)
    else:
        await asyncio.wait_for(worker.close(), timeout)


def _is_a(value: Any, module: str, name: str) -> bool:
    """`isinstance` without importing the class: what is not imported has no instances."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
