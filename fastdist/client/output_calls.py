"""The calls of Client about what tasks print and log. May import: what the client may."""

from __future__ import annotations

import builtins
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from fastdist._core.keys.canonical import decode_key
from fastdist.client.event_calls import EventCalls
from fastdist.client.future import Future
from fastdist.rpc.fields import items, whole

logger = logging.getLogger("fastdist.client")


class OutputLine(NamedTuple):
    """A line that a task wrote; as a text it is the line alone.

    Attributes
    ----------
    time : float
        Seconds since the epoch.
    worker : str
        Name of the worker that executed the task.
    stream : str
        "stdout", "stderr" (warnings are there, too), "log", or "note" for what the worker says itself.
    text : str
        The line.
    """

    time: float
    worker: str
    stream: str
    text: str

    def __str__(self) -> str:
        return self.text


class OutputCalls(EventCalls):
    """The part of Client that shows what tasks wrote."""

    if TYPE_CHECKING:

        _forward_output: bool

        def _ask(self, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any: ...

    def _make_parts(self) -> None:
        super()._make_parts()
        if self._forward_output:
            # All that tasks write is shown: what `fastdist.print` and `warn` send would be there twice.
            for topic in ("print", "warn"):
                self._event_handlers.pop(topic, None)
            self._connection.handlers["task-output"] = on_output
            self._connection.on_recovered.append(self._ask_for_output)

    async def _start(self) -> Any:
        answer = await super()._start()
        if self._forward_output:
            self._ask_for_output()
        return answer

    def _ask_for_output(self) -> None:
        self._connection.tell("forward-output", on=True)

    def _logs_of(self, future: Future) -> Any:
        return self._ask(self._logs, future.key_bytes)

    async def _logs(self, key: bytes) -> list[OutputLine]:
        reply = await self._connection.call("task-logs", keys=[key])
        return [line for payload in reply.buffers for line in read_lines(payload)]


def read_lines(payload: Any) -> list[OutputLine]:
    """The lines in a message of a worker."""
    worker, lines = msgpack.unpackb(payload)
    return [OutputLine(when, worker, stream, text) for when, stream, text in lines]


def on_output(peer: Any, fields: dict[str, Any], buffers: list[Any]) -> None:
    """Show what tasks wrote: a line each, with the worker and the key."""
    dropped = whole(fields, "dropped", default=0)
    if dropped:
        builtins.print(f"[fastdist] ... {dropped} lines of tasks dropped: this client reads too slowly")
    for key, payload in zip(items(fields, "keys", bytes), buffers, strict=True):
        name = str(decode_key(key))
        for line in read_lines(payload):
            stream = sys.stdout if line.stream == "stdout" else sys.stderr
            builtins.print(f"[{line.worker} | {name}] {line.text}", file=stream)
