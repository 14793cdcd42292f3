"""A worker: the shell around the worker core.

It keeps the connection to the scheduler, gives its frames to the core, starts the execution threads, serves
and fetches data, and reports how it is. Python code here runs once per frame or message, never once per task.
May import: layers L0 to L3.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastdist import config
from fastdist._core.codec.frames import FrameKind
from fastdist._core.codec.sizeof import sizeof
from fastdist._core.worker.core import WorkerCore
from fastdist._core.worker.inspect import wants_fetch
from fastdist.attributes import BorrowedAttributes
from fastdist.comm.core import Comm, Limits, Listener, connect, listen
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token, find_token
from fastdist.context import current_worker
from fastdist.preloading import Arguments, Names, PreloadManager
from fastdist.rpc.blocking import blocked
from fastdist.rpc.peer import Peer, Reply
from fastdist.rpc.pool import ConnectionPool
from fastdist.status import Status
from fastdist.system.processors import processor_count
from fastdist.system.scratch import ScratchFolder
from fastdist.worker.actors import ActorHost
from fastdist.worker.data import DataView
from fastdist.worker.executing import ExecutingPage
from fastdist.worker.execution import Execution
from fastdist.worker.information import Information
from fastdist.worker.lifetime import Lifetime, echo
from fastdist.worker.memory import MemoryManager, MemoryThresholds, parse_memory_limit
from fastdist.worker.options import listen_address, needed_resources, refuse_unbuilt, scheduler_address
from fastdist.worker.output import SharedStreams, TaskOutput, shared_streams
from fastdist.worker.plugins import PluginCalls
from fastdist.worker.reporting import Reporting
from fastdist.worker.returning import SchedulerLink
from fastdist.worker.run import run_function
from fastdist.worker.spill import SpillStore
from fastdist.worker.stopping import stop_handlers
from fastdist.worker.store import SMALL_BYTES, DictStore, SplitStore
from fastdist.worker.transfer import MAX_SERVED_BYTES, Transfer

logger = logging.getLogger("fastdist.worker")

#: The share of the memory limit that is set aside for small values, which are not spilled.
SMALL_SHARE = 0.05
#: The share of the memory limit for the values of one request to another worker, and for those being served.
TRANSFER_SHARE = 0.05
#: What others than the scheduler may ask of a worker.
FOR_ALL = ("identity", "get-data", "put-data", "actor-execute", "actor-attribute")


class Worker(PluginCalls, Lifetime, Reporting, BorrowedAttributes):
    """Executes tasks for a scheduler and keeps their results.

    Parameters
    ----------
    scheduler_ip : str
        Address of the scheduler, or its host if `scheduler_port` is given.
    scheduler_port : int, optional
        Port of the scheduler.
    scheduler_file : path, optional
        A JSON file that holds the address of the scheduler; it is waited for, as long as `death_timeout` says.
    nthreads : int, optional
        How many tasks execute at the same time; by default one per processor.
    name : int or str, optional
        What to call this worker; its address by default.
    preload, preload_argv : list of str, optional
        Modules to load before the first task, and arguments for them; see `fastdist.preloading`.
    local_directory : path, optional
        Where temporary files go.
    resources : dict, optional
        Name and amount of each resource that tasks may ask for.
    memory_limit : str, float or None
        When to spill and to pause: bytes, a fraction of the machine's memory, "auto", or 0 for no limit.
    host, port, interface, protocol, contact_address
        Where to listen, and the address to tell to others.
    lifetime, lifetime_stagger : str or float, optional; lifetime_restart : bool
        After how long, give or take, to retire, and whether the nanny starts another worker then.
    nanny : str, optional
        Address or name of the nanny that watches this process.
    death_timeout : str or float, optional
        How long to look for the scheduler.
    heartbeat_interval : str or float, optional
        How often to report; by default as often as the scheduler says.
    executor : dict, optional
        Names and executors that tasks may run in, besides "offload", by `dask.annotate(executor=)`.
    metrics, startup_information : dict, optional
        Names, and functions of the worker whose values go with each report, or with the first one.
    token : Token, optional
        The shared secret; by default that of the user.
    insecure : bool
        Go without a token.
    **options
        Further options of dask's worker: accepted where they ask for nothing.

    Raises
    ------
    NotImplementedError
        If an option asks for what is not built yet.

    Examples
    --------
    >>> async with Worker("tcp://127.0.0.1:8786", nthreads=2) as worker:  # doctest: +SKIP
    ...     await worker.finished()
    """

    ATTRIBUTES_FROM = "fastdist.compat.worker_attributes:attribute_of"
    MADE_LATER = ("core", "store", "execution", "transfer", "data", "memory_manager", "scheduler", "event_loop")

    def __init__(
        self,
        scheduler_ip: str | None = None,
        scheduler_port: int | None = None,
        *,
        scheduler_file: str | os.PathLike[str] | None = None,
        nthreads: int | None = None,
        local_directory: str | os.PathLike[str] | None = None,
        name: int | str | None = None,
        resources: Mapping[str, float] | None = None,
        preload: Names | None = None,
        preload_argv: Arguments | None = None,
        memory_limit: str | float | None = "auto",
        host: str | None = None,
        port: int | str | None = None,
        interface: str | None = None,
        protocol: str | None = None,
        contact_address: str | None = None,
        nanny: str | None = None,
        death_timeout: str | float | None = None,
        heartbeat_interval: str | float | None = None,
        token: Token | None = None,
        insecure: bool = False,
        **options: Any,
    ) -> None:
        self._init_plugins(options.pop("plugins", ()))
        self._init_lifetime(options)
        self._init_reporting(options)
        refuse_unbuilt(options)
        self._death_timeout = None if death_timeout is None else config.parse_timedelta(death_timeout)
        self.scheduler_address = scheduler_address(
            scheduler_ip, scheduler_port, scheduler_file, self._death_timeout
        )
        self.nthreads = nthreads or processor_count()
        self.memory_limit = parse_memory_limit(memory_limit, self.nthreads)
        wanted = config.get("worker.resources") if resources is None else resources
        self.resources = {str(key): float(amount) for key, amount in wanted.items()}
        self.preloads = PreloadManager.configured(self, "worker", preload, preload_argv)
        self.nanny = nanny
        self.contact_address = contact_address
        self.address = ""
        self.status = Status.created
        self.close_reason: str | None = None
        self.executing_page_path: str | None = None
        #: Called with this worker once it is registered, before it takes its first task.
        self.before_work: Callable[[Worker], object] | None = None
        self.background: set[asyncio.Task[Any]] = set()
        self._name = name
        self._listen_address = listen_address(self.scheduler_address, protocol, host, port, interface)
        self._directory = None if local_directory is None else os.fspath(local_directory)
        self._scratch = ScratchFolder("worker", local_directory or config.get("temporary-directory"))
        self._heartbeat_interval = (
            None if heartbeat_interval is None else config.parse_timedelta(heartbeat_interval)
        )
        needs_token = token is None and not insecure and not self.scheduler_address.startswith("inproc://")
        self.token = find_token() if needs_token else token
        self.insecure = insecure
        self._finished = asyncio.Event()
        self._listener: Listener | None = None
        #: What goes to the scheduler, over one connection after the other.
        self.link = SchedulerLink(self)
        #: Whether it closes because the scheduler dropped it, or is gone: only its nanny can tell which.
        self.was_cut_off = False
        self._callers: set[Peer] = set()
        self._information = Information(self)
        self._closing: asyncio.Task[None] | None = None
        self.actor_host = ActorHost(self)
        #: What its tasks write, on its way to the scheduler.
        self.task_output = TaskOutput(self)
        self._streams: SharedStreams | None = None
        #: What `get_client` gives in tasks, once one has asked.
        self.client_of_tasks: Any = None

    # Life

    def __await__(self) -> Generator[Any, None, Worker]:
        return self.start().__await__()

    async def __aenter__(self) -> Worker:
        return await self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def start(self) -> Worker:
        """Listen, connect to the scheduler and register; then tasks may come.

        Raises
        ------
        OSError, TimeoutError
            If the scheduler cannot be reached.
        HandshakeError
            If it refuses this worker.
        """
        if self.status is not Status.created:
            return self
        self.status = Status.starting
        self.event_loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._offload = ThreadPoolExecutor(2, "fastdist-offload", current_worker.set, (self,))
        self._pool = ConnectionPool(Role.WORKER, self.token, insecure=self.insecure)
        self._streams = shared_streams
        self._streams.take()
        try:
            self._listener = await listen(
                self._listen_address,
                token=self.token,
                insecure=self.insecure,
                on_comm=self._on_caller,
                role=Role.WORKER,
                limits=self._limits(),
            )
            self.address = self.contact_address or self._listener.address
            await self._register()
        except BaseException as error:
            await self.close(reason=f"could not start: {error}")
            raise
        self.status = Status.running
        self._start_lifetime()
        return self

    def _limits(self) -> Limits:
        """Bounds of the connections over which values leave."""
        limits = Limits.from_config()
        return dataclasses.replace(limits, high_water=self._share(limits.high_water))

    async def _register(self) -> None:
        """Connect to the scheduler and set everything up that depends on its answer."""
        comm = await connect(
            self.scheduler_address,
            role=Role.WORKER,
            token=self.token,
            insecure=self.insecure,
            timeout=self._death_timeout,
            retry=True,
        )
        self.scheduler = Peer(comm, self.scheduler_handlers(), name="the scheduler")
        self.scheduler.on_close = self.on_scheduler_closed
        self.link.keep_frames(self.scheduler)
        reply = await self.scheduler.call(
            "register-worker",
            timeout=self._death_timeout,
            extra=await self._added(self.startup_information),
            **self.registration(),
            **self.link.registration(),
        )
        self.link.grace = float(reply.get("grace") or 0)
        self._set_up(comm, reply)
        await self.preloads.start(lambda: self.local_directory)
        await self._set_up_plugins(reply)
        if self.before_work is not None:
            self.before_work(self)
        self._begin()
        self._heartbeat_fixed = self._heartbeat_interval is not None
        self._heartbeat_interval = self._heartbeat_interval or float(reply.get("heartbeat_interval") or 1.0)
        self._start_background(self._heartbeats())
        self._send_beats(reply)

    def _send_beats(self, reply: Mapping[str, Any]) -> None:
        seconds = float(reply.get("beat_interval") or 0)
        self._start_background(self.link.send_beats(int(reply["number"]), seconds))

    async def on_returned(self, reply: Reply) -> None:
        """There is another connection to the scheduler, which knows what is here."""
        self.execution.reconnect(self.scheduler.comm)
        self.link.grace = float(reply.get("grace") or 0)
        if not reply.get("resumed"):
            await self._add_plugins(reply)
            self._information.set_recorder()
            self._tell_status(self.status if self.status is Status.paused else Status.running)
        self._send_beats(reply)
        self.execution.flush()
        self.execution.expect_work()
        self.transfer.start_fetches()
        logger.info("worker %s is back at the scheduler", self.name)

    def _set_up(self, comm: Comm, reply: Mapping[str, Any]) -> None:
        """Make the core and what works with it, for the epoch and the number that the scheduler gave."""
        self.core = WorkerCore(
            int(reply["epoch"]),
            int(reply["number"]),
            slots=self.nthreads,
            resources=self.resources,
            read_option=needed_resources,
            max_bytes=self._share(config.get("worker.transfer.message-bytes-limit")),
        )
        self.store = self._make_store()
        self._page = self._make_page()
        self.execution = Execution(
            self.core,
            self.store,
            send=self._send_done,
            loop=asyncio.get_running_loop(),
            measure=sizeof,
            worker=self,
            by_reference=comm.in_process,
            inline_limit=config.get("scheduler.inline-limit"),
            max_threads=config.get("worker.max-threads"),
            page=self._page,
            comm=comm,
        )
        self.transfer = Transfer(
            self.core, self.execution, self.store, self._pool, self._offload, sizeof, self._share(MAX_SERVED_BYTES)
        )
        self.data = DataView(self.core, self.store)
        self.memory_manager: MemoryManager | None = None
        if self._spill_store is not None:
            self.memory_manager = MemoryManager(
                self.memory_limit,
                self._spill_store,
                pause=self._pause,
                resume=self._resume,
                thresholds=MemoryThresholds.configured(),
                interval=config.get("worker.memory.monitor-interval"),
            )

    def _share(self, nbytes: int) -> int:
        """This many bytes for values on their way, or the share of them that the memory limit allows."""
        if self.memory_limit is None:
            return nbytes
        return max(1, min(nbytes, int(self.memory_limit * TRANSFER_SHARE)))

    def _make_store(self) -> DictStore | SplitStore:
        self._spill_store: SpillStore | None = None
        if self.memory_limit is None:
            return DictStore()
        self._spill_store = SpillStore(self._spill_folder, None)
        return SplitStore(self._spill_store, int(self.memory_limit * SMALL_SHARE) // SMALL_BYTES)

    def _spill_folder(self) -> str:
        folder = os.path.join(self.local_directory, "spill")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return folder

    def _make_page(self) -> ExecutingPage | None:
        """Only a nanny reads it."""
        if self.nanny is None:
            return None
        page = ExecutingPage(os.path.join(self.local_directory, f"executing-{os.getpid()}"))
        self.executing_page_path = page.path
        return page

    def _begin(self) -> None:
        """Take the frames that came early, start the threads and watch the memory."""
        self.link.take_frames(self.scheduler, self.frame_handlers())
        self._information.set_recorder()
        self.execution.start_threads(self.nthreads, f"fastdist-execution-{self.name}")
        if self.memory_manager is not None:
            self.memory_manager.start(asyncio.get_running_loop())

    async def finished(self) -> None:
        """Wait until the worker is closed."""
        await self._finished.wait()

    async def close(
        self,
        timeout: float = 30,
        executor_wait: bool = True,
        nanny: bool = True,
        reason: str = "worker-close",
    ) -> str:
        """Stop: no task is started any more, the connections close, all data is dropped.

        Parameters
        ----------
        timeout : float
            Seconds to wait for tasks that are executing.
        executor_wait : bool
            Whether to wait for them at all.
        nanny : bool
            For compatibility only: a nanny sees that its worker closed on purpose and starts no other.
        reason : str
            Why, for logs and for `close_reason`.
        """
        if self._closing is None:
            self.close_reason = reason
            self._closing = asyncio.ensure_future(self._close(timeout if executor_wait else 0, reason))
        await asyncio.shield(self._closing)
        return "OK"

    async def _close(self, timeout: float, reason: str) -> None:
        started = hasattr(self, "execution")
        logger.info("worker %s closes: %s", self.name, reason)
        if self.status in (Status.running, Status.paused, Status.closing_gracefully):
            self._tell_status(Status.closing)
        self.status = Status.closing
        await self.preloads.teardown()
        for task in self.background:
            task.cancel()
        if started:
            await self._tear_down_plugins()
            self.execution.close()
            if self.memory_manager is not None:
                self.memory_manager.stop()
            self.actor_host.close()
            await self.transfer.close()
        if self.client_of_tasks is not None:
            await self.client_of_tasks.close(timeout=1)
        if self._listener is not None:
            await self._listener.close()
        for peer in [*self._callers, getattr(self, "scheduler", None)]:
            if peer is not None:
                await peer.close()
        await self._pool.close()
        self.link.close_beat()
        if started:
            await self._end_execution(timeout)
        for executor in (self._offload, *self.further_executors.values()):
            executor.shutdown(wait=False)
        self._scratch.remove()
        if self._streams is not None:
            self._streams.give_back()
            self._streams = None
        self.status = Status.closed
        self._finished.set()

    async def _end_execution(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        ended = self.execution.join(0) or (
            timeout > 0 and await loop.run_in_executor(self._offload, self.execution.join, timeout)
        )
        if not ended:
            logger.warning("worker %s closes although a task still executes after %g s", self.name, timeout)
        if self._page is not None and ended:
            self.execution.release_page()
            self._page.close()
        if self._spill_store is not None:
            self._spill_store.clear()
        self.store.values.clear()

    # Connections

    def frame_handlers(self) -> dict[int, Callable[[Peer, memoryview], None]]:
        """What is done with frames of the scheduler."""
        return {
            FrameKind.RUN: self._on_run,
            FrameKind.FREE: self._on_free,
            FrameKind.RETRACT: self._on_retract,
        }

    def scheduler_handlers(self) -> dict[str, Any]:
        """Operations of the scheduler by name."""
        handlers = {
            "run": self._run,
            "identity": lambda peer, fields, buffers: self.identity(),
            "close": self._on_close_asked,
            "heartbeat-interval": self._on_heartbeat_interval,
            "get-data": self._get_data,
            "put-data": self._put_data,
            **self.actor_host.handlers(),
            **self._plugin_handlers(),
            **self._information.handlers(),
            **self._lifetime_handlers(),
            **stop_handlers(self),
            **self.link.handlers(),
        }
        return blocked(handlers, config.get("worker.blocked-handlers"), "worker")

    def _on_caller(self, comm: Comm) -> None:
        """Somebody wants data, or brings some."""
        handlers = {name: handler for name, handler in self.scheduler_handlers().items() if name in FOR_ALL}
        handlers["echo"] = echo
        peer = Peer(comm, handlers)
        self._callers.add(peer)
        peer.on_close = lambda closed, reason: self._callers.discard(closed)

    async def _get_data(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Any:
        return await self.transfer.get_data(peer, fields, buffers)

    async def _put_data(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Any:
        return await self.transfer.put_data(peer, fields, buffers)

    async def _run(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Any:
        return await run_function(self, fields, buffers, self._offload)

    def _on_close_asked(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        reason = fields.get("reason")
        logger.info("the scheduler asked worker %s to close", self.name)
        self._close_soon(reason if isinstance(reason, str) else "the scheduler asked for it")

    @property
    def is_closing(self) -> bool:
        """Whether it closes, or is closed."""
        return self._closing is not None

    def on_scheduler_closed(self, peer: Peer, reason: Exception | None) -> None:
        """The connection to the scheduler broke; it is opened again if that makes sense."""
        if self._closing is not None or self.status is Status.starting or peer is not self.scheduler:
            return
        text = f"the connection to the scheduler was lost: {reason or 'it closed'}"
        if self.link.may_return(reason):
            self._start_background(self.link.come_back(text))
        else:
            self.give_up_scheduler(text)

    def give_up_scheduler(self, reason: str) -> None:
        """Close, because there is no scheduler any more."""
        if self._closing is None:
            self.was_cut_off = True
            self._close_soon(reason)

    def _close_soon(self, reason: str) -> None:
        if self._closing is None:
            self.close_reason = reason
            self._closing = asyncio.ensure_future(self._close(30.0, reason))

    # Frames

    def _on_run(self, peer: Peer, body: memoryview) -> None:
        with self.transfer.storing:
            self.core.on_run(body, time.monotonic())
        if self._on_loop():
            self.execution.expect_work()
            self.transfer.start_fetches()
        elif wants_fetch(self.core):
            self.event_loop.call_soon_threadsafe(self.transfer.start_fetches)
        self._note_changes()

    def _on_free(self, peer: Peer, body: memoryview) -> None:
        with self.transfer.storing:
            self.execution.drop_values(self.core.on_free(body, time.monotonic()))
        if self._on_loop():
            self.execution.expect_work()
        self._note_changes()

    def _on_loop(self) -> bool:
        """Whether this is the thread of the event loop; an execution thread that idles reads frames, too."""
        return threading.get_ident() == self._loop_thread

    def _on_retract(self, peer: Peer, body: memoryview) -> None:
        self.core.on_retract(body, time.monotonic())
        # Somebody idles and waits for these tasks.
        self.execution.flush()

    def _send_done(self, body: bytes) -> None:
        self._note_changes()
        self.link.send_done(body)

    # Memory

    def _pause(self) -> None:
        self.core.on_paused()
        self.status = Status.paused
        self._tell_status(Status.paused)

    def _resume(self) -> None:
        self.core.on_resumed()
        self.status = Status.running
        self._tell_status(Status.running)
        self.transfer.start_fetches()

    # For people

    @property
    def name(self) -> int | str:
        """Its name; its address if it was given none."""
        return self.address if self._name is None else self._name

    @property
    def worker_address(self) -> str:
        """The address where others get its data."""
        return self.address

    @property
    def local_directory(self) -> str:
        """The folder of its temporary files; with a nanny, the nanny's."""
        if self.nanny is not None and self._directory is not None:
            return self._directory
        return self._scratch.path
