"""Small functions about functions, files, bytes and hosts that libraries import from dask.distributed's `utils`.

May import: every layer below.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, BinaryIO

from fastdist.comm.addresses import interface_address, local_address_for
from fastdist.compat.names import group_name
from fastdist.config import parse_timedelta
from fastdist.uploads import load_module, top_modules

LINUX = sys.platform == "linux"
MACOS = sys.platform == "darwin"
WINDOWS = sys.platform.startswith("win")

#: The names of levels by number, and the numbers by name.
logging_names: dict[str | int, int | str] = dict([*logging._nameToLevel.items(), *logging._levelToName.items()])

#: Bytes that are read at once while a delimiter is looked for.
_SEARCH_BYTES = 1 << 16


def has_arg(func: Callable[..., Any], argname: str) -> bool:
    """Whether a function has a parameter of this name.

    Examples
    --------
    >>> has_arg(lambda x, *, y=1: x, "y")
    True
    """
    return has_keyword(func, argname)


def has_keyword(func: Callable[..., Any], keyword: str) -> bool:
    """Whether a function has a parameter of this name; False if nobody knows what it takes."""
    try:
        return keyword in inspect.signature(func).parameters
    except (TypeError, ValueError):
        return False


def key_split_group(x: Any) -> str:
    """The part of a key that names its collection, layer or `map`.

    Examples
    --------
    >>> key_split_group(("x-1", 2))
    'x-1'
    """
    return group_name(x)


class TupleComparable:
    """A tuple, number or None that can be compared with the others: None is 0, and a number a tuple of itself.

    Examples
    --------
    >>> TupleComparable(1) < TupleComparable((1, 2))
    True
    """

    def __init__(self, obj: Any) -> None:
        if obj is None:
            self.obj: tuple[Any, ...] = (0,)
        elif isinstance(obj, tuple):
            self.obj = obj
        elif isinstance(obj, (int, float)):
            self.obj = (obj,)
        else:
            raise ValueError(f"TupleComparable takes a tuple, a number or None, not {obj!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TupleComparable) and self.obj == other.obj

    def __lt__(self, other: TupleComparable) -> bool:
        return self.obj < other.obj

    def __hash__(self) -> int:
        return hash(self.obj)


# -- exceptions and logs -------------------------------------------------------------------------------------


def get_traceback() -> Any:
    """The traceback of the exception that is being handled; None without one."""
    return sys.exc_info()[2]


def truncate_exception(e: BaseException, n: int = 10_000) -> BaseException:
    """The exception, or one of the same class with a shorter text, if its text is longer than `n`."""
    text = str(e)
    if len(text) <= n:
        return e
    short = "".join(traceback.format_exception_only(type(e), e)).strip()[:n]
    try:
        return type(e)("Long error message", short)
    except Exception:  # of a class that wants other arguments
        return Exception("Long error message", type(e), short)


@contextlib.contextmanager
def silence_logging_cmgr(level: str | int, root: str = "distributed") -> Iterator[None]:
    """Let the handlers of a logger pass on only messages of a level or above, while a block runs.

    Parameters
    ----------
    level : str or int
        Such as `"ERROR"`.
    root : str
        The logger. "distributed" stands for that of fastdist.
    """
    number = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    if not isinstance(number, int):
        raise ValueError(f"there is no level of logging {level!r}")
    name = "fastdist" + root.removeprefix("distributed") if root.partition(".")[0] == "distributed" else root
    handlers = [each for each in logging.getLogger(name).handlers if isinstance(each, logging.StreamHandler)]
    before = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(number)
    try:
        yield
    finally:
        for handler, old in zip(handlers, before, strict=True):
            handler.setLevel(old)


def is_kernel() -> bool:
    """Whether this is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell is not None else None
    return getattr(running, "kernel", None) is not None


# -- files and bytes -----------------------------------------------------------------------------------------


