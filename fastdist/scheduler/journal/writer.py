"""Writes the journal: records wait in memory until `flush`, which is one `write`.

What was written survives the end of the process, not that of the machine, unless the setting `scheduler.journal-sync`
has it synced. While the disk is full, records wait in memory, up to a bound, and nobody is told that they are safe. May
import: errors, config, the other modules of this folder.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from fastdist.scheduler.journal.folder import JournalFolder, log_name
from fastdist.scheduler.journal.reader import Position
from fastdist.scheduler.journal.records import FileHead, pack_file_head, pack_record

logger = logging.getLogger("fastdist.scheduler")

#: Above it, the records that wait for a disk are given up, and the journal with them.
MAX_WAITING_BYTES = 256 << 20
#: What a file is called until its beginning is written.
NEW_FILE = "new"
#: Seconds between attempts to write while the disk refuses.
RETRY_SECONDS = 0.5


class JournalWriter:
    """The end of a journal, where records are added.

    Parameters
    ----------
    folder : JournalFolder
    position : Position
        Where the reading ended.
    sync_seconds : float, optional
        Have what was written on the disk at most so much later; by default the system decides.
    on_trouble : callable, optional
        Called with a sentence when writing fails, and when it works again.

    Attributes
    ----------
    safe : bool
        Whether all that was added is in the file.
    abandoned : bool
        Whether the journal was given up.
    n_bytes : int
        Of the current log file.
    """

    def __init__(
        self,
        folder: JournalFolder,
        position: Position,
        sync_seconds: float | None = None,
        on_trouble: Callable[[str], object] | None = None,
    ) -> None:
        self.safe = True
        self.abandoned = False
        self.n_bytes = 0
        self.number = position.file
        self.journal = position.journal or int.from_bytes(os.urandom(8), "little") | 1
        self._folder = folder
        self._next = position.next_record
        self._pieces: list[bytes | memoryview] = []
        self._n_waiting = 0
        self._retry_at = 0.0
        self._on_trouble = on_trouble
        self._file = -1
        self._write: Callable[[int, memoryview], int] = os.write
        self._syncer: _Syncer | None = None
        self.rotate()
        if sync_seconds is not None:
            self._syncer = _Syncer(self._file, sync_seconds)

    @property
    def next_record(self) -> int:
        """The number that the next record will have."""
        return self._next

    def add(self, kind: int, *pieces: bytes | memoryview) -> None:
        """A record, to be written by the next `flush`."""
        if self.abandoned:
            return
        record = pack_record(kind, self._next, *pieces)
        self._next += 1
        self._pieces.extend(record)
        self._n_waiting += sum(map(len, record))
        self.safe = False

    def flush(self) -> None:
        """Write what waits; while the disk refuses, it goes on waiting."""
        if not self._pieces or time.monotonic() < self._retry_at:
            return
        data = b"".join(self._pieces) if len(self._pieces) > 1 else bytes(self._pieces[0])
        try:
            _write_whole(self._write, self._file, data, self.n_bytes)
        except OSError as error:
            self._refused(error, data)
            return
        self._pieces.clear()
        self._n_waiting = 0
        self.n_bytes += len(data)
        if self._retry_at:
            self._retry_at = 0.0
            self._tell(f"the journal in {self._folder.path} can be written again, and is complete")
        self.safe = True
        if self._syncer is not None:
            self._syncer.wake()

    def _refused(self, error: OSError, data: bytes) -> None:
        if not self._retry_at:
            self._tell(
                f"the journal in {self._folder.path} cannot be written ({error}): what happens from now on would be "
                f"lost with the scheduler; up to {MAX_WAITING_BYTES >> 20} MiB of it wait for room"
            )
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self._pieces = [data]
        if self._n_waiting > MAX_WAITING_BYTES:
            self.abandoned = True
            self._pieces.clear()
            try:
                self._folder.abandon()
            except OSError as failure:
                # Then the file goes: no journal is better than one that is not true any more.
                logger.error("the journal cannot be marked as given up (%s): its files are removed", failure)
                self._folder.forget(self.number)
            self._tell(f"the journal in {self._folder.path} is given up: the scheduler goes on without one")

    def _tell(self, sentence: str) -> None:
        logger.error("%s", sentence)
        if self._on_trouble is not None:
            self._on_trouble(sentence)

    def rotate(self) -> int:
        """Begin another log file; returns the number of the one that is complete now."""
        self.flush()
        complete = self.number
        head = FileHead(self.journal, complete + 1, self._next)
        file = self._folder.open(NEW_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        try:
            _write_whole(self._write, file, pack_file_head(head), 0)
            # So a log file always has its beginning.
            self._folder.rename(NEW_FILE, log_name(head.number))
        except OSError:
            os.close(file)
            self._folder.remove(NEW_FILE)
            raise
        old, self._file = self._file, file
        self.number, self.n_bytes = head.number, len(pack_file_head(head))
        if self._syncer is not None:
            self._syncer.use(file)
        if old >= 0:
            os.close(old)
        return complete

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        self._retry_at = 0.0
        self.flush()
        if self._syncer is not None:
            self._syncer.stop()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _write_whole(write: Callable[[int, memoryview], int], file: int, data: bytes, length: int) -> None:
    """Write everything at the end of a file of this length, or leave it as it is."""
    view = memoryview(data)
    try:
        while view:
            view = view[write(file, view) :]
    except OSError:
        os.ftruncate(file, length)
        raise


class _Syncer:
    """A thread that has the journal on the disk soon after it was written."""

    def __init__(self, file: int, seconds: float) -> None:
        self._file = file
        self._seconds = seconds
        self._lock = threading.Lock()
        self._dirty = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fastdist-journal-sync", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was written."""
        self._dirty.set()

    def use(self, file: int) -> None:
        """Go on with another file; this one is synced first."""
        with self._lock:
            self._sync()
            self._file = file

    def _run(self) -> None:
        while not self._stop.is_set():
            self._dirty.wait()
            self._stop.wait(self._seconds)
            self._dirty.clear()
            with self._lock:
                self._sync()

    def _sync(self) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:
            logger.error("the journal cannot be synced: %s", error)

    def stop(self) -> None:
        """Sync once more, and end."""
        self._stop.set()
        self._dirty.set()
        self._thread.join()
