"""The supervisor of one worker process.

It starts the process, waits for its end without signal handlers, tells the scheduler why it ended, and
starts it again. It holds no task state: what a dead process was executing is read from a page of memory that
outlives it.

May import: `fastdist.system`, `fastdist.comm`, `fastdist.rpc`, `fastdist.nanny`, and of `fastdist.worker` the modules
`memory` and `run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
import uuid
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastdist import config as settings
from fastdist.attributes import BorrowedAttributes
from fastdist.comm.token import Token, find_token
from fastdist.nanny.launch import effective_log_level, launch_worker_process, worker_configuration
from fastdist.nanny.link import SchedulerLink
from fastdist.nanny.observation import Observation
from fastdist.nanny.options import take_options
from fastdist.nanny.plugins import PluginCalls
from fastdist.nanny.report import ExecutingTask, how_it_ended, read_executing, report_exit
from fastdist.nanny.restarts import RAPID_DEATH, Restarts
from fastdist.preloading import Arguments, Names, PreloadManager
from fastdist.rpc.fields import number
from fastdist.rpc.peer import Handler, Peer
from fastdist.status import Status
from fastdist.system.channel import Channel, Message
from fastdist.system.memory import process_memory
from fastdist.system.processes import ChildProcess, ExitStatus
from fastdist.system.scratch import ScratchFolder
from fastdist.worker.memory import MemoryThresholds, parse_memory_limit
from fastdist.worker.run import run_function

logger = logging.getLogger("fastdist.nanny")

#: Seconds between SIGTERM and SIGKILL for a process that does not close when it is asked to.
TERMINATE_GRACE = 0.5


class Nanny(PluginCalls, BorrowedAttributes):
    """Runs a worker in a process of its own and keeps it running.

    Parameters
    ----------
    scheduler_ip:
        Address of the scheduler, or its host if `scheduler_port` is given; None if `scheduler_address` is set later,
        before `start`.
    scheduler_port:
        Port of the scheduler.
    scheduler_file:
        A JSON file that holds the address of the scheduler; it is waited for, as long as `death_timeout` says.
    nthreads, name, memory_limit, resources, host, port, contact_address, death_timeout, lifetime, ...:
        Arguments of the worker.
    local_directory:
        Folder for the worker's temporary files; the system's if None.
    token, insecure:
        The cluster's token (looked up if None), or no token at all.
    env:
        Environment variables of the process.
    silence_logs:
        Logging level of the process; that of this one if None.
    worker_class:
        Class of the worker, or its import name.
    config:
        Settings of the process that differ from those of this one.
    preload_nanny, preload_nanny_argv:
        Modules that the nanny itself loads at start, and arguments for them; see `fastdist.preloading`.
    memory_thresholds:
        Fractions of the memory limit; the process is killed above `terminate`.
    monitor_interval:
        Seconds between two looks at the memory of the process.

    Example
    -------
    >>> async def main():
    ...     async with Nanny("tcp://127.0.0.1:8786", nthreads=1) as nanny:
    ...         await nanny.finished()
    """

    ATTRIBUTES_FROM = "fastdist.compat.worker_attributes:nanny_attribute_of"

    def __init__(
        self,
        scheduler_ip: str | None = None,
        scheduler_port: int | None = None,
        scheduler_file: str | os.PathLike[str] | None = None,
        *,
        nthreads: int | None = None,
        name: object = None,
        memory_limit: str | float | None = "auto",
        local_directory: str | None = None,
        resources: Mapping[str, float] | None = None,
        host: str | None = None,
        port: int | str | None = None,
        contact_address: str | None = None,
        token: Token | None = None,
        insecure: bool = False,
        death_timeout: float | str | None = None,
        env: Mapping[str, str] | None = None,
        silence_logs: int | str | None = None,
        worker_class: str | type | None = None,
        memory_thresholds: MemoryThresholds | None = None,
        monitor_interval: float | None = None,
        config: Mapping[str, Any] | None = None,
        preload_nanny: Names | None = None,
        preload_nanny_argv: Arguments | None = None,
        **worker_options: Any,
    ) -> None:
        from fastdist.system.processors import processor_count

        self.id = f"Nanny-{uuid.uuid4()}"
        self.scheduler_address, worker_options = take_options(
            scheduler_ip, scheduler_port, scheduler_file, worker_options, death_timeout
        )
        self.name = name
        self.nthreads = nthreads or processor_count()
        self.memory_limit = parse_memory_limit(memory_limit, self.nthreads)
        self.token = token if token is not None or insecure else find_token()
        self.insecure = insecure
        self.env = dict(env or {})
        self.status = Status.init
        self.worker_address: str | None = None
        self.close_reason: str | None = None
        self._thresholds = memory_thresholds or MemoryThresholds.configured()
        self._monitor_interval = monitor_interval or settings.get("worker.memory.monitor-interval")
        self._worker_class = worker_class
        self._log_level = effective_log_level(silence_logs)
        self._scratch = ScratchFolder("worker", local_directory or settings.get("temporary-directory"))
        self._settings = dict(config or {})
        self.preloads = PreloadManager.configured(self, "nanny", preload_nanny, preload_nanny_argv)
        self._worker_options = {
            **{key: value for key, value in worker_options.items() if value is not None},
            "nthreads": self.nthreads,
            "name": name,
            "memory_limit": self.memory_limit or 0,
            "resources": None if resources is None else dict(resources),
            "host": host,
            "port": worker_options.get("port") if port is None else port,
            "contact_address": contact_address,
            "death_timeout": death_timeout,
        }
        self._process: ChildProcess | None = None
        self._observation: Observation | None = None
        self._channel: Channel | None = None
        self._started: asyncio.Future[str] | None = None
        self._ended: asyncio.Future[ExitStatus] | None = None
        self._finished = asyncio.Event()
        self._monitor: asyncio.TimerHandle | None = None
        #: What runs beside the supervision; cancelled when the nanny closes.
        self.background: set[asyncio.Task[Any]] = set()
        self._executor: ThreadPoolExecutor | None = None
        self._init_plugins()
        self._link = SchedulerLink(self.id, self._handlers(), self.token, insecure, self._registered)
        self._start_time = 0.0
        self._restarts = Restarts()
        self._end_reason: str | None = None
        self._executing_page: str | None = None
        self._restarting = False
        self._cut_off = False
        self._start_again = False

    # -- what it is ------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """Process id of the worker; None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def worker_dir(self) -> str:
        """Folder of the worker's temporary files."""
        return self._scratch.path

    def is_alive(self) -> bool:
        """Whether the process of the worker runs."""
        return self._process is not None

    def __repr__(self) -> str:
        return f"<Nanny: {self.worker_address or 'no worker'}, threads: {self.nthreads}, {self.status.value}>"

    # -- start and end ---------------------------------------------------------------------------------------

    def spawn(self) -> None:
        """Start the process now, on the running loop; `start` configures it later.

        The process imports what it needs meanwhile, even before the scheduler has an address.
        """
        loop = asyncio.get_running_loop()
        self._started, self._ended = loop.create_future(), loop.create_future()
        self._end_reason = self._executing_page = None
        self._start_again = False
        self._start_time = time.monotonic()
        self._process = process = launch_worker_process(self.env)
        self._observation = Observation(process, loop, self.memory_limit)
        self._channel = Channel(process.control, loop, self._on_message, lambda: None)
        process.watch(loop, self._on_exit)

    async def start(self) -> Nanny:
        """Start the worker, or configure it if its process was started by `spawn`, and wait until it runs.

        Raises
        ------
        RuntimeError
            The worker could not start; the text says why.
        """
        if self.scheduler_address is None:
            raise RuntimeError("this nanny has no scheduler address; set scheduler_address before start()")
        if self.status is Status.running:
            return self
        self.status = Status.starting
        if self._process is None:
            self.spawn()
        try:
            await self.preloads.start()
            self._open_log()
            self._configure()
            self._link.start(self.scheduler_address)
            await self._wait_until_started()
        except BaseException:
            await self.close(reason="the worker did not start")
            raise
        return self

    async def restart(self, timeout: float = 30.0, reason: str = "restart was asked for") -> str:
        """End the worker process and start another; returns `"OK"`, `"timed out"`, or why it did not start."""
        if self.status in (Status.closing, Status.closed, Status.failed):
            return f"the nanny is {self.status.value}: {self.close_reason}"
        self._restarting = True
        try:
            await self.kill(timeout=timeout, reason=reason)
            self.spawn()
            self._configure()
            await asyncio.wait_for(self._wait_until_started(), timeout)
        except (asyncio.TimeoutError, TimeoutError):
            return "timed out"
        except RuntimeError as error:
            self._in_background(self._recover(str(error), killed=False))
            return str(error)
        finally:
            self._restarting = False
        return "OK"

    async def close_gracefully(self, reason: str = "the nanny was asked to close gracefully") -> str:
        """Have the worker give its data to others, then end it for good; returns `"OK"`."""
        if self.scheduler_address is not None and self.worker_address is not None and self._link.peer is not None:
            await self._link.peer.call("retire-worker", address=self.worker_address)
        return await self.close(reason=reason)

    # -- what the scheduler asks -----------------------------------------------------------------------------

    def _handlers(self) -> dict[str, Handler]:
        own: dict[str, Handler] = {"restart": self._restart_asked, "run": self._run, "identity": self._identity}
        # The scheduler says goodbye to everybody; the worker hears it, too, and closes by itself.
        own["close"] = lambda peer, fields, buffers: None
        return {**own, **self._plugin_handlers()}

    async def _restart_asked(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        seconds = number(fields, "seconds", 0.0, default=30.0)
        return {"outcome": await self.restart(seconds, reason="the scheduler asked for a restart")}

    async def _run(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Any:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "fastdist-nanny")
        return await run_function(self, fields, buffers, self._executor)

    def _identity(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        return {"type": "Nanny", "id": self.id, "name": self.name, "pid": self.pid, "worker": self.worker_address}

    async def kill(self, timeout: float = 5.0, reason: str = "the nanny ended it") -> None:
        """End the worker process: ask it to close, then SIGTERM, then SIGKILL."""
        process, ended = self._process, self._ended
        if process is None or ended is None:
            return
        self._end_reason = self._end_reason or reason
        runs = self._started is not None and self._started.done() and self._channel is not None
        if not runs or not self._channel.send({"op": "close", "reason": reason}):  # type: ignore[union-attr]
            # It does no work yet and may be busy importing, or it does not listen any more.
            process.kill()
        for grace, escalate in ((timeout, process.terminate), (TERMINATE_GRACE, process.kill)):
            await asyncio.wait([ended], timeout=grace)
            if ended.done():
                return
            escalate()
        await asyncio.wait([ended])

    async def close(self, timeout: float = 5.0, reason: str = "the nanny was closed") -> str:
        """End the worker for good, and remove its folder; returns `"OK"`."""
        await self.preloads.teardown()
        if self.status in (Status.closing, Status.closed, Status.failed) and self._process is None:
            await self._finished.wait()
            return "OK"
        configured = self.status is not Status.init
        self.close_reason = self.close_reason or reason
        if configured:
            self.status = Status.closing
            self._link.say_goodbye()
        for task in list(self.background):
            if task is not asyncio.current_task():
                task.cancel()
        await self._tear_down_plugins()
        await self.kill(timeout, reason)
        self._finish(Status.closed)
        await self._link.stopped()
        return "OK"

    def abandon(self) -> None:
        """End the process at once, without an event loop; for the end of the interpreter."""
        process, self._process = self._process, None
        if process is not None:
            process.stop_watching()
            process.kill()
            process.reap()
            process.control.close()
            assert self._observation is not None
            self._observation.stop()
        self.status = Status.closed
        self._close_log()
        self._scratch.remove()

    async def finished(self) -> None:
        """Wait until the nanny is closed, or has given up (`status` is then `Status.failed`)."""
        await self._finished.wait()

    def __await__(self) -> Generator[Any, None, Nanny]:
        return self.start().__await__()

    async def __aenter__(self) -> Nanny:
        return await self.start()

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    # -- the process -----------------------------------------------------------------------------------------

    def _configure(self) -> None:
        assert self._channel is not None and self.scheduler_address is not None
        # Each process gets a fresh folder: it removes its own when it ends in good order.
        self._scratch.remove()
        scratch = self._scratch.path
        self._channel.send(
            worker_configuration(
                self.scheduler_address,
                token=self.token,
                insecure=self.insecure,
                nanny=self.id,
                worker_class=self._worker_class,
                scratch=scratch,
                log_level=self._log_level,
                options={**self._worker_options, "local_directory": scratch},
                settings=self._settings,
                environ=self.env,
            )
        )

    async def _wait_until_started(self) -> None:
        assert self._started is not None
        await asyncio.shield(self._started)

    def _on_message(self, message: Message) -> None:
        op = message["op"]
        if op == "started" and self._started is not None and not self._started.done():
            # At once, not when whoever waits for the start goes on: its first task may end the process before.
            self._executing_page = message.get("executing_page")
            self.worker_address = message["address"]
            if self.status is Status.starting:
                self.status = Status.running
            self._restarting = False
            self._watch_memory()
            self._started.set_result(message["address"])
        elif op == "failed":
            self._end_reason = message["error"]
        elif op == "closing":
            # The worker closes on its own account: the scheduler, a signal or its lifetime told it to.
            self._end_reason = self._end_reason or message["reason"]
            self._start_again = bool(message.get("restart")) and not self._restarting
            self._cut_off = bool(message.get("cut_off")) and not self._restarting
            if not (self._restarting or self._start_again or self._cut_off):
                self.close_reason = self.close_reason or message["reason"]
                self.status = Status.closing

    def _on_exit(self, status: ExitStatus) -> None:
        assert self._process is not None and self._channel is not None
        assert self._started is not None and self._ended is not None and self._observation is not None
        # Its last words may still be on their way.
        self._channel.drain()
        self._channel.close()
        self._process.control.close()
        if self._monitor is not None:
            self._monitor.cancel()
        observed = self._observation.end(status)
        address, self.worker_address = self.worker_address, None
        self._process = self._channel = self._observation = None
        self._ended.set_result(status)
        if not self._started.done():
            reason = self._end_reason or how_it_ended(status, observed)
            if observed["stderr"] and not self._end_reason:
                reason += f"; its last words were: {observed['stderr'][-1]}"
            self._started.set_exception(RuntimeError(f"worker {self.name!r} did not start: {reason}"))
            # Whoever waits gets it; if nobody does, this is the place where it was seen.
            self._started.exception()
        if self._restarting or self.status in (Status.init, Status.starting, Status.closed, Status.failed):
            return
        if self.status is Status.closing:
            self._finish(Status.closed)
            return
        if self._cut_off and not self._link.connected:
            # Not this worker alone: the scheduler is gone.
            self.close_reason = self.close_reason or self._end_reason
            self._finish(Status.closed)
            return
        if self._start_again or self._cut_off:
            self._cut_off = False
            reason = self._end_reason or "its lifetime is over"
            self._in_background(self._recover(reason, blameless=True, killed=False))
            return
        executing = read_executing(self._executing_page)
        reason = self._end_reason or how_it_ended(status, observed)
        logger.warning("worker %s (%s) ended unexpectedly: %s", self.name, address, reason)
        self._in_background(self._report(address, executing, reason, observed))
        self._in_background(
            self._recover(reason, blameless=bool(executing), killed=status.signal == signal.SIGKILL)
        )

    async def _recover(self, reason: str, *, blameless: bool = False, killed: bool) -> None:
        """Start the worker again, after a pause if it ends again and again, or give up."""
        while True:
            delay = self._restarts.delay(time.monotonic() - self._start_time, blameless=blameless, killed=killed)
            if delay is None:
                break
            # Until it runs again, a further end is a failed start, and counted here.
            self.status = Status.starting
            if delay:
                logger.info("worker %s is started again in %g s", self.name, delay)
            await asyncio.sleep(delay)
            self.spawn()
            self._configure()
            try:
                await self._wait_until_started()
                return
            except RuntimeError as error:
                blameless, killed, reason = False, False, str(error)
                logger.warning("%s", reason)
        logger.error(
            "worker %s ended %d times in a row within %g s of its start; giving up. Last reason: %s",
            self.name,
            self._restarts.early,
            RAPID_DEATH,
            reason,
        )
        self.close_reason = reason
        self._finish(Status.failed)

    async def _report(
        self, address: str | None, executing: list[ExecutingTask], reason: str, observed: dict[str, Any]
    ) -> None:
        assert self.scheduler_address is not None
        if address is None:
            return
        try:
            await report_exit(
                self.scheduler_address,
                token=self.token,
                insecure=self.insecure,
                peer=self._link.peer if self._link.connected else None,
                worker_address=address,
                executing=executing,
                reason=reason,
                observed=observed,
            )
        except OSError as error:
            # The scheduler notices the loss by itself; it only does not learn the reason.
            logger.warning("cannot tell the scheduler why worker %s ended: %s", address, error)

    def _watch_memory(self) -> None:
        """Kill the process if it is above the limit; look again soon."""
        if self._process is None or self.memory_limit is None or self._thresholds.terminate is None:
            return
        if self._observation is not None:
            self._observation.look()
        with contextlib.suppress(ProcessLookupError):
            used = process_memory(self._process.pid)
            if used > self._thresholds.terminate * self.memory_limit:
                self._end_reason = (
                    f"killed by the nanny: it used {used} of {self.memory_limit} bytes, "
                    f"more than {self._thresholds.terminate:.0%} of its memory limit"
                )
                self._process.kill()
                return
        loop = asyncio.get_running_loop()
        self._monitor = loop.call_later(self._monitor_interval, self._watch_memory)

    def _finish(self, status: Status) -> None:
        self.status = status
        self._close_log()
        self._link.stop()
        if self._executor is not None:
            self._executor.shutdown(wait=False)
        self._scratch.remove()
        self._finished.set()

    def _in_background(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
