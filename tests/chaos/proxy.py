"""A TCP proxy that delays, jitters, stalls, cuts and truncates; on a thread with an event loop of its own.

May import: the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

_CHUNK = 1 << 16
#: Bytes that wait in the proxy for their time; then the sender has to wait.
_HELD = 1 << 20
_STALL_STEP = 0.01
#: Pieces with the moment at which they may go on.
_Due = asyncio.Queue[tuple[float, bytes]]


@dataclass
class Weather:
    """What happens to bytes on their way; may be changed at any time."""

    delay: float = 0.0
    jitter: float = 0.0
    stalled_up: bool = False
    stalled_down: bool = False
    #: New connections are neither refused nor served.
    deaf: bool = False


class Proxy:
    """Forwards connections from a port of its own to a target.

    Example
    -------
    >>> with Proxy("127.0.0.1", 8786) as proxy:
    ...     proxy.weather.delay = 0.05
    ...     proxy.port
    40123
    """

    def __init__(self, host: str, port: int, *, listen: str = "127.0.0.1", seed: int = 0) -> None:
        self.target = (host, port)
        self.listen = listen
        self.weather = Weather()
        self.port = 0
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._links: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(self, *exception: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def connections(self) -> int:
        """How many connections pass through now."""
        return len(self._links) // 2

    def cut(self) -> int:
        """Reset every connection; returns how many."""
        return int(self._call(self._cut()))

    def truncate(self, after: int) -> None:
        """Let `after` more bytes of each connection through, then reset it in the middle of what comes."""
        self._loop.call_soon_threadsafe(self._set_budget, after)

    def _call(self, coroutine: object) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)  # type: ignore[arg-type]

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._take, self.listen, 0, limit=_CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cut(self) -> int:
        links, self._links = self._links, set()
        for writer in links:
            _reset(writer)
        return len(links) // 2

    def _set_budget(self, after: int) -> None:
        for writer in self._links:
            writer.chaos_budget = after  # type: ignore[attr-defined]

    @staticmethod
    async def _while(condition: Callable[[], bool]) -> None:
        while condition():  # noqa: ASYNC110 - the weather is set by other threads
            await asyncio.sleep(_STALL_STEP)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._welcome(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._while(lambda: self.weather.deaf)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target, limit=_CHUNK)
        except OSError:
            _reset(writer)
            return
        self._links |= {writer, far_writer}
        parts = []
        for source, sink, up in ((reader, far_writer, True), (far_reader, writer, False)):
            due: _Due = asyncio.Queue(_HELD // _CHUNK)
            parts += [self._collect(source, due), self._deliver(due, sink, up)]
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.gather(*tasks)
        except OSError:
            pass
        finally:
            for task in tasks:
                task.cancel()
            for link in (writer, far_writer):
                self._links.discard(link)
                _reset(link)

    async def _collect(self, reader: asyncio.StreamReader, due: _Due) -> None:
        """Each piece is due a delay after it came, and none overtakes another."""
        while True:
            data = await reader.read(_CHUNK)
            weather = self.weather
            wait = weather.delay + self._random.uniform(0, weather.jitter) if weather.delay else 0.0
            await due.put((self._loop.time() + wait, data))
            if not data:
                return

    async def _deliver(self, due: _Due, writer: asyncio.StreamWriter, up: bool) -> None:
        while True:
            moment, data = await due.get()
            if moment > self._loop.time():
                await asyncio.sleep(moment - self._loop.time())
            await self._while(lambda: self.weather.stalled_up if up else self.weather.stalled_down)
            if not data:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            budget = getattr(writer, "chaos_budget", None)
            if budget is not None and budget <= len(data):
                writer.write(data[:budget])
                with contextlib.suppress(OSError):
                    await writer.drain()
                raise ConnectionResetError("truncated")
            if budget is not None:
                writer.chaos_budget = budget - len(data)  # type: ignore[attr-defined]
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, and so that the other side gets a reset: what a broken connection looks like."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
