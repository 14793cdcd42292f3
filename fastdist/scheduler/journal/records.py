"""The form of a journal file: a header, then numbered records, each with its own checksum.

A file begins with 40 bytes (magic, the journal's id, the number of the file, the number of its first record, the
checksum of these). A record is 24 bytes (checksum, kind, number, length) and its body, filled up to a multiple of 8;
the checksum covers all but itself. Numbers go on from file to file, so a record or a file that is missing, doubled or
in the wrong place shows. May import: errors.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from fastdist.errors import JournalError

MAGIC = b"FDJRNL01"
#: magic, id of the journal, number of the file, number of its first record, reserved, checksum
FILE_HEADER = struct.Struct("<8sQQQII")
_FILE_FIELDS = struct.Struct("<8sQQQI")
#: checksum, kind, number, length
RECORD_HEADER = struct.Struct("<IIQQ")
_RECORD_FIELDS = struct.Struct("<IQQ")
#: After a damaged record, so many of the numbers that follow are looked for.
LOOK_AHEAD = 64


class RecordKind(enum.IntEnum):
    """What a record holds."""

    #: An event of the core: msgpack [name, arguments].
    EVENT = 1
    #: A TASKS frame: client, time, frame.
    TASKS = 2
    #: A RELEASE frame: client, frame.
    RELEASE = 3
    #: What became of tasks: msgpack list of [key, retries, suspicious, error or None].
    OUTCOMES = 4
    #: A client, a worker, or a part of the scheduler changed: msgpack [subject, change].
    FACT = 5
    #: Rows of a snapshot; see `_core/scheduler/snapshot`.
    ROWS = 6
    #: The last record of a snapshot.
    END = 7


@dataclass(frozen=True)
class FileHead:
    """What the beginning of a file says."""

    journal: int
    number: int
    first_record: int


@dataclass(frozen=True)
class Tail:
    """Where the readable part of a file ends."""

    #: Bytes up to the end of the last whole record.
    length: int
    #: The number that the next record has.
    next_record: int
    #: Bytes behind it: the beginning of a record whose rest was never written.
    torn: int


def pack_file_head(head: FileHead) -> bytes:
    """The first bytes of a file."""
    fields = _FILE_FIELDS.pack(MAGIC, head.journal, head.number, head.first_record, 0)
    return fields + struct.pack("<I", zlib.crc32(fields))


def read_file_head(data: memoryview | bytes, name: str) -> FileHead:
    """What the first bytes of a file say.

    Raises
    ------
    JournalError
        If this is no journal file, or its beginning is damaged.
    """
    if len(data) < FILE_HEADER.size:
        raise JournalError(f"{name} is damaged: it is shorter than the beginning of a journal file")
    magic, journal, number, first, _, checksum = FILE_HEADER.unpack_from(data)
    if magic != MAGIC:
        raise JournalError(f"{name} is no journal file of this version: it begins with {magic!r}")
    if zlib.crc32(data[: _FILE_FIELDS.size]) != checksum:
        raise JournalError(f"{name} is damaged: the checksum of its beginning does not match")
    return FileHead(journal, number, first)


def pack_record(kind: int, number: int, *pieces: bytes | memoryview) -> list[bytes | memoryview]:
    """A record, as the pieces to write."""
    length = sum(map(len, pieces))
    fields = _RECORD_FIELDS.pack(kind, number, length)
    if length % 8:
        pieces = (*pieces, bytes(-length % 8))
    checksum = zlib.crc32(fields)
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return [struct.pack("<I", checksum) + fields, *pieces]


class RecordReader:
    """Goes over the records of one file.

    Parameters
    ----------
    data : memoryview
        The whole file.
    name : str
        Of the file, for messages.

    Attributes
    ----------
    head : FileHead
    tail : Tail or None
        Known when all records were read.
    """

    def __init__(self, data: memoryview, name: str) -> None:
        self.head = read_file_head(data, name)
        self.tail: Tail | None = None
        self._data = data
        self._name = name

    def __iter__(self) -> Iterator[tuple[RecordKind, memoryview]]:
        """(kind, body) of each record.

        Raises
        ------
        JournalError
            At a record that is damaged, with whole ones behind it.
        """
        data, offset, number = self._data, FILE_HEADER.size, self.head.first_record
        while offset < len(data):
            end = _end_of(data, offset, number)
            if end == 0:
                self._refuse_damage(offset, number)
                break
            (kind,) = struct.unpack_from("<I", data, offset + 4)
            try:
                known = RecordKind(kind)
            except ValueError:
                raise JournalError(
                    f"{self._name} has a record of the unknown kind {kind} at byte {offset}: it was written by a newer "
                    "version of fastdist"
                ) from None
            (length,) = struct.unpack_from("<Q", data, offset + 16)
            yield known, data[offset + RECORD_HEADER.size : offset + RECORD_HEADER.size + length]
            offset, number = end, number + 1
        self.tail = Tail(offset, number, len(data) - offset)

    def _refuse_damage(self, offset: int, number: int) -> None:
        """What cannot be read is the torn end of the file, or else damage."""
        rest = bytes(self._data[offset:])
        for following in range(number + 1, number + 1 + LOOK_AHEAD):
            pattern = struct.pack("<Q", following)
            place = rest.find(pattern)
            while place >= 0:
                if place >= 8 and _end_of(rest, place - 8, following):
                    raise JournalError(
                        f"{self._name} is damaged at byte {offset} (record {number}): what follows it is whole, so "
                        "this is not the end of an interrupted write; restore the folder from a copy, or start with "
                        "another folder and without what this one holds"
                    )
                place = rest.find(pattern, place + 1)


def _end_of(data: memoryview | bytes, offset: int, number: int) -> int:
    """Where the whole record with this number at `offset` ends; 0 if there is none."""
    if len(data) - offset < RECORD_HEADER.size:
        return 0
    checksum, _, found, length = RECORD_HEADER.unpack_from(data, offset)
    end = offset + RECORD_HEADER.size + length + -length % 8
    if found != number or end > len(data):
        return 0
    return end if zlib.crc32(data[offset + 4 : end]) == checksum else 0
