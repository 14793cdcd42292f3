"""Reads what a journal holds: the last snapshot, then the log files after it, in order.

May import: errors, the other modules of this folder.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

from fastdist.errors import JournalError
from fastdist.scheduler.journal.folder import JournalFolder, log_name, snapshot_name
from fastdist.scheduler.journal.records import RecordKind, RecordReader


@dataclass
class Position:
    """How far a journal was read."""

    #: 0 for a journal that has no files yet.
    journal: int = 0
    #: Of the last log file; 0 if there is none.
    file: int = 0
    #: The number that the next record has.
    next_record: int = 1
    #: Bytes of the last log file that count, and those behind them that do not.
    length: int = 0
    torn: int = 0
    n_records: int = 0
    n_bytes: int = 0


class JournalReader:
    """Goes over the records of a journal.

    Parameters
    ----------
    folder : JournalFolder
    up_to : int, optional
        The last log file to read; it and those before it are complete then.

    Attributes
    ----------
    position : Position
        How far the reading has come; complete at the end.

    Examples
    --------
    >>> for kind, body in JournalReader(folder):  # doctest: +SKIP
    ...     print(kind, len(body))
    """

    def __init__(self, folder: JournalFolder, up_to: int | None = None) -> None:
        self.position = Position()
        self._folder = folder
        self._up_to = up_to

    def __iter__(self) -> Iterator[tuple[RecordKind, memoryview]]:
        """(kind, body) of each record. A body is valid until the next one is asked for.

        Raises
        ------
        JournalError
            If something is damaged or missing; only the end of the last file may be.
        """
        snapshots = self._folder.snapshots()
        first = 1
        if snapshots:
            yield from self._read_snapshot(snapshots[-1])
            first = snapshots[-1] + 1
        logs = [number for number in self._folder.logs() if number >= first]
        if self._up_to is not None:
            logs = [number for number in logs if number <= self._up_to]
        for wanted, number in enumerate(logs, first):
            if wanted != number:
                raise JournalError(f"the journal in {self._folder.path} lacks the file {log_name(wanted)}")
        for number in logs:
            yield from self._read_log(number, last=number == logs[-1] and self._up_to is None)

    def _read_snapshot(self, number: int) -> Iterator[tuple[RecordKind, memoryview]]:
        name = snapshot_name(number)
        ended = False
        with _mapped(self._folder, name) as data:
            reader = RecordReader(data, self._shown(name))
            for kind, body in reader:
                ended = kind is RecordKind.END
                if ended:
                    self.position.next_record = int.from_bytes(body[:8], "little")
                else:
                    yield kind, body
                body.release()
            self._count(reader, len(data))
        if not ended:
            raise JournalError(f"{self._shown(name)} is damaged: it has no end")
        self.position.journal = reader.head.journal
        self.position.file = number

    def _read_log(self, number: int, *, last: bool) -> Iterator[tuple[RecordKind, memoryview]]:
        name, position = log_name(number), self.position
        with _mapped(self._folder, name) as data:
            reader = RecordReader(data, self._shown(name))
            head = reader.head
            if head.number != number or (position.journal and head.journal != position.journal):
                raise JournalError(f"{self._shown(name)} belongs to another journal, or to another place in it")
            if head.first_record != position.next_record:
                raise JournalError(
                    f"the journal in {self._folder.path} has a gap: {name} begins with record {head.first_record}, and "
                    f"{position.next_record} was to be the next"
                )
            for kind, body in reader:
                yield kind, body
                body.release()
            self._count(reader, len(data))
            assert reader.tail is not None
            if reader.tail.torn and not last:
                raise JournalError(f"{self._shown(name)} is damaged at byte {reader.tail.length}")
        position.journal, position.file = head.journal, number
        position.next_record, position.length = reader.tail.next_record, reader.tail.length
        position.torn = reader.tail.torn

    def _count(self, reader: RecordReader, n_bytes: int) -> None:
        assert reader.tail is not None
        self.position.n_records += reader.tail.next_record - reader.head.first_record
        self.position.n_bytes += n_bytes

    def _shown(self, name: str) -> str:
        return os.path.join(self._folder.path, name)


class _mapped:
    """A file of the folder as memory."""

    def __init__(self, folder: JournalFolder, name: str) -> None:
        file = folder.open(name, os.O_RDONLY)
        try:
            self._map = mmap.mmap(file, 0, prot=mmap.PROT_READ) if os.fstat(file).st_size else None
        finally:
            os.close(file)
        self._view = memoryview(b"" if self._map is None else self._map)

    def __enter__(self) -> memoryview:
        return self._view

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            # The traceback still has slices of it; they go with the error.
            return
        self._view.release()
        if self._map is not None:
            self._map.close()
