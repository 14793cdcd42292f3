"""What is fuzzed: for each target, sound inputs to begin with, and what is done with a damaged one.

A target takes any bytes. It raises only where something is wrong: errors that damaged input is meant to give are
caught here, everything else is a finding. May import: fastdist, tests.core.
"""

from __future__ import annotations

import itertools
import struct
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import msgpack
import numpy as np

from fastdist._core.codec.frames import ColumnReader
from fastdist._core.codec.values import Encoding, decode_call, decode_value, encode_call, encode_value
from fastdist.comm.control import encode_control
from fastdist.comm.core import CONTROL, Limits
from fastdist.comm.frame_reader import HEADER, FrameReader
from fastdist.comm.handshake import ClientHandshake, Role, ServerHandshake
from fastdist.comm.token import Token
from fastdist.errors import FrameError, HandshakeError, JournalError
from fastdist.scheduler.journal.records import FileHead, RecordKind, RecordReader, pack_file_head, pack_record
from tests.core.scheduler.builders import Cluster
from tests.core.scheduler.frames import DoneRow, TaskRow, done_frame, release_frame, tasks_frame
from tests.core.worker import driver as worker_driver
from tests.core.worker import frames as worker_frames

_LIMITS = Limits(max_frame_bytes=1 << 20, max_control_bytes=1 << 20, read_buffer_bytes=4096)


class Target(ABC):
    """One thing that reads foreign bytes."""

    name: ClassVar[str]

    @abstractmethod
    def corpus(self) -> list[bytes]:
        """Sound inputs."""

    @abstractmethod
    def take(self, data: bytes) -> bool:
        """Read one input; True if it was accepted.

        Raises
        ------
        Exception
            A finding.
        """


class Handshake(Target):
    """Both sides of the handshake: the first byte says which, and in which pieces the rest comes."""

    name = "handshake"

    def __init__(self) -> None:
        self.token = Token(bytes(range(32)), "of the fuzzer")

    def _server(self) -> ServerHandshake:
        return ServerHandshake(self.token, epoch=7, nonce=bytes(32))

    def _client(self, insecure: bool = False) -> ClientHandshake:
        token = None if insecure else self.token
        return ClientHandshake(Role.CLIENT, token, insecure=insecure, nonce=bytes(range(32)))

    def corpus(self) -> list[bytes]:
        found = []
        for role in Role:
            server, client = self._server(), ClientHandshake(role, self.token, nonce=bytes(range(32)))
            sent: dict[str, list[bytes]] = {"client": [], "server": []}
            while not (server.done and client.done):
                for name, source, sink in (("client", client, server), ("server", server, client)):
                    data = source.take_outgoing()
                    sent[name].append(data)
                    if data:
                        sink.feed(data)
            for steps in (b"\x00", b"\x40"):
                found.append(steps + b"".join(sent["client"]))
            found.append(b"\x01" + b"".join(sent["server"]))
        return [*found, b"\x00GET / HTTP/1.1\r\n\r\n", b"\x00"]

    def take(self, data: bytes) -> bool:
        side = self._client(insecure=bool(data[:1] and data[0] & 2)) if data[:1] and data[0] & 1 else self._server()
        step = max(1, (data[0] >> 2) if data else 1)
        position = 1
        try:
            while not side.done and position < len(data):
                piece = data[position : position + min(step, side.missing)]
                side.feed(piece)
                position += len(piece)
                assert len(side.take_outgoing()) <= 256
                assert side.missing <= 256
        except HandshakeError:
            assert not side.done and len(side.take_outgoing()) <= 256
            return False
        return bool(side.done)


