"""`print` and `warn` for tasks: what they say appears on the worker and at every client.

May import: `context`, `system`.
"""

from __future__ import annotations

import builtins
import sys
import warnings
from typing import Any

from fastdist.context import current_worker
from fastdist.system.whereabouts import this_process

#: Longer texts are cut before they are sent; the worker's own output has all of it.
MAX_TEXT = 1 << 20


def print(
    *args: Any, sep: str | None = " ", end: str | None = "\n", file: Any = None, flush: bool = False
) -> None:
    """Print here and, in a task, at every client of the cluster, too.

    Parameters
    ----------
    *args
        What to print; clients get the text of it.
    sep, end, flush
        As of the builtin `print`.
    file : file, optional
        None, `sys.stdout` or `sys.stderr`: there is no other that client and worker have in common.

    Raises
    ------
    TypeError
        If `file` is another one and this is a task, or `sep` or `end` is no text.

    Examples
    --------
    >>> client.submit(lambda: print("hello from", get_worker().name))  # doctest: +SKIP
    """
    for name, value in (("sep", sep), ("end", end)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} must be None or a text, not {type(value).__name__}")
    worker = current_worker.get()
    if worker is not None:
        message = {
            "args": [str(arg)[:MAX_TEXT] for arg in args],
            "sep": sep,
            "end": end,
            "file": _number_of(file),
            "flush": bool(flush),
            "process": this_process(),
        }
        worker.log_event("print", message)
    builtins.print(*args, sep=sep, end=end, file=file, flush=flush)


def _number_of(file: Any) -> int | None:
    """The number by which clients know a standard stream."""
    if file is None:
        return None
    if file is sys.stdout:
        return 1
    if file is sys.stderr:
        return 2
    raise TypeError(f"a task can print to None, sys.stdout or sys.stderr, not to {file!r}")


def warn(
    message: str | Warning,
    category: type[Warning] | None = UserWarning,
    stacklevel: int = 1,
    source: Any = None,
) -> None:
    """Warn here and, in a task, at every client of the cluster, too.

    Parameters
    ----------
    message : str or Warning
        What to say.
    category : type, optional
        The class of the warning; a client that has no such class shows a UserWarning.
    stacklevel, source
        As of `warnings.warn`, for the worker's own warning.

    Examples
    --------
    >>> client.submit(lambda: warn("nearly out of data"))  # doctest: +SKIP
    """
    kind = type(message) if isinstance(message, Warning) else category or UserWarning
    worker = current_worker.get()
    if worker is not None:
        name = f"{kind.__module__}.{kind.__qualname__}"
        worker.log_event("warn", {"message": str(message)[:MAX_TEXT], "category": name})
    warnings.warn(message, category, stacklevel=stacklevel + 1, source=source)
