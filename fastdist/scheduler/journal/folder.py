"""The folder of a journal: who may use it, and the names of its files.

One scheduler owns it at a time (a lock that ends with its process); nobody else may write into it. Files are
`00000012.log`, and `00000012.snapshot` for what the files up to that number came to. May import: errors.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator

from fastdist.errors import JournalError

_NAME = re.compile(r"(\d{8})\.(log|snapshot)")
_LOCK = "lock"
#: Made where the journal was given up: what is in the folder is not all that happened.
_ABANDONED = "abandoned"


class JournalFolder:
    """A folder with a journal, held by this process until `close`.

    Parameters
    ----------
    path : str
        Made if it is not there.
    shared : bool
        Leave the lock to the process that this one works for.

    Raises
    ------
    JournalError
        If another process holds it, it belongs to somebody else, or others may write into it.
    """

    def __init__(self, path: str | os.PathLike[str], *, shared: bool = False) -> None:
        self.path = os.path.abspath(os.fspath(path))
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        self._folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            self._check_owner()
            self._lock = -1 if shared else self._take()
        except BaseException:
            os.close(self._folder)
            raise
        if self.has(_ABANDONED):
            self.close()
            raise JournalError(
                f"the journal in {self.path} was given up by its scheduler, because it could not be written (a full "
                f"disk?), and is incomplete: remove the folder, or its file {_ABANDONED!r} to go on with what is there"
            )

    def _check_owner(self) -> None:
        found = os.fstat(self._folder)
        if found.st_uid != os.geteuid():
            raise JournalError(f"{self.path} belongs to user {found.st_uid}, not to you, user {os.geteuid()}")
        if stat.S_IMODE(found.st_mode) & 0o022:
            raise JournalError(f"others may write into {self.path}: a journal needs a folder of your own (0700)")
        os.fchmod(self._folder, 0o700)

    def _take(self) -> int:
        lock = self.open(_LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise JournalError(
                    f"another scheduler has its journal in {self.path}: each needs a folder of its own"
                ) from None
            raise
        return lock

    def open(self, name: str, flags: int) -> int:
        """A file of the folder; never a link, readable by its owner only.

        Raises
        ------
        JournalError
            If it belongs to somebody else.
        """
        file = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
        owner = os.fstat(file).st_uid
        if owner != os.geteuid():
            os.close(file)
            raise JournalError(f"{os.path.join(self.path, name)} belongs to user {owner}")
        return file

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        try:
            os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return os.stat(name, dir_fd=self._folder, follow_symlinks=False).st_size

    def _numbers(self, kind: str) -> Iterator[int]:
        for name in os.listdir(self._folder):
            match = _NAME.fullmatch(name)
            if match is not None and match[2] == kind:
                yield int(match[1])

    def logs(self) -> list[int]:
        """Numbers of the log files, in order."""
        return sorted(self._numbers("log"))

    def snapshots(self) -> list[int]:
        """Numbers of the snapshots, in order; the last one counts."""
        return sorted(self._numbers("snapshot"))

    def forget(self, up_to: int) -> None:
        """Remove the log files up to a number, and the snapshots before it: the snapshot of that number has it all."""
        for number in self.logs():
            if number <= up_to:
                os.unlink(log_name(number), dir_fd=self._folder)
        for number in self.snapshots():
            if number < up_to:
                os.unlink(snapshot_name(number), dir_fd=self._folder)

    def rename(self, old: str, new: str) -> None:
        """Give a file its name, once it is whole."""
        os.rename(old, new, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        os.fsync(self._folder)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)

    def abandon(self) -> None:
        """Mark what is in the folder as incomplete."""
        os.close(self.open(_ABANDONED, os.O_WRONLY | os.O_CREAT))

    def sync(self) -> None:
        """Have the names in the folder on the disk."""
        os.fsync(self._folder)

    def close(self) -> None:
        """Let another process have the folder."""
        if self._folder >= 0:
            if self._lock >= 0:
                os.close(self._lock)
            os.close(self._folder)
            self._folder = -1


def log_name(number: int) -> str:
    """The name of a log file."""
    return f"{number:08d}.log"


def snapshot_name(number: int) -> str:
    """The name of the snapshot of everything up to a log file."""
    return f"{number:08d}.snapshot"
