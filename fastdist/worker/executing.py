"""The page of memory that tells what a worker is executing, readable after its death.

Each execution thread writes the task before it calls the user's function, two stores, and a zero afterwards.
The page is a file that is mapped into the process, so whatever kills the process, the last stores are in it.

Layout, in 64-bit words: magic, number of places, then two words for each place: task id, and
`1 << 32 | attempt` while that task executes, else 0. May import: nothing of fastdist.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

MAGIC = int.from_bytes(b"fdexec01", "little")
PAGE_BYTES = 4096
#: How many tasks one page can name.
PLACES = PAGE_BYTES // 16 - 1
_BUSY = 1 << 32


class ExecutingPage:
    """The page of this process.

    Parameters
    ----------
    path : str or path
        The file; made if it does not exist.

    Examples
    --------
    >>> page = ExecutingPage(folder / "executing")  # doctest: +SKIP
    >>> read_page(page.path)  # doctest: +SKIP
    []
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, PAGE_BYTES)
            self.memory = mmap.mmap(descriptor, PAGE_BYTES)
        finally:
            os.close(descriptor)
        struct.pack_into("<QQ", self.memory, 0, MAGIC, PLACES)

    def close(self) -> None:
        """Remove the file and give back the memory."""
        self.memory.close()
        Path(self.path).unlink(missing_ok=True)


def read_page(path: str | os.PathLike[str]) -> list[tuple[int, int]]:
    """The tasks that a process was executing: (task id, attempt) of each.

    Parameters
    ----------
    path : str or path
        File of the `ExecutingPage` of that process.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If it is no such page.
    """
    data = Path(path).read_bytes()
    if len(data) != PAGE_BYTES or struct.unpack_from("<QQ", data) != (MAGIC, PLACES):
        raise ValueError(f"{os.fspath(path)} is not a page of executing tasks")
    places = struct.iter_unpack("<QQ", data[16:])
    return [(task_id, word & 0xFFFFFFFF) for task_id, word in places if word & _BUSY]