class Stream(Target):
    """A stream of frames in pieces, as it comes after the handshake; the first byte says how it is cut."""

    name = "stream"

    def corpus(self) -> list[bytes]:
        message = {"op": "x", "id": 3, "list": [1, -2, 3.5, None, True], "map": {"a": {"b": [b"c", "\u00e9"]}}}
        control = b"".join(map(bytes, encode_control(message, [b"abc", bytes(5000)], _LIMITS)))
        deep: Any = 0
        for _ in range(70):
            deep = [deep]
        nested = b"".join(map(bytes, encode_control({"op": "deep", "value": deep}, [], _LIMITS)))
        frames = [(CONTROL, control), (3, bytes(100)), (CONTROL, nested), (5, b""), (4, bytes(6000))]
        packed = [HEADER.pack(kind, 0, len(body)) + body for kind, body in frames]
        odd = [HEADER.pack(3, 0, 2**63), HEADER.pack(CONTROL, 0, 2**20), HEADER.pack(0, 1, 5) + b"12345"]
        bomb = struct.pack("<II", 1, 0) + struct.pack("<Q", 5) + b"\xdd\xff\xff\xff\xff"
        odd.append(HEADER.pack(CONTROL, 0, len(bomb)) + bomb)
        streams = [*packed, packed[0] + packed[1], b"".join(packed), *odd]
        return [bytes([cut]) + stream for cut, stream in itertools.product((0, 7), streams)]

    def take(self, data: bytes) -> bool:
        frames: list[int] = []

        def take_frame(kind: int, body: memoryview) -> None:
            assert body.nbytes <= _LIMITS.max_frame_bytes
            frames.append(len(bytes(body)))

        def take_control(message: dict[str, Any], buffers: list[Any]) -> None:
            assert type(message["op"]) is str
            msgpack.packb(message, unicode_errors="surrogatepass")
            frames.append(sum(map(len, buffers)))

        reader = FrameReader(_LIMITS, take_frame, take_control)
        step = (data[0] if data else 0) * 16 or 1 << 20
        position = 1
        try:
            while position < len(data):
                target = reader.target()
                piece = data[position : position + min(step, len(target))]
                target[: len(piece)] = piece
                reader.advance(len(piece))
                position += len(piece)
        except FrameError:
            return False
        assert sum(frames) <= len(data)
        return True


class Columns(Target):
    """The columns of a frame, without a meaning; the first byte is the number of columns that is expected."""

    name = "columns"

    def corpus(self) -> list[bytes]:
        bodies = [tasks_frame(1, [TaskRow(b"sx"), TaskRow(b"sy", needs=(1,))]), release_frame([1, 2])]
        bodies.append(done_frame([DoneRow(1, 1)], ["int"]))
        return [bytes([struct.unpack_from("<I", body)[0]]) + body for body in bodies]

    def take(self, data: bytes) -> bool:
        try:
            reader = ColumnReader(data[1:], data[0] if data else 0)
        except FrameError:
            return False
        total = sum(len(reader.column_bytes(column)) for column in range(reader.n_columns))
        assert total <= len(data)
        return True


class Input:
    """Stands for the result of another task in the arguments of a call."""


class Values(Target):
    """The encoding of values and calls. What is pickled is not looked at: a pickle may do anything."""

    name = "values"

    def corpus(self) -> list[bytes]:
        values: list[Any] = [
            None, True, -1, 2**200, 1.5, 2j, "text \u20ac", b"bytes", bytearray(b"x"), (1, (2, [{4: {5}}])), range(3),
            frozenset({1, 2}), slice(1, 2), np.float32(1.5), np.arange(6).reshape(2, 3), np.array(["a", "bc"]),
            np.zeros((0, 3)), {"key": [1, "two"]}, [None] * 300, "x" * 300,
        ]  # fmt: skip
        found = [b"\x00" + data for data in map(encode_value, values) if data is not None]
        for kwargs in (None, {"a": 1, "b": [2]}):
            encoded = encode_call((1, "two", Input(), [Input(), {"deep": Input()}]), kwargs, Input)
            if encoded is not None:
                found.append(b"\x01" + encoded[0])
        return found

    def take(self, data: bytes) -> bool:
        if len(data) < 2:
            return False
        body = bytes([Encoding.ENCODED]) + data[2:]
        try:
            if data[0] & 1:
                decode_call(body, ["first", "second", "third"])
            else:
                decode_value(body)
        except FrameError:
            return False
        except TypeError as error:
            # An input in a set: the value is the user's own, and so is the error.
            assert data[0] & 1 and "unhashable" in str(error)
            return False
        return True


