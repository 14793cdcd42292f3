"""The methods of Scheduler that plugins and administrative code call: plugins, events, uploads, asking all workers.

May import: the layers below and the other modules of this folder.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, cast

from fastdist.errors import CommClosedError
from fastdist.protocol import pickling
from fastdist.protocol.failures import load_failure
from fastdist.scheduler.membership import ClientEntry, WorkerEntry
from fastdist.uploads import CodeFolder

if TYPE_CHECKING:
    from fastdist.rpc.peer import Peer
    from fastdist.scheduler.client_handlers import ClientHandlers
    from fastdist.scheduler.extensions.events import Events
    from fastdist.scheduler.extensions.extension import Extension
    from fastdist.scheduler.extensions.nannies import Nannies
    from fastdist.scheduler.extensions.plugins import PluginHost

logger = logging.getLogger("fastdist.scheduler")

Responses = dict[str, dict[str, Any]]


class PluginCalls:
    """The part of Scheduler that plugins use."""

    extensions: dict[str, Extension]
    _clients: ClientHandlers
    if TYPE_CHECKING:

        @property
        def local_directory(self) -> str: ...

    def _init_plugins(self, plugins: Iterable[Any], admin_code: bool) -> None:
        #: Whether clients may bring code for this process.
        self.admin_code = admin_code
        #: Called after each batch; set while a plugin wants to hear of transitions.
        self.after_act: Callable[[], None] | None = None
        #: Called with each client and TASKS frame; set while a plugin wants to hear of graphs.
        self.graph_listener: Callable[[ClientEntry, memoryview], None] | None = None
        self._first_plugins = list(plugins)
        self._background: set[asyncio.Task[Any]] = set()
        self._code: CodeFolder | None = None

    async def _start_plugins(self) -> None:
        for plugin in self._first_plugins:
            await self.register_scheduler_plugin(plugin)

    def in_background(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine beside everything else; it ends with the scheduler at the latest."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a background task of the scheduler failed", exc_info=task.exception())

    async def _end_background(self) -> None:
        running = [task for task in self._background if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        if self._code is not None:
            self._code.close()

    def client_of(self, peer: Peer) -> ClientEntry:
        """The registered client behind a connection.

        Raises
        ------
        PermissionError
            If it has not registered.
        """
        return self._clients.entry(peer)

    # -- plugins -----------------------------------------------------------------------------------------------------

    @property
    def _host(self) -> PluginHost:
        return cast("PluginHost", self.extensions["plugins"])

    @property
    def plugins(self) -> dict[str, Any]:
        """The plugins of the scheduler by name."""
        return self._host.plugins

    @property
    def worker_plugins(self) -> dict[str, bytes]:
        """The pickled plugins of the workers by name."""
        return self._host.worker_plugins

    @property
    def nanny_plugins(self) -> dict[str, bytes]:
        """The pickled plugins of the nannies by name."""
        return self._host.nanny_plugins

    def add_plugin(self, plugin: Any, *, idempotent: bool = False, name: str | None = None) -> None:
        """Add a plugin to this scheduler without calling its `start`.

        Parameters
        ----------
        plugin : SchedulerPlugin
        idempotent : bool
            Do nothing if the name is taken; else the plugin takes the other's place.
        name : str, optional
            Its own name, or a new one, by default.
        """
        self._host.add(plugin, name=name, idempotent=idempotent)

    def remove_plugin(self, name: str | None = None) -> None:
        """Remove a plugin of this scheduler without calling its `close`.

        Raises
        ------
        ValueError
            If there is none of this name.
        """
        if name is None:
            raise ValueError("remove_plugin needs the name of the plugin")
        self._host.remove(name)

    async def register_scheduler_plugin(
        self, plugin: Any, name: str | None = None, *, idempotent: bool | None = None
    ) -> None:
        """Start a plugin, given as it is or pickled, and add it to this scheduler."""
        if isinstance(plugin, bytes):
            import pickle

            plugin = pickle.loads(plugin)
        await self._host.start_plugin(plugin, name, idempotent)

    async def unregister_scheduler_plugin(self, name: str) -> None:
        """Remove a plugin of this scheduler and close it; ValueError if there is none of this name."""
        await self._host.stop_plugin(name)

    async def register_worker_plugin(
        self, comm: None, plugin: bytes, name: str, idempotent: bool = False
    ) -> Responses:
        """Give every worker, now and later, a pickled plugin.

        Parameters
        ----------
        comm : None
            For compatibility.
        plugin : bytes
            What `dump_plugin` made.

        Returns
        -------
        dict
            By worker address `{"status": "OK"}`, or `{"status": "error", "exception": ...}`.
        """
        fields = {"name": name, "idempotent": idempotent}
        return responses(*await self._host.take_worker_plugin(cast("Peer", comm), fields, [plugin]))

    async def unregister_worker_plugin(self, comm: None, name: str) -> Responses:
        """Take a plugin away from every worker; ValueError if there is none of this name."""
        return responses(*await self._host.drop_worker_plugin(cast("Peer", comm), {"name": name}, []))

    async def register_nanny_plugin(
        self, comm: None, plugin: bytes, name: str, idempotent: bool = False
    ) -> Responses:
        """Give every nanny, now and later, a pickled plugin; as `register_worker_plugin`."""
        fields = {"name": name, "idempotent": idempotent}
        return responses(*await self._host.take_nanny_plugin(cast("Peer", comm), fields, [plugin]))

    async def unregister_nanny_plugin(self, comm: None, name: str) -> Responses:
        """Take a plugin away from every nanny; ValueError if there is none of this name."""
        return responses(*await self._host.drop_nanny_plugin(cast("Peer", comm), {"name": name}, []))

    @staticmethod
    def dump_plugin(plugin: Any) -> bytes:
        """The pickle of a plugin, as `register_worker_plugin` takes it."""
        return pickling.dumps(plugin, {"plugin": plugin})

    # -- events and files --------------------------------------------------------------------------------------------

    def log_event(self, topic: str | Collection[str], msg: Any) -> None:
        """Note an event; parameters as of `Client.log_event`."""
        cast("Events", self.extensions["events"]).log_event(topic, msg)

    def get_events(self, topic: str | None = None) -> Any:
        """The events of a topic, or of all by topic; as of `Client.get_events`."""
        return cast("Events", self.extensions["events"]).get_events(topic)

    def _code_folder(self) -> CodeFolder:
        if self._code is None:
            self._code = CodeFolder(self.local_directory)
        return self._code

    async def upload_file(self, filename: str, data: bytes, load: bool = True) -> dict[str, Any]:
        """Write a file where this process can import it; see `uploads.CodeFolder.add_file`."""
        return {"status": "OK", "nbytes": self._code_folder().add_file(filename, data, load)}

    def upload_archive(self, folder: str, data: bytes, on_path: bool = False) -> None:
        """Unpack a zip archive where this process can import it; see `uploads.CodeFolder.add_archive`."""
        self._code_folder().add_archive(folder, data, on_path)

    # -- workers -----------------------------------------------------------------------------------------------------

    async def broadcast_op(
        self, entries: Iterable[WorkerEntry], op: str, *, nanny: bool = False, buffers: Any = (), **fields: Any
    ) -> list[tuple[WorkerEntry, Any]]:
        """Ask workers, or their nannies, the same; with what each answered, or the error.

        A worker that is lost meanwhile gives a CommClosedError.
        """
        chosen = list(entries)
        nannies = cast("Nannies", self.extensions["nannies"])

        async def call(entry: WorkerEntry) -> Any:
            peer = nannies.peer_of(entry) if nanny else entry.peer
            return await peer.call(op, buffers=buffers, **fields)

        answers = await asyncio.gather(*map(call, chosen), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, CommClosedError):
                raise answer
        return list(zip(chosen, answers, strict=True))


def responses(answer: dict[str, Any], failures: list[Any]) -> Responses:
    """What workers answered to a plugin, by address."""
    found: Responses = {}
    for address, status, detail in answer["results"]:
        if status == "OK":
            found[address] = {"status": "OK"}
        elif status == "error":
            found[address] = {"status": "error", "exception": load_failure(failures[detail])}
    return found
