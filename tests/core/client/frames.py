"""Hand-made STATE frames and readable TASKS frames, for tests of the client core."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import Any

import msgpack

from fastdist._core.codec.frames import ColumnReader, ColumnWriter, TaskStatus
from fastdist._core.codec.values import decode_call, encode_value

FINISHED, ERRED = TaskStatus.STATUS_FINISHED, TaskStatus.STATUS_ERRED
CANCELLED, LOST, PENDING = TaskStatus.STATUS_CANCELLED, TaskStatus.STATUS_LOST, TaskStatus.STATUS_PENDING
NO_TYPE = 0xFFFFFFFF


def offsets(pieces: list[bytes]) -> bytes:
    """The offsets column of some pieces."""
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    return struct.pack(f"<{len(ends)}I", *ends)


def state_frame(*rows: tuple[int, int, bytes], types: tuple[str, ...] = ("int",)) -> bytes:
    """A STATE frame of rows (client id, status, payload), all of the first type."""
    writer = ColumnWriter(8)
    writer.n_rows = len(rows)
    payloads = [row[2] for row in rows]
    names = [name.encode() for name in types]
    columns = [
        struct.pack(f"<{len(rows)}Q", *(row[0] for row in rows)),
        bytes(row[1] for row in rows),
        struct.pack(f"<{len(rows)}Q", *(28 for _ in rows)),
        struct.pack(f"<{len(rows)}I", *(0 if row[1] == FINISHED else NO_TYPE for row in rows)),
        offsets(payloads),
        b"".join(payloads),
        offsets(names),
        b"".join(names),
    ]
    for number, column in enumerate(columns):
        writer.put_bytes(number, column)
    return writer.encode()


def inline(value: Any) -> bytes:
    """The payload of an inline result."""
    payload = encode_value(value)
    assert payload is not None
    return payload


def cut(table: bytes, blob: bytes) -> list[bytes]:
    """The pieces of a blob column."""
    ends = struct.unpack(f"<{len(table) // 4}I", table)
    return [blob[start:end] for start, end in itertools.pairwise(ends)]


@dataclass
class Row:
    """One row of a TASKS frame."""

    id: int
    key: bytes
    function: bytes | None
    arguments: bytes
    inputs: list[int]
    order: int
    options: dict[str, Any] | None
    flags: int

    def call(self, values: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with the values of the inputs."""
        args, kwargs = decode_call(self.arguments, values)
        return args, kwargs or {}


@dataclass
class Tasks:
    """A TASKS frame."""

    rows: list[Row]
    is_last: bool
    submission: int
    fifo_timeout: int
    functions: dict[bytes, bytes]


def read_tasks(body: bytes) -> Tasks:
    """Take a TASKS frame apart."""
    reader = ColumnReader(body, 14)
    n = reader.n_rows
    column = [reader.column_bytes(number) for number in range(14)]
    first, flags, submission, fifo_timeout = struct.unpack("<4Q", column[0])
    keys, arguments = cut(column[1], column[2]), cut(column[4], column[5])
    functions = struct.unpack(f"<{n}I", column[3])
    ends = struct.unpack(f"<{n + 1}I", column[6])
    inputs = struct.unpack(f"<{len(column[7]) // 8}Q", column[7])
    orders = struct.unpack(f"<{n}I", column[8]) if column[8] else tuple(range(n))
    options = struct.unpack(f"<{n}I", column[9]) if column[9] else (0,) * n
    row_flags = column[10] or bytes([3]) * n
    table = cut(column[11], column[12])
    packed = msgpack.unpackb(column[13])
    rows = [
        Row(
            first + i,
            keys[i],
            None if functions[i] == NO_TYPE else table[functions[i]][:16],
            arguments[i],
            list(inputs[ends[i] : ends[i + 1]]),
            orders[i],
            packed[options[i] - 1] if options[i] else None,
            row_flags[i],
        )
        for i in range(n)
    ]
    return Tasks(rows, bool(flags & 1), submission, fifo_timeout, {piece[:16]: piece[16:] for piece in table})


def read_release(body: bytes) -> tuple[list[int], bytes]:
    """The ids and the function hashes of a RELEASE frame."""
    reader = ColumnReader(body, 2)
    ids = reader.column_bytes(0)
    return list(struct.unpack(f"<{len(ids) // 8}Q", ids)), reader.column_bytes(1)
