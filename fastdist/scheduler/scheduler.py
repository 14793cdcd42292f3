"""The scheduler: a server that has a core.

Frames are applied to the core as they arrive; once per turn of the event loop `act` sends what follows from them, one
frame per peer. May import: the layers below and the other modules of this folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any

from fastdist import config
from fastdist._core.scheduler.core import TO_WORKER, SchedulerCore
from fastdist.attributes import BorrowedAttributes
from fastdist.comm.addresses import parse_ports, resolve_listen_host, unparse_address
from fastdist.comm.core import Comm, Limits, Listener, listen
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token, find_token
from fastdist.config import parse_timedelta
from fastdist.errors import CommClosedError, FrameError
from fastdist.loop import call_before_sleep
from fastdist.preloading import Arguments, Names, PreloadManager
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.client_handlers import ClientHandlers
from fastdist.scheduler.control_calls import ControlCalls
from fastdist.scheduler.extensions import BUILT_IN, Extension
from fastdist.scheduler.extensions.explaining import Explaining
from fastdist.scheduler.extensions.liveness import Liveness
from fastdist.scheduler.journal import open_journal
from fastdist.scheduler.membership import ClientEntry, Members, WorkerEntry
from fastdist.scheduler.parameters import block, endpoints, is_inproc, make_extensions, refuse_unbuilt
from fastdist.scheduler.plugin_calls import PluginCalls
from fastdist.scheduler.trimming import Trimmer
from fastdist.scheduler.worker_handlers import WorkerHandlers
from fastdist.status import Status
from fastdist.system.scratch import ScratchFolder

logger = logging.getLogger("fastdist.scheduler")

DEFAULT_PORT = 8786

#: So few tasks on their way mean that somebody waits for each of them ...
FEW_TASKS = range(1, 3)

#: ... and that the next message is likely to come within this time.
SPIN_SECONDS = 1e-4

#: Beats per second that all workers together may cause.
WORKERS_PER_BEAT = 200


class Scheduler(PluginCalls, ControlCalls, BorrowedAttributes):
    """Takes tasks from clients, gives them to workers, and tells the clients what became of them.

    Parameters
    ----------
    host, interface : str, optional
        What to bind to; all interfaces by default.
    port : int or str
        0 for any free port, `"first:last"` for a range.
    protocol : str, optional
        `"tcp"` (default) or `"inproc"`.
    token : Token, optional
        The cluster's secret; looked up (and made at first use) by default.
    insecure : bool
        Go without authentication.
    allowed_failures : int, optional
        How many workers may die while executing a task before it fails with KilledWorker; the setting
        `scheduler.allowed-failures` by default.
    idle_timeout : str or float, optional
        Close after this time without tasks.
    scheduler_file : str, optional
        Where to write the address as JSON; removed at close.
    limits : Limits, optional
        Bounds of each connection.
    extensions : dict, optional
        Name and class of further extensions, kinds of `fastdist.scheduler.extensions.Extension`.
    validate : bool, optional
        Check every invariant of the core after each batch, for tests: it costs as much as there are tasks.
    blocked_handlers : list of str, optional
        Operations that nobody may ask for.
    plugins : iterable of SchedulerPlugin
        Plugins to start with.
    admin_code : bool
        Whether clients may bring code for the scheduler itself (run_on_scheduler, scheduler plugins).
    contact_address : str, optional
        The address to tell to others, where it is not the one that is bound.
    local_directory : path, optional
        Where temporary files go.
    preload, preload_argv : list of str, optional
        Modules to load at start, and arguments for them; see `fastdist.preloading`.
    journal : path, optional
        The folder of the journal, with which another scheduler can go on should this one be killed; the setting
        `scheduler.journal` by default.
    worker_ttl : str or float, optional
        Restart workers whose event loop did not report for so long; the setting `scheduler.worker-ttl` by default.
    **options
        Further parameters of dask's scheduler: accepted where they ask for nothing. `host`, `port`, `interface` and
        `protocol` may be lists, for several listeners.

    Raises
    ------
    NotImplementedError
        If a parameter asks for what is not built yet.

    Examples
    --------
    >>> async def main():
    ...     async with Scheduler(host="127.0.0.1") as scheduler:
    ...         print(scheduler.address)
    """

    ATTRIBUTES_FROM = "fastdist.compat.scheduler_attributes:attribute_of"
    MADE_LATER = ("extensions", "core", "members")

    def __init__(
        self,
        *,
        host: str | list[str] | None = None,
        port: int | str | list[int | str] = 0,
        protocol: str | list[str] | None = None,
        interface: str | list[str] | None = None,
        token: Token | None = None,
        insecure: bool = False,
        allowed_failures: int | None = None,
        idle_timeout: str | float | None = None,
        scheduler_file: str | None = None,
        limits: Limits | None = None,
        extensions: Mapping[str, Callable[[Any], Any]] | None = None,
        validate: bool | None = None,
        blocked_handlers: Iterable[str] | None = None,
        contact_address: str | None = None,
        local_directory: str | os.PathLike[str] | None = None,
        preload: Names | None = None,
        preload_argv: Arguments | None = None,
        plugins: Iterable[Any] = (),
        admin_code: bool = True,
        worker_ttl: str | float | None = None,
        journal: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        refuse_unbuilt(options)
        config.report()
        self.id = f"Scheduler-{uuid.uuid4()}"
        self.epoch = secrets.randbits(63) | 1
        self.status = Status.created
        self.members = Members()
        self._heartbeat = config.get("scheduler.heartbeat")
        idle = config.get("scheduler.idle-timeout") if idle_timeout is None else idle_timeout
        self.idle_timeout = None if idle is None else parse_timedelta(idle)
        ttl = config.get("scheduler.worker-ttl") if worker_ttl is None else worker_ttl
        self.worker_ttl = None if ttl is None else parse_timedelta(ttl)
        self.scheduler_file = scheduler_file
        self.started = time.time()
        self.token = token
        self.insecure = insecure
        self._endpoints = endpoints(protocol, interface, host, port)
        for wanted, *_ in self._endpoints:
            if wanted not in (None, "tcp", "tcp://", "inproc", "inproc://"):
                raise NotImplementedError(f"the protocol {wanted!r} is not built yet; there are tcp and inproc")
        self._limits = limits
        self.validate = config.get("scheduler.validate") if validate is None else bool(validate)
        self.contact_address = contact_address or config.get("scheduler.contact-address")
        self._scratch = ScratchFolder("scheduler", local_directory or config.get("temporary-directory"))
        self.preloads = PreloadManager.configured(self, "scheduler", preload, preload_argv)
        self._core_settings = _core_settings(allowed_failures)
        self.core = SchedulerCore(self.epoch, (secrets.randbits(64), secrets.randbits(64)), self._core_settings)
        self._clients = ClientHandlers(self)
        self._workers = WorkerHandlers(self)
        self._init_plugins(plugins, admin_code)
        self.extensions: dict[str, Extension] = {each.name: each(self) for each in BUILT_IN}
        #: Takes the frames for clients of the core that are parts of this scheduler, by number.
        self.sinks: dict[int, Callable[[int, bytes], None]] = {}
        self.extensions.update(make_extensions(self, extensions or {}))
        self.journal = open_journal(self, journal)
        explaining = self.extensions[Explaining.name]
        assert isinstance(explaining, Explaining)
        self._explaining = explaining
        self._tables = self._operations()
        block(self._tables, config.get("scheduler.blocked-handlers") if blocked_handlers is None else blocked_handlers)
        self._peers: set[Peer] = set()
        self._listener: Listener | None = None
        self.listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Keeps the event loop awake for some seconds; a daemon sets it.
        self.spin: Callable[[float], None] | None = None
        self._awake = False
        self._tick: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None
        self._trimmer = Trimmer()
        self._worker_event = asyncio.Event()
        self._finished = asyncio.Event()
        self._start_task: asyncio.Task[None] | None = None
        self._close_task: asyncio.Task[None] | None = None

    def _operations(self) -> dict[Role, dict[str, Handler]]:
        """Who may ask for what."""
        clients, workers, nannies = self._clients.table(), self._workers.table(), self._workers.nanny_table()
        for extension in self.extensions.values():
            clients.update(extension.client_handlers())
            workers.update(extension.worker_handlers())
            nannies.update(extension.nanny_handlers())
        return {
            Role.CLIENT: clients,
            Role.ADMIN: clients,
            Role.WORKER: workers,
            Role.NANNY: nannies,
            Role.OBSERVER: {"identity": self._clients.identity},
        }

    def __repr__(self) -> str:
        where = self._listener.address if self._listener else "not started"
        threads = sum(entry.nthreads for entry in self.members)
        return (
            f"<Scheduler {where!r}, workers: {len(self.members.workers)}, cores: {threads}, "
            f"tasks: {self.core.n_tasks()}>"
        )

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The address that workers and clients connect to.

        Raises
        ------
        RuntimeError
            If the scheduler is not started.
        """
        if self._listener is None:
            raise RuntimeError("the scheduler has no address before it is started: await it first")
        return self.contact_address or self._listener.address

    @property
    def local_directory(self) -> str:
        """The folder of its temporary files; made when it is asked for."""
        return self._scratch.path

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between two signs of life of a worker; many workers beat more slowly."""
        return float(max(self._heartbeat, len(self.members.workers) / WORKERS_PER_BEAT))

    @property
    def closing(self) -> bool:
        """Whether the scheduler closes or is closed."""
        return self.status in (Status.closing, Status.closed)

    def __await__(self) -> Generator[Any, None, Scheduler]:
        return self._start_once().__await__()

    async def __aenter__(self) -> Scheduler:
        return await self._start_once()

    async def __aexit__(self, *details: object) -> None:
        await self.close(reason="the end of its with block")

    async def _start_once(self) -> Scheduler:
        if self._start_task is None:
            self._start_task = asyncio.ensure_future(self._start())
        await asyncio.shield(self._start_task)
        return self

    async def _start(self) -> None:
        self.status = Status.starting
        self._loop = asyncio.get_running_loop()
        if self.token is None and not self.insecure and not all(map(is_inproc, self._endpoints)):
            self.token = find_token()
        if self.insecure:
            logger.warning("the scheduler runs insecure: everyone who reaches its port may run code on the workers")
        if self.journal is not None:
            self.journal.recover()
        for endpoint in self._endpoints:
            self.listeners.append(await self._listen(*endpoint))
        self._listener = self.listeners[0]
        await self.preloads.start(lambda: self.local_directory)
        if self.scheduler_file:
            self._write_scheduler_file(self.scheduler_file)
        for extension in self.extensions.values():
            await extension.started()
        await self._start_plugins()
        self.status = Status.running
        logger.info("Scheduler at: %25s", self.address)
        if self.idle_timeout:
            self._check_idle()

    async def _listen(
        self, protocol: str | None, interface: str | None, host: str | None, port: int | str
    ) -> Listener:
        options: dict[str, Any] = {
            "token": self.token,
            "insecure": self.insecure,
            "epoch": self.epoch,
            "on_comm": self._take_comm,
            "limits": self._limits,
        }
        if is_inproc((protocol,)):
            return await listen("inproc://", **options)
        ports = parse_ports(port)
        for wanted in ports:
            try:
                return await listen(unparse_address("tcp", resolve_listen_host(host, interface), wanted), **options)
            except OSError:
                if wanted == ports[-1]:
                    raise
        raise ValueError(f"no port can be taken from {port!r}")

    def _write_scheduler_file(self, path: str) -> None:
        text = json.dumps({"type": "Scheduler", "id": self.id, "address": self.address})
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)

    def close_soon(self, reason: str) -> None:
        """Close from inside an operation: after its answer is on the way."""
        assert self._loop is not None
        self._loop.call_later(0.01, lambda: asyncio.ensure_future(self.close(reason=reason)))

    async def close(self, reason: str = "") -> None:
        """Tell everyone, close every connection, and stop.

        Parameters
        ----------
        reason : str
            Told to workers and clients.
        """
        if self._close_task is None:
            self._close_task = asyncio.ensure_future(self._close(reason))
        await asyncio.shield(self._close_task)

    async def _close(self, reason: str) -> None:
        if self._start_task is not None and not self._start_task.done():
            self._start_task.cancel()
            # Its error, if any, is of no interest any more, but it has to be read.
            await asyncio.gather(self._start_task, return_exceptions=True)
        self.status = Status.closing
        await self.preloads.teardown()
        if self._tick is not None:
            self._tick.cancel()
        self._trimmer.cancel()
        for listener in self.listeners:
            await listener.close()
        await self._workers.away.close()
        await self._workers.hosts.close()
        for extension in self.extensions.values():
            await extension.close()
        for peer in list(self._peers):
            with contextlib.suppress(CommClosedError):
                peer.notify("close", reason=reason or "the scheduler closed")
        await asyncio.gather(*(peer.close() for peer in list(self._peers)), return_exceptions=True)
        for extension in self.extensions.values():
            await extension.closed()
        await self._end_background()
        if self.scheduler_file:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.scheduler_file)
        self._scratch.remove()
        self.status = Status.closed
        self._finished.set()

    async def finished(self) -> None:
        """Wait until the scheduler is closed."""
        await self._finished.wait()

    def check_idle(self) -> float | None:
        """Monotonic time since when no task is on its way, as far as anybody looked; None if there are some."""
        busy = self.core.counts()
        if busy["processing"] or busy["ready"] or busy["waiting"] or busy["scattering"]:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = time.monotonic()
        return self._idle_since

    def _check_idle(self) -> None:
        if self.closing or self._loop is None or self.idle_timeout is None:
            return
        since = self.check_idle()
        if since is not None and time.monotonic() - since >= self.idle_timeout:
            logger.info("the scheduler was idle for %g s and closes", self.idle_timeout)
            self.close_soon(f"idle for {self.idle_timeout:g} s")
            return
        self._loop.call_later(max(0.01, self.idle_timeout / 4), self._check_idle)

    # -- connections -------------------------------------------------------------------------------------------------

    def _take_comm(self, comm: Comm) -> None:
        if comm.role is Role.BEAT and not self.closing:
            liveness = self.extensions[Liveness.name]
            assert isinstance(liveness, Liveness)
            liveness.take(comm)
            return
        peer = Peer(comm, self._tables[comm.role])
        peer.on_close = self._peer_closed
        self._peers.add(peer)
        if self.closing:
            peer.abort(CommClosedError("the scheduler is closing"))

    def _peer_closed(self, peer: Peer, reason: Exception | None) -> None:
        self._peers.discard(peer)
        self._workers.disconnected(peer, reason)
        self._clients.lost(peer, reason)

    @property
    def clients_away(self) -> dict[int, ClientEntry]:
        """Clients whose connection broke and that may return, by number."""
        return self._clients.away

    def give_up_worker(self, entry: WorkerEntry, why: str) -> None:
        """Do without a worker from now on, although its process may live; its tasks go elsewhere, none is blamed."""
        self._workers.lose(entry, why, dead=False)
        entry.peer.abort(CommClosedError(why))

    def send_worker_away(self, entry: WorkerEntry, why: str) -> None:
        """Break off the connection of a worker; it keeps what it has if it comes back in time."""
        self._workers.send_away(entry, why)

    def membership_changed(self) -> None:
        """Workers came or went: say again who may run what, and place."""
        for number, placing in self.core.restricted_options():
            self.core.on_candidates(number, self.members.candidates(placing))
        self._worker_event.set()
        self._worker_event = asyncio.Event()
        self.wake()

    async def worker_came(self, timeout: float) -> None:
        """Wait until the set of workers changes, or the timeout."""
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(self._worker_event.wait(), timeout)

    # -- act ---------------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have `act` run once everything that is waiting has been read."""
        if not self._awake and self._loop is not None and not self._loop.is_closed():
            self._awake = True
            call_before_sleep(self._loop, self._act)

    def act_now(self) -> None:
        """Have what was decided sent before this returns."""
        self._act()

    def _act(self) -> None:
        self._awake = False
        for target, number, kind, body in self.core.act(time.time()):
            members: Any = self.members.workers if target == TO_WORKER else self.members.clients
            entry = members.get(number)
            if entry is None:
                if target != TO_WORKER and number in self.sinks:
                    self.sinks[number](kind, body)
                continue
            try:
                entry.peer.send_frame(kind, body)
            except CommClosedError:
                # It is reported through on_close, where its worker or client is dealt with.
                continue
            except FrameError as error:
                # The other side would wait for ever for what it contains; the rest of the cluster goes on.
                logger.exception("the connection to %s is given up", entry.peer.name)
                entry.peer.abort(error)
                continue
            if target != TO_WORKER:
                comm = entry.peer.comm
                allowed = comm.queued_bytes <= comm.limits.high_water
                if allowed != entry.inline_allowed:
                    entry.inline_allowed = allowed
                    self.core.on_inline_allowed(number, allowed)
        if self.after_act is not None:
            self.after_act()
        self._explaining.after_act()
        if self.spin is not None and self.core.n_processing() in FEW_TASKS:
            self.spin(SPIN_SECONDS)
        if self.validate:
            self.core.validate()
        self._plan_tick()
        self._trimmer.watch(self.core.n_tasks(), self._loop)

    def _plan_tick(self) -> None:
        deadline = self.core.next_deadline()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if deadline is not None and self._loop is not None and not self.closing:
            self._tick = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        self._clients.forget(self.core.on_tick(time.monotonic()))
        self.wake()

    # -- views -------------------------------------------------------------------------------------------------------

    def identity(self, n_workers: int = -1) -> dict[str, Any]:
        """What the cluster is made of, in plain values.

        Parameters
        ----------
        n_workers : int
            How many workers to describe; -1 for all.
        """
        entries = list(self.members)
        shown = entries if n_workers < 0 else entries[:n_workers]
        return {
            "type": "Scheduler",
            "id": self.id,
            "address": self.address,
            "services": {},
            "started": self.started,
            "n_workers": len(entries),
            "total_threads": sum(entry.nthreads for entry in entries),
            "total_memory": sum(entry.memory_limit for entry in entries),
            "workers": {entry.address: entry.identity() for entry in shown},
        }


def _core_settings(allowed_failures: int | None) -> dict[str, Any]:
    return {
        "prefill": config.get("scheduler.prefill"),
        "saturation": config.get("scheduler.worker-saturation"),
        "bandwidth": config.get("scheduler.bandwidth"),
        "unknown_duration": config.get("scheduler.unknown-task-duration"),
        "client_grace": config.get("scheduler.client-grace"),
        "allowed_failures": config.get("scheduler.allowed-failures")
        if allowed_failures is None
        else allowed_failures,
    }
