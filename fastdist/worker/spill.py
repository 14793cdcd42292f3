"""Results of tasks by task id, with the least recently used ones on disk when memory is short.

The lock is held for bookkeeping only: values are pickled, written, read and dropped outside it. A value that
cannot be pickled, or for which there is no room on the disk, stays in memory; nothing is ever lost.

May import: `fastdist.protocol`, `fastdist.system`.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

logger = logging.getLogger("fastdist.worker.memory")

#: Seconds without further attempts to write after the disk was found full.
DISK_FULL_PAUSE = 10.0

_WRITE_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class _Entry:
    """One value: in memory while `path` is None, else in the file `path`."""

    __slots__ = ("busy", "nbytes", "path", "size_on_disk", "value")

    def __init__(self, value: object, nbytes: int) -> None:
        self.value = value
        self.nbytes = nbytes
        self.path: str | None = None
        self.size_on_disk = 0
        # Being written by a thread at this moment.
        self.busy = False


class SpillStore:
    """A mapping from task id to result that keeps at most `target` bytes in memory, as far as it can.

    Parameters
    ----------
    directory:
        Folder for the files, or a function that makes it when the first value is spilled.
    target:
        Bytes of values to keep in memory; None for no limit.
    dumps, loads:
        Value to buffers, and the buffers' joined bytes back to the value. By default those of
        `fastdist.protocol`.
    max_spill:
        Bytes that may lie on disk; None for no limit.

    Example
    -------
    >>> store = SpillStore("/tmp", target=None)
    >>> store.put(1, "result", 6)
    >>> store.get(1)
    'result'
    """

    def __init__(
        self,
        directory: str | Callable[[], str],
        target: int | None,
        *,
        dumps: Callable[[Any], Iterable[Any]] | None = None,
        loads: Callable[[bytearray], Any] | None = None,
        max_spill: int | None = None,
    ) -> None:
        self._directory = directory
        self.target = target
        self.max_spill = max_spill
        if dumps is None or loads is None:
            dumps, loads = _default_codec()
        self._dumps = dumps
        self._loads = loads
        self._lock = threading.Lock()
        # The order of a dict is the order of use: a value that is read moves to the end.
        self._memory: dict[int, _Entry] = {}
        self._disk: dict[int, _Entry] = {}
        # In memory for ever, because they cannot be pickled.
        self._stuck: dict[int, _Entry] = {}
        self._memory_bytes = 0
        self._disk_bytes = 0
        self._disk_bytes_written = 0
        self._file_number = 0
        self._full_until = 0.0
        self._full_was_logged = False

    def put(self, task_id: int, value: object, nbytes: int) -> None:
        """Keep `value`, which takes `nbytes` of memory, and spill others if that is too much.

        A value that was there under the same id is replaced.
        """
        entry = _Entry(value, nbytes)
        with self._lock:
            replaced = self._take(task_id)
            self._memory[task_id] = entry
            self._memory_bytes += nbytes
            over = self.target is not None and self._memory_bytes > self.target
        self._discard(replaced)
        if over:
            self._make_room(task_id, entry)

    def get(self, task_id: int) -> Any:
        """The value of a task; one on disk comes back to memory.

        Raises
        ------
        KeyError
            There is no value for this task.
        OSError
            The file of the value cannot be read.
        """
        while True:
            with self._lock:
                entry = self._memory.pop(task_id, None)
                if entry is not None:
                    self._memory[task_id] = entry
                    return entry.value
                if task_id in self._stuck:
                    return self._stuck[task_id].value
                entry = self._disk[task_id]
                path = entry.path
            assert path is not None
            try:
                content = _read(path)
            except FileNotFoundError:
                # Another thread brought the value back or dropped it meanwhile; if not, the file is really
                # gone.
                if self._disk.get(task_id) is entry and entry.path == path:
                    raise
                continue
            value = self._loads(content)
            if self._bring_back(task_id, entry, path, value):
                return value

    def drop(self, task_id: int) -> None:
        """Forget the value of a task, in memory and on disk, if there is one."""
        with self._lock:
            entry = self._take(task_id)
        self._discard(entry)

    def rename(self, pairs: list[tuple[int, int]]) -> None:
        """Keep values under other ids: pairs of an old and a new one; no new id is also an old one."""
        with self._lock:
            for old, new in pairs:
                for table in (self._memory, self._disk, self._stuck):
                    if old in table:
                        table[new] = table.pop(old)

    def evict_until(self, nbytes: int) -> int:
        """Spill the least recently used values until at most `nbytes` stay; returns the bytes freed."""
        freed = 0
        while True:
            with self._lock:
                if self._memory_bytes <= nbytes:
                    return freed
                victim = self._choose_victim()
            if victim is None:
                return freed
            freed += self._spill(*victim)

    def evict_one(self) -> int:
        """Spill the least recently used value; returns the bytes it took, 0 if none can be spilled."""
        while True:
            with self._lock:
                victim = self._choose_victim()
            if victim is None:
                return 0
            freed = self._spill(*victim)
            if freed:
                return freed

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            entries = [*self._memory.values(), *self._disk.values(), *self._stuck.values()]
            self._memory, self._disk, self._stuck = {}, {}, {}
            self._memory_bytes = self._disk_bytes = 0
        for entry in entries:
            self._discard(entry)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the values in memory."""
        return self._memory_bytes

    @property
    def disk_bytes(self) -> int:
        """Bytes of the files on disk."""
        return self._disk_bytes

    @property
    def disk_bytes_written(self) -> int:
        """Bytes written to disk since the start."""
        return self._disk_bytes_written

    @property
    def nbytes(self) -> tuple[int, int]:
        """Bytes in memory and bytes on disk."""
        return self._memory_bytes, self._disk_bytes

    def is_on_disk(self, task_id: int) -> bool:
        """Whether the value of a task lies on disk."""
        return task_id in self._disk

    def __contains__(self, task_id: object) -> bool:
        with self._lock:
            return task_id in self._memory or task_id in self._disk or task_id in self._stuck

    def __len__(self) -> int:
        with self._lock:
            return len(self._memory) + len(self._disk) + len(self._stuck)

    def __iter__(self) -> Iterator[int]:
        with self._lock:
            return iter([*self._memory, *self._disk, *self._stuck])

    def __repr__(self) -> str:
        in_memory = len(self._memory) + len(self._stuck)
        return (
            f"<SpillStore: {in_memory} values of {self._memory_bytes} bytes in memory, "
            f"{len(self._disk)} of {self._disk_bytes} bytes on disk>"
        )

    # -- with the lock held ----------------------------------------------------------------------------------

    def _take(self, task_id: int) -> _Entry | None:
        entry = self._memory.pop(task_id, None) or self._stuck.pop(task_id, None)
        if entry is not None:
            self._memory_bytes -= entry.nbytes
            return entry
        entry = self._disk.pop(task_id, None)
        if entry is not None:
            self._disk_bytes -= entry.size_on_disk
        return entry

    def _choose_victim(self) -> tuple[int, _Entry] | None:
        if self._full_until and time.monotonic() < self._full_until:
            return None
        for task_id, entry in self._memory.items():
            if not entry.busy:
                entry.busy = True
                return task_id, entry
        return None

    # -- without the lock ------------------------------------------------------------------------------------

    def _make_room(self, task_id: int, entry: _Entry) -> None:
        assert self.target is not None
        if entry.nbytes > self.target:
            # It would push everything else out and then itself.
            with self._lock:
                free = not entry.busy and not (self._full_until and time.monotonic() < self._full_until)
                entry.busy = True if free else entry.busy
            if free:
                self._spill(task_id, entry)
        self.evict_until(self.target)

    def _spill(self, task_id: int, entry: _Entry) -> int:
        """Write one entry that is marked as busy to disk; returns the bytes of memory that this freed."""
        try:
            if getattr(type(entry.value), "__fastdist_stays__", False):
                raise TypeError(f"{entry.value!r} stays in memory")
            buffers = list(self._dumps(entry.value))
        except Exception as error:
            # Legal until the value must travel.
            with self._lock:
                if self._memory.get(task_id) is entry:
                    self._stuck[task_id] = self._memory.pop(task_id)
            logger.debug("the result of task %s cannot be pickled and stays in memory: %s", task_id, error)
            return 0
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        if self.max_spill is not None and self._disk_bytes + size > self.max_spill:
            self._disk_is_full(entry, f"the limit of {self.max_spill} bytes on disk is reached")
            return 0
        try:
            path = self._write(task_id, buffers)
        except OSError as error:
            self._disk_is_full(entry, str(error))
            return 0
        with self._lock:
            kept = self._memory.get(task_id) is entry
            if kept:
                del self._memory[task_id]
                value, entry.value = entry.value, None
                entry.path, entry.size_on_disk, entry.busy = path, size, False
                self._disk[task_id] = entry
                self._memory_bytes -= entry.nbytes
                self._disk_bytes += size
                self._disk_bytes_written += size
        if not kept:
            _remove(path)
            return 0
        del value, buffers
        return entry.nbytes

    def _bring_back(self, task_id: int, entry: _Entry, path: str, value: object) -> bool:
        """Move an entry that was read from disk to memory; False if another thread changed it meanwhile."""
        with self._lock:
            if self._disk.get(task_id) is not entry or entry.path != path:
                return False
            del self._disk[task_id]
            self._disk_bytes -= entry.size_on_disk
            entry.value, entry.path, entry.size_on_disk = value, None, 0
            self._memory[task_id] = entry
            self._memory_bytes += entry.nbytes
            over = self.target is not None and self._memory_bytes > self.target
        _remove(path)
        if over:
            self._make_room(task_id, entry)
        return True

    def _write(self, task_id: int, buffers: list[Any]) -> str:
        directory = self._directory if isinstance(self._directory, str) else self._directory()
        with self._lock:
            self._file_number += 1
            number = self._file_number
        name = hashlib.blake2b(f"{task_id}-{number}-{os.getpid()}".encode(), digest_size=16).hexdigest()
        path = os.path.join(directory, name)
        descriptor = os.open(path, _WRITE_NEW, 0o600)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                for buffer in buffers:
                    _write_all(file.fileno(), memoryview(buffer).cast("B"))
        except BaseException:
            _remove(path)
            raise
        return path

    def _disk_is_full(self, entry: _Entry, reason: str) -> None:
        with self._lock:
            entry.busy = False
            self._full_until = time.monotonic() + DISK_FULL_PAUSE
            was_logged, self._full_was_logged = self._full_was_logged, True
        if not was_logged:
            logger.warning(
                "cannot spill results to disk: %s. Results stay in memory; free some space or choose another "
                "place with local_directory",
                reason,
            )

    def _discard(self, entry: _Entry | None) -> None:
        if entry is not None and entry.path is not None:
            _remove(entry.path)


def _default_codec() -> tuple[Callable[[Any], Iterable[Any]], Callable[[bytearray], Any]]:
    from fastdist.protocol import results

    return results.dumps, lambda content: results.loads([content])


def _read(path: str) -> bytearray:
    """The content of a file, writable: arrays that share its memory can be changed like any other."""
    with open(path, "rb", buffering=0) as file:
        content = bytearray(os.fstat(file.fileno()).st_size)
        view = memoryview(content)
        done = 0
        while done < len(content):
            count = file.readinto(view[done:])
            if not count:
                raise OSError(f"the spilled result {path} is cut off at {done} of {len(content)} bytes")
            done += count
    return content


def _write_all(descriptor: int, view: memoryview) -> None:
    while view.nbytes:
        view = view[os.write(descriptor, view) :]


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
