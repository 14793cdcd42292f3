"""The plugins of a worker, and what they and tasks call of it: events, uploads, logs.

May import: layers L0 to L3.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import pickle
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fastdist._core.worker.inspect import listen, take_transitions
from fastdist.context import current_worker
from fastdist.errors import CommClosedError
from fastdist.logs import LogRing
from fastdist.plugins import WorkerPlugin, overrides, plugin_name
from fastdist.protocol.failures import dump_failure
from fastdist.protocol.messages import pack_message
from fastdist.rpc import fields as check
from fastdist.rpc.peer import Peer
from fastdist.status import Status
from fastdist.uploads import CodeFolder

if TYPE_CHECKING:
    from fastdist._core.worker.core import WorkerCore

logger = logging.getLogger("fastdist.worker")

#: The names that the states of the core have for plugins.
STATES = {"erred": "error", "in_flight": "flight"}

Answer = tuple[dict[str, Any], list[Any]]


class PluginCalls:
    """The part of Worker that plugins are, and that they use."""

    address: str
    scheduler: Peer
    core: WorkerCore
    if TYPE_CHECKING:

        @property
        def local_directory(self) -> str: ...

        def _tell_status(self, status: Status) -> None: ...

    def _init_plugins(self, plugins: Iterable[WorkerPlugin] | None) -> None:
        #: The plugins of this worker by name.
        self.plugins: dict[str, Any] = {}
        #: Whether a plugin wants to hear of transitions.
        self._listening = False
        self._drain_planned = False
        self._first_plugins = list(plugins or ())
        self._code: CodeFolder | None = None
        self._log_ring: LogRing | None = None

    def _plugin_handlers(self) -> dict[str, Callable[..., Any]]:
        return {"plugin-add": self._add_sent, "plugin-remove": self._remove_asked, "get-logs": self._give_lines}

    # -- coming and going --------------------------------------------------------------------------------------------

    async def _set_up_plugins(self, reply: Any) -> None:
        """Set up the plugins that came with the answer to the registration; then tasks may come."""
        self._log_ring = LogRing().__enter__()
        self._plugin_loop = asyncio.get_running_loop()
        for plugin in self._first_plugins:
            await self.plugin_add(plugin)
        if await self._add_plugins(reply):
            self._tell_status(Status.running)

    async def _add_plugins(self, reply: Any) -> bool:
        """Set up the plugins of an answer that are not set up; whether there are any in it."""
        names = check.items(reply, "plugins", str, default=[])
        for name, payload in zip(names, reply.buffers, strict=True):
            if name not in self.plugins:
                await self.plugin_add(bytes(payload), name)
        return bool(names)

    async def _tear_down_plugins(self) -> None:
        if self._listening:
            self._drain()
        for name in list(self.plugins):
            await self.plugin_remove(name)
        if self._code is not None:
            self._code.close()
        if self._log_ring is not None:
            self._log_ring.close()

    async def plugin_add(
        self, plugin: Any, name: str | None = None, catch_errors: bool = True
    ) -> dict[str, Any]:
        """Add a plugin to this worker and set it up; it takes the place of one of the same name.

        Parameters
        ----------
        plugin : WorkerPlugin
            As it is, or pickled.
        name : str, optional
            Its own name, or a new one, by default.
        catch_errors : bool
            Whether to log what its `setup` raises, instead of raising it.

        Returns
        -------
        dict
            `{"status": "OK"}`, or `{"status": "error", "exception": ...}`.
        """
        try:
            if isinstance(plugin, bytes):
                plugin = pickle.loads(plugin)
            if not isinstance(plugin, WorkerPlugin):
                raise TypeError(f"a plugin of a worker is a WorkerPlugin, not a {type(plugin).__name__}")
            name = plugin_name(plugin) if name is None else name
            if name in self.plugins:
                await self.plugin_remove(name)
            self.plugins[name] = plugin
            self._listen()
            logger.info("worker plugin %s is set up", name)
            await self._call(plugin.setup)
        except Exception as error:
            if not catch_errors:
                raise
            logger.exception("worker plugin %s could not be set up at %s", name, self.address)
            return {"status": "error", "exception": error}
        return {"status": "OK"}

    async def plugin_remove(self, name: str) -> dict[str, Any]:
        """Remove a plugin from this worker; what its `teardown` raises is logged and returned."""
        plugin = self.plugins.pop(name, None)
        if plugin is None:
            error = ValueError(f"worker {self.address} has no plugin {name!r}")
            return {"status": "error", "exception": error}
        try:
            self._listen()
            await self._call(plugin.teardown)
        except Exception as failure:
            logger.exception("worker plugin %s could not be torn down at %s", name, self.address)
            return {"status": "error", "exception": failure}
        return {"status": "OK"}

    async def _call(self, hook: Callable[..., Any]) -> None:
        context = contextvars.copy_context()
        context.run(current_worker.set, self)
        result = context.run(hook, self)
        if inspect.isawaitable(result):
            await context.run(asyncio.ensure_future, result)

    async def _add_sent(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        name = check.text(fields, "name")
        return answer_of(await self.plugin_add(bytes(buffers[0]), name))

    async def _remove_asked(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        return answer_of(await self.plugin_remove(check.text(fields, "name")))

    # -- transitions -------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        wanted = any(overrides(plugin, "transition") for plugin in self.plugins.values())
        if wanted != self._listening:
            self._listening = wanted
            listen(self.core, wanted)

    def _note_changes(self) -> None:
        """Tasks changed their states: have the plugins that listen told, soon; from any thread."""
        if self._listening and not self._drain_planned:
            self._drain_planned = True
            try:
                self._plugin_loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                # The loop is closed: nobody is left to tell.
                self._listening = False

    def _drain(self) -> None:
        self._drain_planned = False
        changes, lost = take_transitions(self.core)
        if lost:
            logger.error("%d transitions found no room; plugins do not hear of them", lost)
        plugins = [
            (name, plugin) for name, plugin in self.plugins.items() if overrides(plugin, "transition")
        ]
        for key, start, finish in changes:
            for name, plugin in plugins:
                try:
                    plugin.transition(key, STATES.get(start, start), STATES.get(finish, finish))
                except Exception:
                    logger.exception("transition of the worker plugin %r failed", name)

    # -- what plugins and tasks use ----------------------------------------------------------------------------------

    @property
    def in_process(self) -> bool:
        """Whether the scheduler lives in this very process."""
        return bool(self.scheduler.comm.in_process)

    def log_event(self, topic: str | Collection[str], msg: Any) -> None:
        """Note an event; from any thread.

        Parameters
        ----------
        topic : str or collection of str
            Where it belongs.
        msg : object
            None, numbers, texts, bytes, and lists, tuples and dicts of them.

        Raises
        ------
        TypeError
            If the message holds anything else.

        Examples
        --------
        >>> get_worker().log_event("training", {"epoch": 3})  # doctest: +SKIP
        """
        topics = [topic] if isinstance(topic, str) else list(topic)
        packed = pack_message(msg)
        try:
            self.scheduler.notify("log-event", topics=topics, buffers=[packed])
        except CommClosedError:
            logger.debug("an event of the topics %s is lost: the scheduler is gone", topics)

    def _code_folder(self) -> CodeFolder:
        if self._code is None:
            self._code = CodeFolder(self.local_directory)
        return self._code

    async def upload_file(self, filename: str, data: bytes, load: bool = True) -> dict[str, Any]:
        """Write a file where tasks can import it; see `uploads.CodeFolder.add_file`."""
        return {"status": "OK", "nbytes": self._code_folder().add_file(filename, data, load)}

    def upload_archive(self, folder: str, data: bytes, on_path: bool = False) -> None:
        """Unpack a zip archive where tasks can import it; see `uploads.CodeFolder.add_archive`."""
        self._code_folder().add_archive(folder, data, on_path)

    def get_logs(self, start: int = 0, n: int | None = None) -> list[tuple[str, str]]:
        """(level, line) of the last lines of this process' log, newest first."""
        return [] if self._log_ring is None else self._log_ring.lines(n, start)

    def _give_lines(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        n = check.whole(fields, "n", default=None)
        return {"lines": self.get_logs(check.whole(fields, "start", default=0), n)}


def answer_of(outcome: Mapping[str, Any]) -> Answer:
    """The answer to the scheduler for what became of a plugin."""
    if outcome["status"] == "error":
        return {"status": "error"}, [dump_failure(outcome["exception"])]
    return {"status": "OK"}, []
