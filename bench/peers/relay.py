"""The yardstick: the same bytes through the same four processes, and nobody who schedules.

A client process packs rows as wide as those of a TASKS frame, a hub process cuts them in two halves and
hands each to a worker process in rows as wide as those of a RUN frame, the workers call the function for each
row and answer with DONE rows, and the hub passes them on as STATE rows. Arguments and results are pickled one
by one. There are no keys, no states, no errors: only the moving of bytes that nobody can avoid.

May import: the standard library, `peers`.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers.processes import Cluster
from peers.work import inc

REQUIREMENTS: tuple[str, ...] = ()
SLOW = False

WORKERS = 2
ROWS_PER_FRAME = 10_000
HEADER = 16
PAYLOAD = 24  # room for one pickled small number
# bytes of one row of docs/wire.md with a key of 36 bytes and that payload
TASKS_ROW, RUN_ROW, DONE_ROW, STATE_ROW = 88, 112, 49, 41


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The width of the rows of the next frame, and its body."""
    header = await reader.readexactly(HEADER)
    return int.from_bytes(header[:8], "little"), await reader.readexactly(
        int.from_bytes(header[8:], "little")
    )


def frame(width: int, body: bytes) -> bytes:
    """A header and a body of rows of one width."""
    return width.to_bytes(8, "little") + len(body).to_bytes(8, "little") + body


def rows_of(values: Sequence[Any], width: int) -> bytes:
    """One row for each value: its pickle, padded to the width."""
    dumps = pickle.dumps
    return b"".join([dumps(value, 5).ljust(width, b"\0") for value in values])


def values_of(body: bytes, width: int) -> list[Any]:
    """The values in the rows of a body."""
    loads = pickle.loads
    return [loads(body[start : start + width]) for start in range(0, len(body), width)]


def rewidened(body: bytes, old: int, new: int) -> bytes:
    """The same rows at another width; the payloads come first in each, and are kept."""
    # The hub does not look at single rows: it moves as many bytes as a frame of the new width has.
    count = len(body) // old
    payloads = bytearray(count * new)
    for column in range(PAYLOAD):
        payloads[column::new] = body[column::old]
    return bytes(payloads)


class Hub:
    """Passes rows from the client to the workers in turn, and back."""

    def __init__(self) -> None:
        self.client: asyncio.StreamWriter | None = None
        self.workers: list[asyncio.StreamWriter] = []
        self.complete = asyncio.Event()
        self.turn = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends; its first byte says whose it is."""
        role = await reader.readexactly(1)
        if role == b"c":
            self.client = writer
        else:
            self.workers.append(writer)
            if len(self.workers) == WORKERS:
                self.complete.set()
        try:
            while True:
                width, body = await read_frame(reader)
                await (self.distribute(width, body) if role == b"c" else self.report(width, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            for end in (writer, self.client):
                if end is not None:
                    end.close()

    async def distribute(self, width: int, body: bytes) -> None:
        """Give each worker a contiguous half of the rows (a single row to one of them)."""
        await self.complete.wait()
        body = rewidened(body, width, RUN_ROW)
        count = len(body) // RUN_ROW
        half = (count + 1) // 2 * RUN_ROW
        for part in (body[:half], body[half:]):
            if part:
                self.turn += 1
                worker = self.workers[self.turn % WORKERS]
                worker.write(frame(RUN_ROW, part))
                await worker.drain()

    async def report(self, width: int, body: bytes) -> None:
        """Pass results on to the client."""
        if self.client is None:
            raise RuntimeError("a worker answered before the client was there")
        self.client.write(frame(STATE_ROW, rewidened(body, width, STATE_ROW)))
        await self.client.drain()


async def run_hub() -> None:
    """Serve until the parent ends the process; prints the port."""
    hub = Hub()
    server = await asyncio.start_server(hub.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


async def run_worker(port: int) -> None:
    """Call the function for each row that comes, on a thread of its own, as a worker does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"w")
    loop = asyncio.get_running_loop()
    waiting: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()

    def execute() -> None:
        try:
            while True:
                width, body = waiting.get()
                results = rows_of([inc(number) for number in values_of(body, width)], DONE_ROW)
                loop.call_soon_threadsafe(writer.write, frame(DONE_ROW, results))
        finally:
            loop.call_soon_threadsafe(writer.close)  # the hub then ends the client's connection

    threading.Thread(target=execute, daemon=True).start()
    while True:
        try:
            waiting.put(await read_frame(reader))
        except asyncio.IncompleteReadError:
            return


class RelayClient:
    """A loop on a thread of its own, asked from the thread of the user."""

    def __init__(self, port: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.reader, self.writer = self.call(self.connect(port))

    def call(self, work: Any) -> Any:
        """Run a coroutine on the loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(120)

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Say hello as the client."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"c")
        return reader, writer

    async def exchange(self, bodies: list[bytes], count: int) -> list[Any]:
        """Send rows and wait for as many answers."""
        results: list[Any] = []
        for body in bodies:
            self.writer.write(frame(TASKS_ROW, body))
        while len(results) < count:
            width, body = await read_frame(self.reader)
            results += values_of(body, width)
        return results

    def close(self) -> None:
        """End the connection and the thread."""
        self.loop.call_soon_threadsafe(self.writer.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start the hub, two workers and the client."""
    command = [sys.executable, "-m", "peers.relay"]
    running = [subprocess.Popen([*command, "hub"], stdout=subprocess.PIPE, text=True)]
    try:
        assert running[0].stdout is not None
        port = int(running[0].stdout.readline())
        running += [subprocess.Popen([*command, "worker", str(port)]) for _ in range(WORKERS)]
        client = RelayClient(port)
        try:
            gather(client, submit_map(client, range(WORKERS)))
            pids = [process.pid for process in running]
            yield Cluster(client, {"scheduler": pids[:1], "worker": pids[1:], "client": [os.getpid()]})
        finally:
            client.close()
    finally:
        for process in running:
            process.terminate()
            process.wait()
        running[0].stdout.close()


def submit_map(client: RelayClient, numbers: Sequence[int]) -> tuple[list[bytes], int]:
    """The rows of all numbers, in frames; they travel in `gather`."""
    frames = [
        rows_of(numbers[start : start + ROWS_PER_FRAME], TASKS_ROW)
        for start in range(0, len(numbers), ROWS_PER_FRAME)
    ]
    return frames, len(numbers)


def gather(client: RelayClient, futures: tuple[list[bytes], int]) -> list[int]:
    """The results of all rows, in the order of the numbers."""
    return sorted(client.call(client.exchange(*futures)))


def call_once(client: RelayClient, number: int) -> int:
    """One row, there and back."""
    return int(client.call(client.exchange([rows_of([number], TASKS_ROW)], 1))[0])


if __name__ == "__main__":
    asyncio.run(run_hub() if sys.argv[1] == "hub" else run_worker(int(sys.argv[2])))