def ensure_memoryview(obj: Any) -> memoryview:
    """The bytes of a buffer as a flat view: without a copy, if they lie side by side."""
    view = memoryview(obj)
    if not view.nbytes:
        return memoryview(bytearray())
    if not view.contiguous:
        return memoryview(bytearray(view))
    return view if view.ndim == 1 and view.format == "B" else view.cast("B")


def json_load_robust(fn: Any, load: Callable[[Any], Any] = json.load, timeout: Any = None) -> Any:
    """The content of a JSON file that another process may be about to write.

    Parameters
    ----------
    fn : path
        The file; it is waited for.
    load : callable
        Takes the open file.
    timeout : number or str, optional
        How long to wait; without end by default.

    Raises
    ------
    TimeoutError
        If it is not there, or incomplete, at the end of that time.
    """
    end = None if timeout is None else time.monotonic() + parse_timedelta(timeout)
    while True:
        try:
            with open(fn) as file:
                return load(file)
        except (FileNotFoundError, ValueError) as error:
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"could not load {os.fspath(fn)!r} within {timeout}: {error!r}") from error
        time.sleep(0.01)


def seek_delimiter(file: BinaryIO, delimiter: bytes, blocksize: int = _SEARCH_BYTES) -> None:
    """Go on to the byte after the next delimiter, or to the end; the start of a file counts as after one."""
    if file.tell() == 0:
        return
    last = b""
    while current := file.read(blocksize):
        found = (last + current).find(delimiter)
        if found >= 0:
            file.seek(found + len(delimiter) - len(last) - len(current), os.SEEK_CUR)
            return
        last = (last + current)[-len(delimiter) :] if len(delimiter) > 1 else b""


def read_block(f: BinaryIO, offset: int, length: int, delimiter: bytes | None = None) -> bytes:
    """Bytes of a file; with a delimiter from the first one in the block to the first one after it.

    Parameters
    ----------
    f : binary file
    offset, length : int
        Where the block starts, and its bytes.
    delimiter : bytes, optional
        Both ends are moved to the byte after the next one.
    """
    if delimiter:
        f.seek(offset)
        seek_delimiter(f, delimiter)
        start = f.tell()
        f.seek(offset + length)
        seek_delimiter(f, delimiter)
        offset, length = start, f.tell() - start
    f.seek(offset)
    return f.read(length)


@contextlib.contextmanager
def tmp_text(filename: str, text: str) -> Iterator[str]:
    """A file of this name and content in a folder of its own, which is removed after the block."""
    folder = tempfile.mkdtemp()
    try:
        path = os.path.join(folder, filename)
        with open(path, "w") as file:
            file.write(text)
        yield path
    finally:
        shutil.rmtree(folder)


def import_file(path: str) -> list[ModuleType]:
    """Import the modules of a `.py` file or a zip archive, anew if they are there; its folder becomes importable.

    Raises
    ------
    ValueError
        For other files.
    """
    folder, filename = os.path.split(os.path.abspath(path))
    stem, extension = os.path.splitext(filename)
    if extension == ".py":
        place, names = folder, [stem]
    elif extension in (".zip", ".egg", ".pyz"):
        place, names = os.path.join(folder, filename), top_modules(path)
    else:
        raise ValueError(f"{path!r} is no .py, .zip, .egg or .pyz file")
    if place not in sys.path:
        sys.path.insert(0, place)
    return [load_module(name, folder) for name in names]


# -- hosts ---------------------------------------------------------------------------------------------------


def open_port(host: str = "") -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def get_ipv6(host: str = "2001:4860:4860::8888", port: int = 80) -> str:
    """The IPv6 address that this machine uses to reach another one."""
    return local_address_for(host, port)


def get_ip_interface(ifname: str) -> str:
    """The IPv4 address of a network interface.

    Raises
    ------
    ValueError
        If there is no such interface.
    """
    return interface_address(ifname)


def ensure_concrete_host(host: str, default_host: str | None = None) -> str:
    """A host that others can connect to, in place of one that stands for all interfaces."""
    if host in ("", "0.0.0.0"):
        return default_host or local_address_for()
    if host == "::":
        return default_host or get_ipv6()
    return host
