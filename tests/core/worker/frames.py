"""Hand-made frames for tests of the worker: build RUN, FREE and RETRACT bodies, read DONE bodies."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from fastdist._core.codec.frames import ColumnReader, ColumnWriter, DoneStatus

EPOCH = 7


def pack(code: str, values) -> bytes:
    """Little-endian numbers of one type."""
    values = list(values)
    return struct.pack(f"<{len(values)}{code}", *values)


def pieces(blobs) -> tuple[bytes, bytes]:
    """The offsets column and the bytes column of some byte strings."""
    blobs = list(blobs)
    ends = [0]
    for blob in blobs:
        ends.append(ends[-1] + len(blob))
    return pack("I", ends), b"".join(blobs)


def encode(n_rows: int, columns: list[bytes]) -> bytes:
    """A frame body."""
    writer = ColumnWriter(len(columns))
    for number, data in enumerate(columns):
        writer.put_bytes(number, data)
    body = bytearray(writer.encode())
    body[4:8] = struct.pack("<I", n_rows)
    return bytes(body)


@dataclass
class Row:
    """One task of a RUN frame; `inputs` maps task ids to (size, holders)."""

    task_id: int
    attempt: int = 1
    function: int = 1
    priority: float = 0.0
    order: int = 0
    key: bytes = b""
    arguments: bytes = b""
    inputs: dict[int, tuple[int, list[int]]] = field(default_factory=dict)
    flags: int = 0
    option: int = 0


def run_frame(rows, functions=None, options=None, addresses=None, epoch: int = EPOCH) -> bytes:
    """The body of a RUN frame."""
    rows = list(rows)
    functions, options, addresses = functions or {}, options or {}, addresses or {}
    keys = pieces(row.key for row in rows)
    arguments = pieces(row.arguments for row in rows)
    inputs = [(task_id, *found) for row in rows for task_id, found in row.inputs.items()]
    input_ends = [0]
    for row in rows:
        input_ends.append(input_ends[-1] + len(row.inputs))
    holder_ends = [0]
    for _, _, holders in inputs:
        holder_ends.append(holder_ends[-1] + len(holders))
    columns = [
        pack("Q", [epoch]),
        pack("Q", (row.task_id for row in rows)),
        pack("I", (row.attempt for row in rows)),
        pack("I", (row.function for row in rows)),
        pack("d", (row.priority for row in rows)),
        pack("Q", (row.order for row in rows)),
        *keys,
        *arguments,
        pack("I", input_ends),
        pack("Q", (task_id for task_id, _, _ in inputs)),
        pack("Q", (size for _, size, _ in inputs)),
        pack("I", holder_ends),
        pack("I", (holder for _, _, holders in inputs for holder in holders)),
        pack("B", (row.flags for row in rows)),
        pack("I", (row.option for row in rows)),
    ]
    for table in (functions, options, addresses):
        columns += [pack("I", table), *pieces(table.values())]
    return encode(len(rows), columns)


def free_frame(task_ids, functions=(), epoch: int = EPOCH) -> bytes:
    """The body of a FREE frame."""
    task_ids = list(task_ids)
    return encode(len(task_ids), [pack("Q", [epoch]), pack("Q", task_ids), b"", pack("I", functions)])


def retract_frame(tasks, epoch: int = EPOCH) -> bytes:
    """The body of a RETRACT frame; `tasks` are (task id, attempt)."""
    tasks = list(tasks)
    return encode(
        len(tasks),
        [pack("Q", [epoch]), pack("Q", (t for t, _ in tasks)), pack("I", (a for _, a in tasks)), b""],
    )


class Done(NamedTuple):
    """One row of a DONE frame."""

    task_id: int
    attempt: int
    status: DoneStatus
    size: int
    seconds: float
    type_number: int
    payload: bytes


def read_done(body: bytes | None) -> list[Done]:
    """The rows of a DONE body; none for None."""
    if body is None:
        return []
    reader = ColumnReader(body, 11)
    n = reader.n_rows
    assert struct.unpack("<Q", reader.column_bytes(0)) == (EPOCH,)
    ends = struct.unpack(f"<{n + 1}I", reader.column_bytes(7))
    blob = reader.column_bytes(8)
    rows = zip(
        struct.unpack(f"<{n}Q", reader.column_bytes(1)),
        struct.unpack(f"<{n}I", reader.column_bytes(2)),
        map(DoneStatus, reader.column_bytes(3)),
        struct.unpack(f"<{n}Q", reader.column_bytes(4)),
        struct.unpack(f"<{n}f", reader.column_bytes(5)),
        struct.unpack(f"<{n}I", reader.column_bytes(6)),
        [blob[ends[i] : ends[i + 1]] for i in range(n)],
        strict=True,
    )
    return [Done(*row) for row in rows]


def read_type_names(body: bytes) -> list[str]:
    """The new type names of a DONE body."""
    reader = ColumnReader(body, 11)
    raw = reader.column_bytes(9)
    ends = struct.unpack(f"<{len(raw) // 4}I", raw)
    blob = reader.column_bytes(10)
    return [blob[a:b].decode() for a, b in pairwise(ends)]
