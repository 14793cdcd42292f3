"""Temporary folders that only their user can read, that live as long as their owner and not longer.

Every folder lies in `<temp>/fastdist-<uid>` (mode 0700, owner checked). Its owner holds a lock on the folder
itself, which the kernel drops when the owner dies; whoever makes the next folder removes those that nobody
locks.

May import: nothing of fastdist.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class ScratchFolder:
    """A temporary folder, made at the first use of `path` and gone after `remove`.

    Parameters
    ----------
    prefix:
        What the folder's name starts with.
    parent:
        Folder to make it below; the system's temporary folder if None.

    Example
    -------
    >>> with ScratchFolder("example") as folder:
    ...     print(os.path.isdir(folder.path))
    True
    """

    def __init__(self, prefix: str, parent: str | os.PathLike[str] | None = None) -> None:
        self.prefix = prefix
        self.parent = parent
        self._lock = threading.Lock()
        self._path: str | None = None
        self._descriptor = -1
        self._owner = os.getpid()

    @property
    def path(self) -> str:
        """The folder, made now if it was not made before.

        Raises
        ------
        PermissionError
            The folder above belongs to another user or is open to others.
        """
        with self._lock:
            if self._path is None:
                self._path, self._descriptor = _create(self.prefix, self.parent)
            return self._path

    @property
    def exists(self) -> bool:
        """Whether the folder was made and not yet removed."""
        return self._path is not None

    def remove(self) -> None:
        """Remove the folder and all it holds; the user's folder above it too when it is empty."""
        with self._lock:
            path, self._path = self._path, None
            descriptor, self._descriptor = self._descriptor, -1
        if path is None:
            return
        os.close(descriptor)
        if os.getpid() == self._owner:
            remove_folder(path)

    def __enter__(self) -> ScratchFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"<ScratchFolder {self._path or 'not made yet'}>"


def remove_folder(path: str) -> None:
    """Remove `path` with all it holds, and the folder above if that leaves it empty; both may be absent."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))


def user_folder(parent: str | os.PathLike[str] | None = None) -> str:
    """Path of the folder that holds all scratch folders of this user below `parent`."""
    above = tempfile.gettempdir() if parent is None else os.fspath(parent)
    return os.path.join(above, f"fastdist-{os.getuid()}")


def remove_abandoned(parent: str | os.PathLike[str] | None = None) -> list[str]:
    """Remove the folders whose owners are dead, and return their paths."""
    with contextlib.suppress(FileNotFoundError), _locked_user_folder(user_folder(parent), make=False) as base:
        return _remove_unlocked(base)
    return []


def _create(prefix: str, parent: str | os.PathLike[str] | None) -> tuple[str, int]:
    base = user_folder(parent)
    if parent is not None:
        os.makedirs(parent, exist_ok=True)
    with _locked_user_folder(base, make=True):
        _remove_unlocked(base)
        path = os.path.join(base, f"{prefix}-{secrets.token_hex(6)}")
        os.mkdir(path, 0o700)
        descriptor = os.open(path, _OPEN_FOLDER)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return path, descriptor


@contextlib.contextmanager
def _locked_user_folder(base: str, make: bool) -> Iterator[str]:
    """Hold the lock of the user's folder, so that no folder in it is half made when another one looks."""
    while True:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(base, 0o700)
        try:
            descriptor = os.open(base, _OPEN_FOLDER)
        except FileNotFoundError:
            if not make:
                raise
            continue
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise PermissionError(_refusal(base, "it is not a plain folder")) from None
            raise
        try:
            _check_owner(base, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink == 0 or not os.path.exists(base):
                continue  # removed by its last user while this process waited for the lock
            yield base
            return
        finally:
            os.close(descriptor)


def _check_owner(base: str, descriptor: int) -> None:
    status = os.fstat(descriptor)
    if status.st_uid != os.getuid():
        raise PermissionError(_refusal(base, f"it belongs to user {status.st_uid}"))
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise PermissionError(_refusal(base, f"its mode is {mode:04o} instead of 0700"))


def _refusal(base: str, reason: str) -> str:
    return (
        f"will not put temporary files into {base}: {reason}. "
        "Remove it, or choose another place with TMPDIR or local_directory"
    )


def _remove_unlocked(base: str) -> list[str]:
    removed = []
    for name in os.listdir(base):
        path = os.path.join(base, name)
        try:
            descriptor = os.open(path, _OPEN_FOLDER)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
        finally:
            os.close(descriptor)
    return removed
