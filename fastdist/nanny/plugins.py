"""The plugins of a nanny, and what they use of it. May import: layers L0 to L3."""

from __future__ import annotations

import asyncio
import inspect
import logging
import pickle
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from fastdist.errors import CommClosedError
from fastdist.logs import LogRing
from fastdist.plugins import NannyPlugin, plugin_name
from fastdist.protocol.failures import dump_failure
from fastdist.protocol.messages import pack_message
from fastdist.rpc import fields as check
from fastdist.rpc.peer import Peer, Reply

if TYPE_CHECKING:
    from fastdist.nanny.link import SchedulerLink

logger = logging.getLogger("fastdist.nanny")

Answer = tuple[dict[str, Any], list[Any]]


class PluginCalls:
    """The part of Nanny that plugins are, and that they use."""

    id: str
    _link: SchedulerLink
    if TYPE_CHECKING:

        async def restart(self, timeout: float = 30.0, reason: str = "") -> str: ...

        async def _wait_until_started(self) -> None: ...

    def _init_plugins(self) -> None:
        #: The plugins of this nanny by name.
        self.plugins: dict[str, Any] = {}
        #: What came from the scheduler, to know it again after a broken connection.
        self._sent_plugins: dict[str, bytes] = {}
        self._log_ring: LogRing | None = None

    def _plugin_handlers(self) -> dict[str, Callable[..., Any]]:
        return {"plugin-add": self._add_sent, "plugin-remove": self._remove_asked, "get-logs": self._give_lines}

    def _open_log(self) -> None:
        if self._log_ring is None:
            self._log_ring = LogRing().__enter__()

    def _close_log(self) -> None:
        if self._log_ring is not None:
            self._log_ring.close()
            self._log_ring = None

    async def _tear_down_plugins(self) -> None:
        for name in list(self.plugins):
            await self.plugin_remove(name)

    async def _registered(self, reply: Reply) -> None:
        """The scheduler knows this nanny (again): have the plugins that it sent, and no others of its."""
        names = check.items(reply, "plugins", str, default=[])
        sent = {name: bytes(payload) for name, payload in zip(names, reply.buffers, strict=True)}
        for name in [name for name in self._sent_plugins if name not in sent]:
            del self._sent_plugins[name]
            await self.plugin_remove(name)
        restarts = False
        for name, payload in sent.items():
            if self._sent_plugins.get(name) != payload:
                self._sent_plugins[name] = payload
                outcome = await self._set_up(payload, name)
                restarts = restarts or (outcome["status"] == "OK" and self.plugins[name].restart)
        if restarts:
            await self._restart_for("plugins that were registered before it came")
        if names and self._link.peer is not None:
            self._link.peer.notify("nanny-ready", nanny=self.id)

    async def plugin_add(self, plugin: Any, name: str | None = None) -> dict[str, Any]:
        """Add a plugin to this nanny, set it up, and start the worker anew if the plugin asks for that.

        Parameters
        ----------
        plugin : NannyPlugin
            As it is, or pickled.
        name : str, optional
            Its own name, or a new one, by default.

        Returns
        -------
        dict
            `{"status": "OK"}`, or `{"status": "error", "exception": ...}`.
        """
        outcome = await self._set_up(plugin, name)
        if outcome["status"] == "OK" and self.plugins[outcome["name"]].restart:
            await self._restart_for(f"the plugin {outcome['name']}")
        return outcome

    async def _set_up(self, plugin: Any, name: str | None) -> dict[str, Any]:
        try:
            if isinstance(plugin, bytes):
                plugin = pickle.loads(plugin)
            if not isinstance(plugin, NannyPlugin):
                raise TypeError(f"a plugin of a nanny is a NannyPlugin, not a {type(plugin).__name__}")
            name = plugin_name(plugin) if name is None else name
            if name in self.plugins:
                await self.plugin_remove(name)
            self.plugins[name] = plugin
            logger.info("nanny plugin %s is set up", name)
            await _call(plugin.setup, self)
        except Exception as error:
            logger.exception("nanny plugin %s could not be set up", name)
            return {"status": "error", "exception": error}
        return {"status": "OK", "name": name}

    async def plugin_remove(self, name: str) -> dict[str, Any]:
        """Remove a plugin from this nanny; what its `teardown` raises is logged and returned."""
        plugin = self.plugins.pop(name, None)
        if plugin is None:
            return {"status": "error", "exception": ValueError(f"this nanny has no plugin {name!r}")}
        try:
            await _call(plugin.teardown, self)
        except Exception as error:
            logger.exception("nanny plugin %s could not be torn down", name)
            return {"status": "error", "exception": error}
        return {"status": "OK"}

    async def _restart_for(self, reason: str) -> None:
        await self._wait_until_started()
        outcome = await self.restart(reason=f"restarted for {reason}")
        if outcome != "OK":
            logger.error("the worker was not restarted for %s: %s", reason, outcome)

    async def _add_sent(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        name, payload = check.text(fields, "name"), bytes(buffers[0])
        self._sent_plugins[name] = payload
        return _answer_of(await self.plugin_add(payload, name))

    async def _remove_asked(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Answer:
        name = check.text(fields, "name")
        self._sent_plugins.pop(name, None)
        return _answer_of(await self.plugin_remove(name))

    # -- what plugins use --------------------------------------------------------------------------------------------

    def log_event(self, topic: str | Collection[str], msg: Any) -> None:
        """Note an event; parameters as of `Client.log_event`."""
        topics = [topic] if isinstance(topic, str) else list(topic)
        packed = pack_message(msg)
        try:
            if self._link.peer is None:
                raise CommClosedError("the nanny is not connected")
            self._link.peer.notify("log-event", topics=topics, buffers=[packed])
        except CommClosedError as error:
            logger.warning("an event of the topics %s is lost: %s", topics, error)

    def get_logs(self, start: int = 0, n: int | None = None) -> list[tuple[str, str]]:
        """(level, line) of the last lines of this process' log, newest first."""
        return [] if self._log_ring is None else self._log_ring.lines(n, start)

    def _give_lines(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        n = check.whole(fields, "n", default=None)
        return {"lines": self.get_logs(check.whole(fields, "start", default=0), n)}


async def _call(hook: Callable[..., Any], nanny: Any) -> None:
    result = hook(nanny)
    if inspect.isawaitable(result):
        await asyncio.ensure_future(result)


def _answer_of(outcome: Mapping[str, Any]) -> Answer:
    if outcome["status"] == "error":
        return {"status": "error"}, [dump_failure(outcome["exception"])]
    return {"status": "OK"}, []
