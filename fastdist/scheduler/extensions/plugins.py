"""The plugins of the scheduler, of its workers and of its nannies.

Scheduler plugins run here, as administrative code. Worker and nanny plugins stay pickled: they are kept by name, sent
to those that are there, and given to those that come later with the answer to their registration. May import: `_core`,
`plugins`, `protocol`, `rpc`, `scheduler.membership` and the other modules of this folder.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.inspect import error_of, find
from fastdist.errors import CommClosedError, MessageError
from fastdist.plugins import SchedulerPlugin, overrides, plugin_name
from fastdist.protocol.failures import describe_failure
from fastdist.protocol.messages import unpack_message
from fastdist.rpc.fields import flag, text
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.admin import Admin
from fastdist.scheduler.extensions.events import Events
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.extensions.nannies import Nannies
from fastdist.scheduler.graph_view import read_graph
from fastdist.scheduler.membership import ClientEntry, WorkerEntry

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

#: Plugins of each kind.
MAX_PLUGINS = 1_000
MAX_NAME = 1_024

#: Seconds after which a worker gets tasks although its nanny has not set up its plugins.
NANNY_PATIENCE = 60.0

#: The names that the states of the core have for plugins.
STATES = {
    "ready": "queued",
    "no_worker": "no-worker",
    "scattering": "released",
}

Answer = tuple[dict[str, Any], list[Any]]


class PluginHost(Extension):
    """Every plugin of the cluster, and the calls of those that run here.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "plugins"

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self.plugins: dict[str, Any] = {}
        #: Pickles by name.
        self.worker_plugins: dict[str, bytes] = {}
        self.nanny_plugins: dict[str, bytes] = {}
        #: Nannies that have set up what was registered before they came.
        self._ready_nannies: set[str] = set()
        self._n_batches = 0

    def client_handlers(self) -> dict[str, Handler]:
        return {
            "register-scheduler-plugin": self.take_scheduler_plugin,
            "unregister-scheduler-plugin": self.drop_scheduler_plugin,
            "register-worker-plugin": self.take_worker_plugin,
            "unregister-worker-plugin": self.drop_worker_plugin,
            "register-nanny-plugin": self.take_nanny_plugin,
            "unregister-nanny-plugin": self.drop_nanny_plugin,
        }

    def nanny_handlers(self) -> dict[str, Handler]:
        return {"nanny-ready": self.nanny_ready}

    # -- plugins of the scheduler ------------------------------------------------------------------------------------

    async def take_scheduler_plugin(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """An administrator sends a plugin."""
        admin = cast("Admin", self.scheduler.extensions["admin"])
        admin.check(peer, "register-scheduler-plugin")
        plugin = admin.load(peer, "register-scheduler-plugin", only_buffer(buffers))
        idempotent = flag(fields, "idempotent", default=False)
        await self.start_plugin(plugin, name=text(fields, "name", MAX_NAME), idempotent=idempotent)

    async def drop_scheduler_plugin(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """An administrator takes a plugin away."""
        cast("Admin", self.scheduler.extensions["admin"]).check(peer, "unregister-scheduler-plugin")
        await self.stop_plugin(text(fields, "name", MAX_NAME))

    async def start_plugin(self, plugin: Any, name: str | None = None, idempotent: bool | None = None) -> None:
        """Start a plugin of the scheduler, and add it once it has started.

        Raises
        ------
        Exception
            What its `start` raises; it is not added then.
        """
        name = plugin_name(plugin) if name is None else name
        idempotent = bool(getattr(plugin, "idempotent", False)) if idempotent is None else idempotent
        if idempotent and name in self.plugins:
            return
        if callable(getattr(plugin, "start", None)):
            result = plugin.start(self.scheduler)
            if inspect.isawaitable(result):
                await result
        self.add(plugin, name=name, idempotent=idempotent)

    async def stop_plugin(self, name: str) -> None:
        """Remove a plugin of the scheduler and close it."""
        plugin = self.plugins.get(name)
        self.remove(name)
        await self._await("close", name, plugin)

    def add(self, plugin: Any, *, name: str | None = None, idempotent: bool = False) -> None:
        """Add a plugin that has started or needs no start.

        Raises
        ------
        TypeError
            If it is no SchedulerPlugin.
        """
        if not isinstance(plugin, SchedulerPlugin):
            raise TypeError(f"a plugin of the scheduler is a SchedulerPlugin, not a {type(plugin).__name__}")
        name = plugin_name(plugin) if name is None else name
        if name in self.plugins:
            if idempotent:
                return
            logger.warning("a scheduler plugin takes the place of the other one that is named %r", name)
        elif len(self.plugins) >= MAX_PLUGINS:
            raise ValueError(f"there are {MAX_PLUGINS} scheduler plugins already; that is the limit")
        self.plugins[name] = plugin
        self._listen()

    def remove(self, name: str) -> None:
        """Remove a plugin of the scheduler, without closing it.

        Raises
        ------
        ValueError
            If there is none of this name.
        """
        if name not in self.plugins:
            raise ValueError(f"there is no scheduler plugin {name!r}; {known(self.plugins)}")
        del self.plugins[name]
        self._listen()

    # -- calls of their hooks ----------------------------------------------------------------------------------------

    def _listening(self, hook: str) -> list[tuple[str, Any]]:
        return [(name, plugin) for name, plugin in self.plugins.items() if overrides(plugin, hook)]

    def _listen(self) -> None:
        """Have only those events told that some plugin wants to hear."""
        scheduler = self.scheduler
        wants_transitions = bool(self._listening("transition"))
        if wants_transitions != (scheduler.after_act is not None):
            scheduler.core.listen(wants_transitions)
            scheduler.after_act = self._tell_transitions if wants_transitions else None
        scheduler.graph_listener = self._tell_graph if self._listening("update_graph") else None
        events = cast("Events", scheduler.extensions["events"])
        events.listener = self._tell_event if self._listening("log_event") else None

    def _tell(self, hook: str, *args: Any, **kwargs: Any) -> None:
        for name, plugin in self._listening(hook):
            try:
                result = getattr(plugin, hook)(*args, **kwargs)
            except Exception:
                logger.exception("%s of the scheduler plugin %r failed", hook, name)
                continue
            if inspect.isawaitable(result):
                self.scheduler.in_background(self._finish(hook, name, result))

    async def _finish(self, hook: str, name: str, result: Any) -> None:
        try:
            await result
        except Exception:
            logger.exception("%s of the scheduler plugin %r failed", hook, name)

    async def _await(self, hook: str, name: str, plugin: Any) -> None:
        try:
            result = getattr(plugin, hook)()
            if inspect.isawaitable(result):
                await result
        except Exception:
            logger.exception("%s of the scheduler plugin %r failed", hook, name)

    def _tell_transitions(self) -> None:
        changes, lost = self.scheduler.core.take_transitions()
        if lost:
            logger.error("%d transitions of one batch found no room; plugins do not hear of them", lost)
        if not changes:
            return
        self._n_batches += 1
        stimulus = f"batch-{self._n_batches}"
        now = time.time()
        workers = self.scheduler.members.workers
        plugins = self._listening("transition")
        for key, start, finish, number, nbytes, type_name, seconds in changes:
            start, finish = STATES.get(start, start), STATES.get(finish, finish)
            if start == finish:
                continue
            details: dict[str, Any] = {}
            if number is not None:
                # One that has left already is known to the core only.
                entry, core = workers.get(number), self.scheduler.core
                details["worker"] = core.worker_view(number)["address"] if entry is None else entry.address
            if finish == "memory":
                details.update(nbytes=nbytes, typename=type_name)
                if start == "processing":
                    compute = {"action": "compute", "start": now - seconds, "stop": now}
                    details.update(startstops=(compute,), status="OK")
            elif finish == "erred":
                details.update(status="error", **self._failure(key))
            for name, plugin in plugins:
                try:
                    plugin.transition(key, start, finish, stimulus_id=stimulus, **details)
                except Exception:
                    logger.exception("transition of the scheduler plugin %r failed", name)

    def _failure(self, key: Any) -> dict[str, Any]:
        """What went wrong with a task: the failure as `load_failure` takes it, and as text."""
        model = self.scheduler.core.model
        task = find(model, encode_key(key))
        payload = None if task is None else error_of(model, task)
        if not payload:
            # It was retried, or forgotten, in the same batch.
            return {}
        text_of_it, printed = describe_failure(payload)
        return {"exception": payload, "exception_text": text_of_it, "traceback_text": printed}

    def _tell_graph(self, entry: ClientEntry, body: memoryview) -> None:
        self._n_batches += 1
        tasks, wanted, annotations, priority = read_graph(body)
        self._tell(
            "update_graph",
            self.scheduler,
            client=entry.name,
            keys=wanted,
            tasks=tasks,
            annotations=annotations,
            priority=priority,
            stimulus_id=f"update-graph-{self._n_batches}",
        )

    def _tell_event(self, topic: str, packed: bytes) -> None:
        self._tell("log_event", topic, unpack_message(packed))

    def restarted(self) -> None:
        """The workers are started anew: tell the plugins."""
        self._tell("restart", self.scheduler)

    def valid_workers_downscaling(self, workers: list[Any]) -> list[Any]:
        """Those of the workers that every plugin allows to be closed."""
        for name, plugin in self._listening("valid_workers_downscaling"):
            try:
                workers = list(plugin.valid_workers_downscaling(self.scheduler, list(workers)))
            except Exception:
                logger.exception("valid_workers_downscaling of the scheduler plugin %r failed", name)
        return workers

    def client_came(self, entry: ClientEntry) -> None:
        self._tell("add_client", self.scheduler, entry.name)

    def client_gone(self, entry: ClientEntry) -> None:
        self._tell("remove_client", self.scheduler, entry.name)

    def worker_came(self, entry: WorkerEntry) -> None:
        self._tell("add_worker", self.scheduler, entry.address)

    def worker_gone(self, entry: WorkerEntry, why: str) -> None:
        self._tell("remove_worker", self.scheduler, entry.address, stimulus_id=f"remove-worker-{entry.number}")

    async def close(self) -> None:
        for name, plugin in list(self.plugins.items()):
            await self._await("before_close", name, plugin)

    async def closed(self) -> None:
        for name, plugin in list(self.plugins.items()):
            await self._await("close", name, plugin)

    # -- plugins of workers ------------------------------------------------------------------------------------------

    async def take_worker_plugin(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Give every worker, now and later, a plugin; with the outcome at each that is there."""
        name, payload = text(fields, "name", MAX_NAME), bytes(only_buffer(buffers))
        if flag(fields, "idempotent", default=False) and name in self.worker_plugins:
            return {"results": []}, []
        keep(self.worker_plugins, name, payload)
        self.write_down(["worker", name, payload])
        return await self._everywhere(self._workers(), "plugin-add", name, [payload])

    async def drop_worker_plugin(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Take a plugin away from every worker."""
        name = text(fields, "name", MAX_NAME)
        if name not in self.worker_plugins:
            raise ValueError(f"there is no worker plugin {name!r}; {known(self.worker_plugins)}")
        del self.worker_plugins[name]
        self.write_down(["worker", name, None])
        return await self._everywhere(self._workers(), "plugin-remove", name, [])

    def _workers(self) -> dict[str, Peer]:
        return {entry.address: entry.peer for entry in self.scheduler.members}

    async def _everywhere(self, peers: dict[str, Peer], op: str, name: str, payloads: list[bytes]) -> Answer:
        calls = [peer.call(op, buffers=payloads, name=name) for peer in peers.values()]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        results: list[list[Any]] = []
        failures: list[Any] = []
        for address, answer in zip(peers, answers, strict=True):
            if isinstance(answer, CommClosedError):
                # Who is gone has no plugins; if it comes back, it gets them then.
                results.append([address, "lost", str(answer)])
            elif isinstance(answer, BaseException):
                raise answer
            elif answer["status"] == "OK":
                results.append([address, "OK", None])
            else:
                results.append([address, "error", len(failures)])
                failures.append(answer.buffers[0])
        return {"results": results}, failures

    def welcome_worker(self, entry: WorkerEntry, reply: dict[str, Any], buffers: list[Any]) -> None:
        """Send the plugins along; until they are set up, the worker gets no tasks."""
        if self.worker_plugins:
            reply["plugins"] = list(self.worker_plugins)
            buffers.extend(self.worker_plugins.values())
            self._hold(entry)
        elif self.nanny_plugins and entry.nanny is not None and entry.nanny not in self._ready_nannies:
            self._hold(entry)
            loop = asyncio.get_running_loop()
            loop.call_later(NANNY_PATIENCE, self._let_go, entry, f"its nanny was not ready after {NANNY_PATIENCE:g} s")

    def _hold(self, entry: WorkerEntry) -> None:
        """Give a worker no tasks yet."""
        entry.status = "init"
        self.scheduler.core.on_worker_status(entry.number, False)

    def _let_go(self, entry: WorkerEntry, why: str | None = None) -> None:
        if entry.status != "init" or self.scheduler.members.workers.get(entry.number) is not entry:
            return
        if why is not None:
            logger.warning("the worker at %s gets tasks although %s", entry.address, why)
        entry.status = "running"
        self.scheduler.core.on_worker_status(entry.number, entry.takes_work)
        self.scheduler.wake()

    def apply_fact(self, change: Any) -> None:
        """Keep a plugin for workers or nannies that come, or keep it no more."""
        kind, name, payload = change
        plugins = self.worker_plugins if kind == "worker" else self.nanny_plugins
        if payload is None:
            plugins.pop(name, None)
        else:
            keep(plugins, name, payload)

    def facts(self) -> Iterator[Any]:
        """One change for each plugin of workers and of nannies; those of the scheduler are its process's own."""
        for kind, plugins in (("worker", self.worker_plugins), ("nanny", self.nanny_plugins)):
            yield from ([kind, name, payload] for name, payload in plugins.items())

    # -- plugins of nannies ------------------------------------------------------------------------------------------

    async def take_nanny_plugin(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Give every nanny, now and later, a plugin; with the outcome at each that is there."""
        name, payload = text(fields, "name", MAX_NAME), bytes(only_buffer(buffers))
        if flag(fields, "idempotent", default=False) and name in self.nanny_plugins:
            return {"results": []}, []
        keep(self.nanny_plugins, name, payload)
        self.write_down(["nanny", name, payload])
        return await self._everywhere(self._nannies(), "plugin-add", name, [payload])

    async def drop_nanny_plugin(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        """Take a plugin away from every nanny."""
        name = text(fields, "name", MAX_NAME)
        if name not in self.nanny_plugins:
            raise ValueError(f"there is no nanny plugin {name!r}; {known(self.nanny_plugins)}")
        del self.nanny_plugins[name]
        self.write_down(["nanny", name, None])
        return await self._everywhere(self._nannies(), "plugin-remove", name, [])

    def _nannies(self) -> dict[str, Peer]:
        """The nannies by the addresses of their workers; one without a worker by its own name."""
        workers = {entry.nanny: entry.address for entry in self.scheduler.members if entry.nanny is not None}
        connected = cast("Nannies", self.scheduler.extensions["nannies"]).connected()
        self._ready_nannies |= set(connected)
        return {workers.get(name, name): peer for name, peer in connected.items()}

    def welcome_nanny(self, name: str, reply: dict[str, Any], buffers: list[Any]) -> None:
        """Send the plugins along."""
        if self.nanny_plugins:
            reply["plugins"] = list(self.nanny_plugins)
            buffers.extend(self.nanny_plugins.values())
            self._ready_nannies.discard(name)
        else:
            self._ready_nannies.add(name)

    def nanny_ready(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """A nanny has set up its plugins: its worker may have tasks."""
        name = text(fields, "nanny", MAX_NAME)
        self._ready_nannies.add(name)
        for entry in self.scheduler.members:
            if entry.nanny == name and not self.worker_plugins:
                self._let_go(entry)


def keep(plugins: dict[str, bytes], name: str, payload: bytes) -> None:
    """Put a pickle under its name; the newest is the last."""
    if name not in plugins and len(plugins) >= MAX_PLUGINS:
        raise ValueError(f"there are {MAX_PLUGINS} plugins of this kind already; that is the limit")
    plugins.pop(name, None)
    plugins[name] = payload


def only_buffer(buffers: list[Any]) -> Any:
    """The one payload of a message."""
    if len(buffers) != 1:
        raise MessageError(f"a plugin comes as one payload, not {len(buffers)}")
    return buffers[0]


def known(plugins: dict[str, Any]) -> str:
    """A part of an error: which plugins there are."""
    return f"there are {', '.join(sorted(plugins))}" if plugins else "there are none"
