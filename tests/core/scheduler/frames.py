"""Frames of the scheduler by hand: build TASKS, RELEASE, DONE bodies, read RUN, FREE, RETRACT, STATE bodies.

May import: fastdist._core.codec, fastdist._core.keys.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastdist._core.codec.frames import ColumnReader, DoneStatus, TaskStatus

EPOCH = 7
NO_FUNCTION = 0xFFFFFFFF
FINISHED = TaskStatus.STATUS_FINISHED


def pack(code: str, values: Iterable[Any]) -> bytes:
    """Little-endian numbers of one type."""
    values = list(values)
    return struct.pack(f"<{len(values)}{code}", *values)


def pieces(blobs: Iterable[bytes]) -> tuple[bytes, bytes]:
    """The offsets column and the bytes column of some byte strings."""
    blobs = list(blobs)
    ends = [0]
    for blob in blobs:
        ends.append(ends[-1] + len(blob))
    return pack("I", ends), b"".join(blobs)


def frame(n_rows: int, columns: Sequence[bytes]) -> bytes:
    """A columnar body."""
    head = struct.pack("<II", len(columns), n_rows) + pack("Q", map(len, columns))
    return head + b"".join(column + bytes(-len(column) % 8) for column in columns)


def unpack(code: str, data: bytes) -> tuple[Any, ...]:
    """All numbers of one type."""
    return struct.unpack(f"<{len(data) // struct.calcsize('<' + code)}{code}", data)


def cut(offsets: bytes, data: bytes) -> list[bytes]:
    """The pieces of a bytes column."""
    ends = unpack("I", offsets)
    return [data[start:end] for start, end in itertools.pairwise(ends)] if ends else []


def hash_of(function: bytes) -> bytes:
    """What stands for a function in frames."""
    return hashlib.blake2b(function, digest_size=16).digest()


# -- to the scheduler ---------------------------------------------------------------------------------


@dataclass
class TaskRow:
    """One row of a TASKS frame; `function=None` refers to a key that must exist already."""

    key: bytes
    function: bytes | None = b"f"
    arguments: bytes = b""
    needs: tuple[int, ...] = ()
    order: int | None = None
    option: int = 0
    wanted: bool = True
    inline: bool = True


def tasks_frame(
    first_id: int,
    rows: Sequence[TaskRow],
    *,
    last: bool = True,
    submission: int = 1,
    fifo_timeout: float = 0.0,
    nested: bool = False,
    known_functions: Iterable[bytes] = (),
) -> bytes:
    """The body of a TASKS frame; of the functions in `known_functions` only the hash is sent."""
    table = list(dict.fromkeys(row.function for row in rows if row.function is not None))
    known = set(known_functions)
    needs = [need for row in rows for need in row.needs]
    ends = [0]
    for row in rows:
        ends.append(ends[-1] + len(row.needs))
    orders = [row.order for row in rows]
    flags = [row.wanted | row.inline << 1 for row in rows]
    columns = [
        pack("Q", [first_id, last | nested << 1, submission, round(fifo_timeout * 1e6)]),
        *pieces(row.key for row in rows),
        pack("I", (NO_FUNCTION if row.function is None else table.index(row.function) for row in rows)),
        *pieces(row.arguments for row in rows),
        pack("I", ends),
        pack("Q", needs),
        b"" if None in orders else pack("I", orders),
        pack("I", (row.option for row in rows)) if any(row.option for row in rows) else b"",
        b"" if all(flag == 3 for flag in flags) else pack("B", flags),
        *pieces(hash_of(function) + (b"" if function in known else function) for function in table),
        b"",
    ]
    return frame(len(rows), columns)


def release_frame(ids: Sequence[int], functions: Iterable[bytes] = ()) -> bytes:
    """The body of a RELEASE frame."""
    return frame(len(ids), [pack("Q", ids), b"".join(map(hash_of, functions))])


@dataclass
class DoneRow:
    """One row of a DONE frame; `type` is a number that the worker has given or gives in this frame."""

    id: int
    attempt: int
    status: int = DoneStatus.DONE_FINISHED
    nbytes: int = 8
    seconds: float = 0.001
    type: int = 0
    payload: bytes = b""


def done_frame(rows: Sequence[DoneRow], new_types: Sequence[str] = (), epoch: int = EPOCH) -> bytes:
    """The body of a DONE frame."""
    columns = [
        pack("Q", [epoch]),
        pack("Q", (row.id for row in rows)),
        pack("I", (row.attempt for row in rows)),
        pack("B", (int(row.status) for row in rows)),
        pack("Q", (row.nbytes for row in rows)),
        pack("f", (row.seconds for row in rows)),
        pack("I", (row.type for row in rows)),
        *pieces(row.payload for row in rows),
        *(pieces(name.encode() for name in new_types) if new_types else (b"", b"")),
    ]
    return frame(len(rows), columns)


@dataclass(frozen=True)
class DeclaredRow:
    """What a worker declares of one task; status 0 = held, 1 = executing, 2 = queued, 3 = executes unwanted."""

    id: int
    attempt: int
    status: int
    nbytes: int = 8
    type: int = 0
    key: bytes = b""


def declared_frame(rows: Sequence[DeclaredRow], types: Sequence[str], epoch: int = EPOCH) -> bytes:
    """The body of a declaration."""
    columns = [
        pack("Q", [epoch]),
        pack("Q", (row.id for row in rows)),
        pack("I", (row.attempt for row in rows)),
        pack("B", (row.status for row in rows)),
        pack("Q", (row.nbytes for row in rows)),
        pack("I", (row.type for row in rows)),
        *pieces(row.key for row in rows),
        *pieces(name.encode() for name in types),
    ]
    return frame(len(rows), columns)


def unpack_adopted(body: bytes) -> tuple[int, list[tuple[int, int]]]:
    """Epoch, and new id and attempt of each row, of the answer to a declaration."""
    reader = ColumnReader(body, 3)
    ids, attempts = unpack("Q", reader.column_bytes(1)), unpack("I", reader.column_bytes(2))
    return unpack("Q", reader.column_bytes(0))[0], list(zip(ids, attempts, strict=True))


# -- from the scheduler -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Input:
    """One input of a RUN row."""

    id: int
    nbytes: int
    holders: tuple[int, ...]


@dataclass(frozen=True)
class RunRow:
    """One assignment; functions and options as the numbers of the wire."""

    id: int
    attempt: int
    function: int
    priority: float
    rank: int
    key: bytes
    arguments: bytes
    inputs: tuple[Input, ...]
    inline: bool
    ahead: bool
    option: int
    failures: int = 0


@dataclass(frozen=True)
class Run:
    """A RUN frame."""

    worker: int
    rows: tuple[RunRow, ...]
    functions: tuple[tuple[int, bytes], ...]
    options: tuple[tuple[int, bytes], ...]
    addresses: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Free:
    """A FREE frame."""

    worker: int
    ids: tuple[int, ...]
    functions: tuple[int, ...]


@dataclass(frozen=True)
class Retract:
    """A RETRACT frame."""

    worker: int
    tasks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class StateRow:
    """What a client is told of one id."""

    id: int
    status: TaskStatus
    nbytes: int
    type: str
    payload: bytes


@dataclass(frozen=True)
class State:
    """A STATE frame."""

    client: int
    rows: tuple[StateRow, ...]


def read_run(worker: int, body: bytes) -> Run:
    """Read a RUN body."""
    reader = ColumnReader(body, 26)
    column = [reader.column_bytes(number) for number in range(26)]
    assert unpack("Q", column[0]) == (EPOCH,)
    holders = cut(column[13], column[14]) if not column[14] else None
    ends = unpack("I", column[13])
    numbers = unpack("I", column[14])
    sizes = unpack("Q", column[12])
    inputs = [
        Input(id, sizes[i], () if holders else numbers[ends[i] : ends[i + 1]])
        for i, id in enumerate(unpack("Q", column[11]))
    ]
    input_ends = unpack("I", column[10])
    keys, arguments = cut(column[6], column[7]), cut(column[8], column[9])
    fixed = zip(*(unpack(code, column[number]) for number, code in enumerate("QIIdQ", 1)), strict=True)
    flags, options = column[15], unpack("I", column[16])
    rows = tuple(
        RunRow(
            *values,
            keys[i],
            arguments[i],
            tuple(inputs[input_ends[i] : input_ends[i + 1]]),
            bool(flags[i] & 1),
            bool(flags[i] & 2),
            options[i],
            flags[i] >> 2,
        )
        for i, values in enumerate(fixed)
    )
    assert len(rows) == reader.n_rows == len(flags) == len(options)
    tables = [
        tuple(zip(unpack("I", column[at]), cut(column[at + 1], column[at + 2]), strict=True)) for at in (17, 20, 23)
    ]
    addresses = tuple((number, address.decode()) for number, address in tables[2])
    return Run(worker, rows, tables[0], tables[1], addresses)


def read_free(worker: int, body: bytes) -> Free:
    """Read a FREE body."""
    reader = ColumnReader(body, 4)
    assert unpack("Q", reader.column_bytes(0)) == (EPOCH,)
    ids = unpack("Q", reader.column_bytes(1))
    assert len(ids) == reader.n_rows
    return Free(worker, ids, unpack("I", reader.column_bytes(3)))


def read_retract(worker: int, body: bytes) -> Retract:
    """Read a RETRACT body."""
    reader = ColumnReader(body, 4)
    assert unpack("Q", reader.column_bytes(0)) == (EPOCH,)
    attempts = unpack("I", reader.column_bytes(2))
    return Retract(worker, tuple(zip(unpack("Q", reader.column_bytes(1)), attempts, strict=True)))


def read_state(client: int, body: bytes) -> State:
    """Read a STATE body; an error that a row shares with an earlier one is filled in."""
    reader = ColumnReader(body, 8)
    column = [reader.column_bytes(number) for number in range(8)]
    names = [name.decode() for name in cut(column[6], column[7])]
    rows = []
    last = b""
    for id, status, nbytes, type, payload in zip(
        unpack("Q", column[0]),
        map(TaskStatus, column[1]),
        unpack("Q", column[2]),
        unpack("I", column[3]),
        cut(column[4], column[5]),
        strict=True,
    ):
        last = payload or last
        shared = last if status not in (TaskStatus.STATUS_PENDING, TaskStatus.STATUS_FINISHED) else payload
        rows.append(StateRow(id, status, nbytes, names[type], shared))
    assert len(rows) == reader.n_rows
    return State(client, tuple(rows))
