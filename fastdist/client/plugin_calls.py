"""The calls of Client about plugins, uploads, forwarded logs, and functions run in the scheduler.

May import: what the client may.
"""

from __future__ import annotations

import inspect
import logging
import os
import uuid
from collections.abc import Callable
from typing import Any

from fastdist.builtin_plugins import ForwardLoggingPlugin, SchedulerUploadFile, UploadFile
from fastdist.client.event_calls import Event, EventCalls
from fastdist.plugins import (
    NannyPlugin,
    SchedulerPlugin,
    WorkerPlugin,
    check_plugin,
    plugin_name,
)
from fastdist.protocol import pickling, results
from fastdist.protocol.arguments import serialize_arguments
from fastdist.protocol.failures import load_failure
from fastdist.protocol.functions import FunctionCache

logger = logging.getLogger("fastdist.client")


class PluginCalls(EventCalls):
    """The part of Client that brings code which is no task."""

    # -- plugins ---------------------------------------------------------------------------------------------

    def register_plugin(
        self, plugin: NannyPlugin | SchedulerPlugin | WorkerPlugin, name: str | None = None
    ) -> Any:
        """Add a plugin to the scheduler, or to all workers or nannies, those that come later included.

        Parameters
        ----------
        plugin : SchedulerPlugin, WorkerPlugin or NannyPlugin
            An instance; it is pickled.
        name : str, optional
            The name to register under: by default the attribute `name` of the plugin, or a new one. A plugin of
            that name is replaced, unless the new one is `idempotent`.

        Returns
        -------
        dict or None
            For plugins of workers and nannies, `{"status": "OK"}` by address.

        Raises
        ------
        TypeError
            If it is no instance of one of these classes.
        PermissionError
            If the scheduler takes no code (`--no-admin-code`).
        Exception
            What its `start` or `setup` raises.

        Examples
        --------
        >>> class Model(WorkerPlugin):
        ...     def setup(self, worker):
        ...         worker.model = 42
        >>> client.register_plugin(Model())  # doctest: +SKIP
        {'tcp://127.0.0.1:40001': {'status': 'OK'}}
        """
        check_plugin(plugin)
        name = plugin_name(plugin) if name is None else name
        payload = pickling.dumps(plugin, {"plugin": plugin})
        kind = "scheduler" if isinstance(plugin, SchedulerPlugin) else "worker"
        if isinstance(plugin, NannyPlugin):
            kind = "nanny"
        return self._ask(self._register, f"register-{kind}-plugin", name, payload, bool(plugin.idempotent))

    async def _register(self, op: str, name: str, payload: bytes, idempotent: bool) -> Any:
        reply = await self._connection.call(op, name=name, idempotent=idempotent, buffers=[payload])
        return None if op == "register-scheduler-plugin" else _outcomes(reply)

    def unregister_scheduler_plugin(self, name: str) -> Any:
        """Close a plugin of the scheduler, and remove it.

        Raises
        ------
        ValueError
            If there is none of this name.
        """
        return self._ask(self._unregister, "unregister-scheduler-plugin", name)

    def unregister_worker_plugin(self, name: str, nanny: bool | None = None) -> Any:
        """Tear a plugin of all workers down, and remove it.

        Parameters
        ----------
        name : str
            The name under which it was registered.
        nanny : bool, optional
            Whether it is a plugin of the nannies.

        Returns
        -------
        dict
            `{"status": "OK"}` by address.

        Raises
        ------
        ValueError
            If there is none of this name.
        Exception
            What its `teardown` raises.
        """
        kind = "nanny" if nanny else "worker"
        return self._ask(self._unregister, f"unregister-{kind}-plugin", name)

    async def _unregister(self, op: str, name: str) -> Any:
        reply = await self._connection.call(op, name=name)
        return None if op == "unregister-scheduler-plugin" else _outcomes(reply)

    def register_worker_callbacks(self, setup: Callable[..., Any] | None = None) -> Any:
        """Have a function called once on every worker, those that come later included.

        Parameters
        ----------
        setup : callable
            The function; if it takes `dask_worker`, the worker is passed.

        Raises
        ------
        TypeError
            If it cannot be called.
        """
        if not callable(setup):
            raise TypeError(f"setup= must be a function, not {setup!r}")
        return self.register_plugin(_Callback(setup))

    # -- files -----------------------------------------------------------------------------------------------

    def upload_file(self, filename: str | os.PathLike[str], load: bool = True) -> Any:
        """Send a file to the scheduler and to all workers, those that come later included.

        Parameters
        ----------
        filename : path
            A `.py` file or an `.egg`, `.zip` or `.pyz` archive can be imported there, and is imported anew if it was
            before; any other file lies in the `local_directory` of the worker.
        load : bool
            Whether to import it at once.

        Returns
        -------
        dict
            `{"status": "OK"}` by worker address.

        Examples
        --------
        >>> client.upload_file("tools.py")  # doctest: +SKIP
        """
        return self._ask(self._upload_file, os.fspath(filename), load)

    async def _upload_file(self, filename: str, load: bool) -> Any:
        name = f"{os.path.basename(filename)}-{uuid.uuid4()}"
        to_scheduler = SchedulerUploadFile(filename, load)
        payload = pickling.dumps(to_scheduler)
        try:
            await self._register("register-scheduler-plugin", name, payload, False)
        except PermissionError as error:
            # It takes no code at all, so nothing there can miss this module.
            logger.info("%s is sent to the workers only: %s", filename, error)
        return await self._register("register-worker-plugin", name, pickling.dumps(UploadFile(filename, load)), False)

    # -- logs of workers -------------------------------------------------------------------------------------

    def forward_logging(self, logger_name: str | None = None, level: int | str = logging.NOTSET) -> Any:
        """Have the records of a logger of every worker handled here, too, by the logger of the same name.

        Parameters
        ----------
        logger_name : str, optional
            The logger; the root logger by default.
        level : int or str
            Records below it are not sent. Each record has the address of its worker as `worker`.

        Examples
        --------
        >>> client.forward_logging("mylibrary", "INFO")  # doctest: +SKIP
        """
        name = f"forward-logging-{logger_name or '<root>'}"
        topic = f"forwarded-log-record-{name}"
        self.subscribe_topic(topic, handle_record)
        return self.register_plugin(ForwardLoggingPlugin(logger_name, level, topic), name)

    def unforward_logging(self, logger_name: str | None = None) -> Any:
        """Undo `forward_logging` of the same logger.

        Raises
        ------
        ValueError
            If it is not forwarded.
        """
        name = f"forward-logging-{logger_name or '<root>'}"
        self.unsubscribe_topic(f"forwarded-log-record-{name}")
        return self.unregister_worker_plugin(name)

    # -- code in the scheduler -------------------------------------------------------------------------------

    def run_on_scheduler(self, function: Callable[..., Any], *args: Any, wait: bool = True, **kwargs: Any) -> Any:
        """Call a function in the process of the scheduler.

        It runs on the event loop: nothing is scheduled meanwhile.

        Parameters
        ----------
        function : callable
            The function; if it takes `dask_scheduler`, the scheduler is passed. A coroutine function is awaited.
        wait : bool
            Whether to wait for the result; without it the result is None, and an error is only logged there.

        Raises
        ------
        PermissionError
            If the scheduler takes no code (`--no-admin-code`).
        Exception
            What the function raises.

        Examples
        --------
        >>> client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.workers))  # doctest: +SKIP
        2
        """
        payload = FunctionCache(1).serialize_function(function).payload
        arguments, _ = serialize_arguments(args, kwargs, None)
        return self._ask(self._run_on_scheduler, payload, arguments, wait)

    async def _run_on_scheduler(self, payload: bytes, arguments: bytes, wait: bool) -> Any:
        reply = await self._connection.call("run-on-scheduler", wait=wait, buffers=[payload, arguments])
        if reply["status"] == "error":
            raise load_failure(reply.buffers[0])
        return results.loads(reply.buffers) if wait else None


class _Callback(WorkerPlugin):
    """Calls a function when it is set up."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.name = f"{getattr(function, '__name__', 'callback')}-{uuid.uuid4()}"

    def setup(self, worker: Any) -> Any:
        try:
            takes_worker = "dask_worker" in inspect.signature(self._function).parameters
        except (TypeError, ValueError):  # a builtin without a signature
            takes_worker = False
        return self._function(dask_worker=worker) if takes_worker else self._function()


def handle_record(event: Event) -> None:
    """Have a forwarded log record handled here."""
    record = logging.makeLogRecord(event[1])
    target = logging.getLogger(record.name if record.name != "root" else None)
    if target.isEnabledFor(record.levelno):
        target.handle(record)


def _outcomes(reply: Any) -> dict[str, dict[str, Any]]:
    """`{"status": "OK"}` by address; the first error is raised."""
    answers = {}
    for address, status, detail in reply["results"]:
        if status == "error":
            raise load_failure(reply.buffers[detail])
        if status == "OK":
            answers[address] = {"status": "OK"}
    return answers