class Scheduler(Target):
    """The frames that clients and workers send; the first byte says which. A new core after each 100 inputs."""

    name = "scheduler"

    def __init__(self) -> None:
        self._left = 0
        self._cluster = Cluster([1])

    def _fresh(self) -> Cluster:
        cluster = Cluster([1, 2])
        client = cluster.client()
        client.submit_rows([client.row("a"), client.row("b", "a"), client.row("c", "a", "b")])
        cluster.act()
        cluster.done(cluster.where("a"), "a")
        client.map([f"k-{i}" for i in range(5)])
        cluster.act()
        return cluster

    def corpus(self) -> list[bytes]:
        cluster = self._fresh()
        first = cluster.clients[0].next_id
        rows = [TaskRow(b"sn-%d" % i, needs=(1,) if i else ()) for i in range(3)]
        assigned = [run for worker in cluster.workers for run in worker.assigned.values()]
        done = [DoneRow(run.id, run.attempt) for run in assigned]
        return [
            b"\x00" + tasks_frame(first, rows), b"\x00" + tasks_frame(first, rows[:1], last=False),
            b"\x01" + done_frame(done[:1]), b"\x01" + done_frame(done, ["int"]), b"\x02" + release_frame([1]),
            b"\x02" + release_frame([1, 2, 3]), b"\x03",
        ]  # fmt: skip

    def take(self, data: bytes) -> bool:
        if not self._left:
            self._left, self._cluster = 100, self._fresh()
        self._left -= 1
        cluster, core = self._cluster, self._cluster.core
        what, body = (data[0] % 4 if data else 3), data[1:]
        try:
            if what == 0:
                core.on_tasks(cluster.clients[0].number, body, [], 0.0)
            elif what == 1:
                core.on_done(len(body) % 2, body)
            elif what == 2:
                core.on_release(cluster.clients[0].number, body)
            else:
                core.act()
        except FrameError:
            core.validate()
            return False
        core.act()
        core.validate()
        return True


class Worker(Target):
    """The frames that the scheduler sends to a worker; the first byte says which. A new core after each 100 inputs."""

    name = "worker"

    def __init__(self) -> None:
        self._left = 0
        self._driver = worker_driver.Driver()

    def corpus(self) -> list[bytes]:
        row = worker_frames.Row
        rows = [row(1, key=b"sa"), row(2, inputs={1: (8, [1])}), row(3, inputs={9: (80, [2, 3])}, option=1)]
        extras: dict[str, Any] = {"functions": {1: b"f"}, "options": {1: b"{}"}, "addresses": {2: b"tcp://a:1", 3: b""}}
        return [
            b"\x00" + worker_frames.run_frame(rows, **extras), b"\x00" + worker_frames.run_frame(rows[:1], **extras),
            b"\x01" + worker_frames.free_frame([1, 2], [1]), b"\x02" + worker_frames.retract_frame([(1, 1), (3, 1)]),
            b"\x03",
        ]  # fmt: skip

    def take(self, data: bytes) -> bool:
        if not self._left:
            self._left, self._driver = 100, worker_driver.Driver()
        self._left -= 1
        core = self._driver.core
        what, body = (data[0] % 4 if data else 3), data[1:]
        try:
            if what == 0:
                core.on_run(body, 1.0)
            elif what == 1:
                core.on_free(body, 1.0)
            elif what == 2:
                core.on_retract(body, 1.0)
            else:
                self._driver.pop()
        except (FrameError, ValueError):
            # The options of a task are JSON here; damaged ones are refused by whoever reads them.
            self._driver.check()
            return False
        self._driver.check()
        return True


class Journal(Target):
    """A log file of a journal: what is damaged is refused, or cut off where its end is torn, and never believed."""

    name = "journal"

    def __init__(self) -> None:
        self._sound = [self._file(count) for count in (0, 1, 4)]

    @staticmethod
    def _bodies(count: int) -> list[bytes]:
        return [bytes([number]) * (number * 37 % 100) for number in range(1, count + 1)]

    def _file(self, count: int) -> bytes:
        pieces = [pack_file_head(FileHead(journal=77, number=1, first_record=1))]
        for number, body in enumerate(self._bodies(count), 1):
            pieces += pack_record(list(RecordKind)[number % len(RecordKind)], number, body)
        return b"".join(map(bytes, pieces))

    def corpus(self) -> list[bytes]:
        return self._sound

    def take(self, data: bytes) -> bool:
        found = []
        try:
            for _, body in RecordReader(memoryview(data), "the journal"):
                found.append(bytes(body))
                body.release()
        except JournalError:
            return False
        # A checksum has 32 bits: what it lets through is what was written, up to where it ends.
        assert found == self._bodies(len(found)), "a damaged record was believed"
        return True


TARGETS: dict[str, type[Target]] = {
    target.name: target for target in (Handshake, Stream, Columns, Values, Scheduler, Worker, Journal)
}
