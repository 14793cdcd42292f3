"""How keys are grouped by name. May import: `_core`."""

from __future__ import annotations

import re
from typing import Any

from fastdist._core.keys.canonical import encode_key, prefix_of

_HASH = re.compile(r"[a-f0-9]{32}")


def prefix_name(key: Any) -> str:
    """The function's part of a key: what its durations are averaged by.

    Examples
    --------
    >>> prefix_name(("x-0123456789abcdef0123456789abcdef", 1))
    'x'
    """
    return prefix_of(encode_key(key)) or "Other"


def group_name(key: Any) -> str:
    """The collection's part of a key: tasks that belong to one array, frame or `map`.

    Examples
    --------
    >>> group_name(("x-0123456789abcdef0123456789abcdef", 1))
    'x-0123456789abcdef0123456789abcdef'
    >>> group_name("inc-0123456789abcdef0123456789abcdef")
    'inc'
    """
    if isinstance(key, tuple) and key:
        return str(key[0])
    if isinstance(key, bytes):
        key = key.decode(errors="replace")
    if not isinstance(key, str) or not key:
        return "Other"
    if key[0] == "(":
        return key.split(",", 1)[0].strip("()\"'")
    if _HASH.fullmatch(key):
        return "data"
    if key[0] == "<":
        return key.strip("<>").split()[0].rpartition(".")[2]
    return prefix_name(key)


def CompatibleExecutor(*args: Any, **kwargs: Any) -> Any:
    """A name that dask.distributed keeps for the same message.

    Raises
    ------
    Exception
        Always.
    """
    raise Exception("This has been moved to the Client.get_executor() method")
