"""The supervisor of one worker process.

It starts the process, waits for its end without signal handlers, tells the scheduler why it ended, and
starts it again. It holds no task state: what a dead process was executing is read from a page of memory that
outlives it.

May import: `fastdist.system`, `fastdist.comm`, `fastdist.nanny`, `fastdist.worker.memory`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Generator, Mapping
from typing import Any

from fastdist import config
from fastdist.comm.token import Token, find_token
from fastdist.nanny.launch import effective_log_level, launch_worker_process, worker_configuration
from fastdist.nanny.report import ExecutingTask, read_executing, report_exit
from fastdist.status import Status
from fastdist.system.channel import Channel, Message
from fastdist.system.memory import process_memory
from fastdist.system.processes import ChildProcess, ExitStatus
from fastdist.system.scratch import ScratchFolder
from fastdist.worker.memory import MemoryThresholds, parse_memory_limit

logger = logging.getLogger("fastdist.nanny")

#: A process that ends sooner than this after its start, with no task to blame, counts as a failed start.
RAPID_DEATH = 2.0
#: This many failed starts in a row, and the nanny gives up.
MAX_RAPID_DEATHS = 5
#: Seconds before the next start after the first, second, ... failed one; the last holds for all later ones.
RESTART_DELAYS = (0.0, 0.1, 0.5, 1.0, 2.0)
#: Seconds between SIGTERM and SIGKILL for a process that does not close when it is asked to.
TERMINATE_GRACE = 0.5


class Nanny:
    """Runs a worker in a process of its own and keeps it running.

    Parameters
    ----------
    scheduler_address:
        Address of the scheduler; None if it is set later, before `start`.
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

    def __init__(
        self,
        scheduler_address: str | None = None,
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
        **worker_options: Any,
    ) -> None:
        from fastdist.system.processors import processor_count

        self.scheduler_address = scheduler_address
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
        self._monitor_interval = (
            config.get("worker.memory.monitor-interval") if monitor_interval is None else monitor_interval
        )
        self._worker_class = worker_class
        self._log_level = effective_log_level(silence_logs)
        self._scratch = ScratchFolder("worker", local_directory)
        self._worker_options = {
            **{key: value for key, value in worker_options.items() if value is not None},
            "nthreads": self.nthreads,
            "name": name,
            "memory_limit": self.memory_limit or 0,
            "resources": dict(resources or {}),
            "host": host,
            "port": port,
            "contact_address": contact_address,
            "death_timeout": death_timeout,
        }
        self._process: ChildProcess | None = None
        self._channel: Channel | None = None
        self._started: asyncio.Future[str] | None = None
        self._ended: asyncio.Future[ExitStatus] | None = None
        self._finished = asyncio.Event()
        self._monitor: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._start_time = 0.0
        self._rapid_deaths = 0
        self._end_reason: str | None = None
        self._executing_page: str | None = None
        self._restarting = False

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
        self._start_time = time.monotonic()
        self._process = process = launch_worker_process(self.env)
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
            self._configure()
            await self._wait_until_started()
        except BaseException:
            await self.close(reason="the worker did not start")
            raise
        return self

    async def restart(self, timeout: float = 30.0, reason: str = "restart was asked for") -> str:
        """End the worker process and start another; returns `"OK"` or `"timed out"`."""
        self._restarting = True
        try:
            await self.kill(timeout=timeout, reason=reason)
            self.spawn()
            self._configure()
            await asyncio.wait_for(self._wait_until_started(), timeout)
        except (asyncio.TimeoutError, TimeoutError):
            return "timed out"
        finally:
            self._restarting = False
        return "OK"

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
        if self.status in (Status.closing, Status.closed, Status.failed) and self._process is None:
            await self._finished.wait()
            return "OK"
        configured = self.status is not Status.init
        self.close_reason = self.close_reason or reason
        if configured:
            self.status = Status.closing
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        await self.kill(timeout, reason)
        self._finish(Status.closed)
        return "OK"

    def abandon(self) -> None:
        """End the process at once, without an event loop; for the end of the interpreter."""
        process, self._process = self._process, None
        if process is not None:
            process.stop_watching()
            process.kill()
            process.reap()
            process.control.close()
        self.status = Status.closed
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
                nanny=f"nanny-{id(self):x}",
                worker_class=self._worker_class,
                scratch=scratch,
                log_level=self._log_level,
                options={**self._worker_options, "local_directory": scratch},
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
            if not self._restarting:
                self.close_reason = self.close_reason or message["reason"]
                self.status = Status.closing

    def _on_exit(self, status: ExitStatus) -> None:
        assert self._process is not None and self._channel is not None
        assert self._started is not None and self._ended is not None
        # Its last words may still be on their way.
        self._channel.drain()
        self._channel.close()
        self._process.control.close()
        if self._monitor is not None:
            self._monitor.cancel()
        address, self.worker_address = self.worker_address, None
        self._process = self._channel = None
        self._ended.set_result(status)
        if not self._started.done():
            reason = self._end_reason or f"its process ended with {status}"
            self._started.set_exception(RuntimeError(f"worker {self.name!r} did not start: {reason}"))
            # Whoever waits gets it; if nobody does, this is the place where it was seen.
            self._started.exception()
        if self._restarting or self.status in (Status.init, Status.starting, Status.closed, Status.failed):
            return
        if self.status is Status.closing:
            self._finish(Status.closed)
            return
        executing = read_executing(self._executing_page)
        reason = self._end_reason or f"its process ended with {status}"
        logger.warning("worker %s (%s) ended unexpectedly: %s", self.name, address, reason)
        self._in_background(self._report(status, address, executing, reason))
        # Nobody can tell who sends SIGKILL, but it is not the worker that fails to start.
        self._in_background(self._recover(bool(executing) or status.signal == signal.SIGKILL, reason))

    async def _recover(self, was_killed: bool, reason: str) -> None:
        """Start the worker again, or give up; a death that a task or a signal caused is no reason to."""
        while (delay := self._delay_before_restart(was_killed)) is not None:
            # Until it runs again, a further end is a failed start, and counted here.
            self.status = Status.starting
            await asyncio.sleep(delay)
            self.spawn()
            self._configure()
            try:
                await self._wait_until_started()
                return
            except RuntimeError as error:
                was_killed, reason = False, str(error)
                logger.warning("%s", reason)
        logger.error(
            "worker %s ended %d times in a row within %g s of its start; giving up. Last reason: %s",
            self.name,
            MAX_RAPID_DEATHS,
            RAPID_DEATH,
            reason,
        )
        self.close_reason = reason
        self._finish(Status.failed)

    def _delay_before_restart(self, was_killed: bool) -> float | None:
        """Seconds until the next start; None to give up."""
        if was_killed or time.monotonic() - self._start_time > RAPID_DEATH:
            self._rapid_deaths = 0
            return 0.0
        self._rapid_deaths += 1
        if self._rapid_deaths >= MAX_RAPID_DEATHS:
            return None
        return RESTART_DELAYS[min(self._rapid_deaths - 1, len(RESTART_DELAYS) - 1)]

    async def _report(
        self, status: ExitStatus, address: str | None, executing: list[ExecutingTask], reason: str
    ) -> None:
        assert self.scheduler_address is not None
        if address is None:
            return
        try:
            await report_exit(
                self.scheduler_address,
                token=self.token,
                insecure=self.insecure,
                worker_address=address,
                status=status,
                executing=executing,
                reason=reason,
            )
        except OSError as error:
            # The scheduler notices the loss by itself; it only does not learn the reason.
            logger.warning("cannot tell the scheduler why worker %s ended: %s", address, error)

    def _watch_memory(self) -> None:
        """Kill the process if it is above the limit; look again soon."""
        if self._process is None or self.memory_limit is None or self._thresholds.terminate is None:
            return
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
        self._scratch.remove()
        self._finished.set()

    def _in_background(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
