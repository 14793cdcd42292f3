"""The calls of Client about events and logs. May import: what the client may."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import inspect
import logging
import os
import socket
import sys
import warnings
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from fastdist.client.lifecycle import Lifecycle
from fastdist.client.options import parse_workers
from fastdist.errors import CommClosedError
from fastdist.protocol.messages import pack_message, unpack_message
from fastdist.rpc.fields import number, text

logger = logging.getLogger("fastdist.client")

#: The name of the client that a worker makes for its tasks: what they print is on the worker's terminal already.
WORKERS_CLIENT = "worker"

Event = tuple[float, Any]
EventHandler = Callable[[Event], Any]


class EventCalls(Lifecycle):
    """The part of Client that notes and follows events, and shows logs."""

    if TYPE_CHECKING:

        def _ask(self, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any: ...

    def _make_parts(self) -> None:
        super()._make_parts()
        self._event_handlers: dict[str, EventHandler] = {}
        if self.name != WORKERS_CLIENT:
            self._event_handlers.update(print=self._on_print, warn=handle_warn)
        self._event_tasks: set[asyncio.Future[Any]] = set()
        self._connection.handlers["event"] = self._on_event
        self._connection.on_recovered.append(self._follow_topics)

    async def _start(self) -> Any:
        answer = await super()._start()
        self._follow_topics()
        return answer

    def _follow_topics(self) -> None:
        for topic in self._event_handlers:
            # Before any task of this client is sent, and without waiting for an answer.
            self._connection.tell("subscribe-topic", topic=topic)

    # -- events ----------------------------------------------------------------------------------------------

    def log_event(self, topic: str | Collection[str], msg: Any) -> Any:
        """Note an event.

        Parameters
        ----------
        topic : str or collection of str
            Where it belongs.
        msg : object
            What happened: None, numbers, texts, bytes, and lists, tuples and dicts of them.

        Raises
        ------
        TypeError
            If the message holds anything else.

        Examples
        --------
        >>> client.log_event("training", {"epoch": 3, "loss": 0.25})  # doctest: +SKIP
        """
        topics = [topic] if isinstance(topic, str) else list(topic)
        return self._ask(self._log_event, topics, pack_message(msg))

    async def _log_event(self, topics: list[str], packed: bytes) -> None:
        await self._connection.call("log-event", topics=topics, buffers=[packed])

    def get_events(self, topic: str | None = None) -> Any:
        """The events that the scheduler still keeps.

        Parameters
        ----------
        topic : str, optional
            The topic; all of them by default.

        Returns
        -------
        tuple or dict
            (time, message) of each event, oldest first; without `topic` a dict of such tuples.

        Examples
        --------
        >>> client.get_events("training")  # doctest: +SKIP
        ((1764000000.0, {'epoch': 3, 'loss': 0.25}),)
        """
        return self._ask(self._get_events, topic)

    async def _get_events(self, topic: str | None) -> Any:
        reply = await self._connection.call("get-events", topic=topic)
        events = {
            name: tuple((when, unpack_message(packed)) for when, packed in ring)
            for name, ring in unpack_message(reply.buffers[0]).items()
        }
        return events if topic is None else events[topic]

    def subscribe_topic(self, topic: str, handler: EventHandler) -> None:
        """Have a function called with each event of a topic from now on.

        Parameters
        ----------
        topic : str
            The topic; it takes the place of another handler of it.
        handler : callable
            Called with (time, message) on the event loop of the client; it may be a coroutine function.

        Examples
        --------
        >>> client.subscribe_topic("training", lambda event: print(event))  # doctest: +SKIP
        """
        if not callable(handler):
            raise TypeError(f"a handler of events must be callable, not a {type(handler).__name__}")
        if topic in self._event_handlers:
            logger.info("another handler takes the place of that of the topic %r", topic)
        self._event_handlers[topic] = handler
        self._in_order("subscribe-topic", topic)

    def unsubscribe_topic(self, topic: str) -> None:
        """Stop following a topic.

        Raises
        ------
        ValueError
            If this client does not follow it.
        """
        if self._event_handlers.pop(topic, None) is None:
            known = ", ".join(sorted(self._event_handlers)) or "none"
            raise ValueError(f"this client has no handler for the topic {topic!r}; it has for: {known}")
        self._in_order("unsubscribe-topic", topic)

    def _in_order(self, op: str, topic: str) -> None:
        """Tell the scheduler, before whatever is asked next; wait only where that is possible."""
        self._check_usable()

        async def tell() -> None:
            await self._started()
            await self._connection.call(op, topic=topic)

        if not self.asynchronous:
            self.sync(tell)
            return
        try:
            self._connection.tell(op, topic=topic)
        except CommClosedError:
            # It is not there yet, or comes back; if not, the error is logged.
            task = self._loop.create_task(tell())
            self._event_tasks.add(task)
            task.add_done_callback(self._event_task_done)

    # -- what arrives ----------------------------------------------------------------------------------------

    def _on_event(self, peer: Any, fields: dict[str, Any], buffers: list[Any]) -> None:
        topic = text(fields, "topic")
        handler = self._event_handlers.get(topic)
        if handler is None:
            # It was on its way when the topic was given up.
            return
        try:
            result = handler((number(fields, "time"), unpack_message(buffers[0])))
        except Exception:
            logger.exception("the handler of the topic %r failed", topic)
            return
        if inspect.isawaitable(result):
            task = asyncio.ensure_future(result)
            self._event_tasks.add(task)
            task.add_done_callback(self._event_task_done)

    def _on_print(self, event: Event) -> None:
        """Show what a task printed, unless its worker writes to the same terminal."""
        if not is_shown_already(event[1]):
            handle_print(event)

    def _event_task_done(self, task: asyncio.Future[Any]) -> None:
        self._event_tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a handler of events failed", exc_info=task.exception())

    # -- logs ------------------------------------------------------------------------------------------------

    def get_scheduler_logs(self, n: int | None = None) -> Any:
        """The last lines of the scheduler's log.

        Parameters
        ----------
        n : int, optional
            How many; all that are kept (`admin.log-length`) by default.

        Returns
        -------
        tuple
            (level, line), newest first.
        """
        return self._ask(self._get_scheduler_logs, n)

    async def _get_scheduler_logs(self, n: int | None) -> Any:
        reply = await self._connection.call("get-logs", n=n)
        return tuple(tuple(line) for line in reply["lines"])

    def get_worker_logs(self, n: int | None = None, workers: Any = None, nanny: bool = False) -> Any:
        """The last lines of the workers' logs.

        Parameters
        ----------
        n : int, optional
            How many of each; all that are kept by default.
        workers : collection, optional
            Addresses, names or hosts; all workers by default.
        nanny : bool
            Of their nannies instead.

        Returns
        -------
        dict
            By worker address: (level, line), newest first.
        """
        return self._ask(self._get_worker_logs, n, workers, nanny)

    async def _get_worker_logs(self, n: int | None, workers: Any, nanny: bool) -> Any:
        reply = await self._connection.call("get-worker-logs", n=n, workers=parse_workers(workers), nanny=nanny)
        return {address: tuple(tuple(line) for line in lines) for address, lines in reply["logs"].items()}


def is_shown_already(message: Any) -> bool:
    """Whether what a task printed is where this process would print it: its worker lives in it, or is a child of it.

    Parameters
    ----------
    message : object
        What `fastdist.print` sent.
    """
    process = message.get("process") if isinstance(message, dict) else None
    if not isinstance(process, tuple) or len(process) != 3:
        return False
    host, worker, parent = process
    if host != socket.gethostname():
        return False
    if worker == os.getpid():
        return True
    if parent != os.getpid():
        return False
    number, stream = (2, sys.stderr) if message.get("file") == 2 else (1, sys.stdout)
    try:
        # The children have inherited the descriptor, not what may have taken its place in this process.
        return stream.fileno() == number
    except (AttributeError, OSError, ValueError):
        return False


def handle_print(event: Event) -> None:
    """Print here what a task printed with `fastdist.print`."""
    message = event[1]
    if not isinstance(message, dict):
        # Somebody noted an event by hand.
        builtins.print(message)
        return
    streams = {None: None, 1: sys.stdout, 2: sys.stderr}
    if not isinstance(message.get("args"), tuple) or message.get("file") not in streams:
        raise TypeError(f"no message of fastdist.print: {message!r:.500}")
    builtins.print(
        *message["args"],
        sep=message.get("sep"),
        end=message.get("end"),
        file=streams[message.get("file")],
        flush=bool(message.get("flush")),
    )


def handle_warn(event: Event) -> None:
    """Warn here of what a task warned of with `fastdist.warn`."""
    message = event[1]
    if not isinstance(message, dict):
        warnings.warn(str(message), stacklevel=2)
        return
    if "message" not in message:
        raise TypeError(f"no message of fastdist.warn: {message!r:.500}")
    warnings.warn(str(message["message"]), _category(message.get("category")), stacklevel=2)


def _category(name: Any) -> type[Warning]:
    """The class of a warning by its name; UserWarning if this process has none of that name."""
    module, _, attribute = str(name).rpartition(".")
    try:
        found = getattr(importlib.import_module(module or "builtins"), attribute, None)
    except ImportError:
        found = None
    return found if isinstance(found, type) and issubclass(found, Warning) else UserWarning
