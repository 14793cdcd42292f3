"""Parameters of dask's Scheduler: which are not built yet, and how several addresses are given.

May import: `security`, `scheduler.extensions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastdist.scheduler.extensions.extension import Extension
from fastdist.security import check_security

#: Parameters of dask's scheduler that are not built yet, with the values that ask for nothing.
NOT_BUILT: dict[str, tuple[Any, ...]] = {
    "services": (None, {}),
    "service_kwargs": (None, {}),
    # There is no dashboard: these ask for none, or are what scripts write to avoid a clash of ports.
    "dashboard_address": (None, "", False, 0, ":0", ":8787", "127.0.0.1:0", "localhost:0"),
    "dashboard": (None, False),
    "http_prefix": ("/", None),
    "transition_counter_max": (False, None),
    "jupyter": (False, None),
    "connection_limit": (512, None),
}


def refuse_unbuilt(options: Mapping[str, Any]) -> None:
    """Raise for every parameter that asks for something that is not built, and for unknown ones.

    Raises
    ------
    NotImplementedError
        The parameter is known, and its value asks for a feature that does not exist yet.
    TypeError
        There is no such parameter.
    """
    for name, value in options.items():
        if name == "security":
            check_security(value, "Scheduler")
            continue
        if name not in NOT_BUILT:
            raise TypeError(f"Scheduler() has no parameter {name!r}")
        if not any(value is nothing or value == nothing for nothing in NOT_BUILT[name]):
            raise NotImplementedError(f"Scheduler({name}={value!r}) is not built yet")


def as_list(value: Any) -> list[Any]:
    """The values of a parameter that takes one or several."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def endpoints(protocol: Any, interface: Any, host: Any, port: Any) -> list[tuple[Any, Any, Any, Any]]:
    """(protocol, interface, host, port) of each listener; single values count for all of them.

    Raises
    ------
    ValueError
        If lists have different lengths.

    Examples
    --------
    >>> endpoints("tcp", None, "127.0.0.1", [0, 8786])
    [('tcp', None, '127.0.0.1', 0), ('tcp', None, '127.0.0.1', 8786)]
    """
    columns = [as_list(value) for value in (protocol, interface, host, port)]
    count = max(map(len, columns))
    if any(len(column) not in (1, count) for column in columns):
        raise ValueError("lists for protocol, interface, host and port must have the same length")
    spread = [column * count if len(column) == 1 else column for column in columns]
    return list(zip(*spread, strict=True))


def is_inproc(endpoint: Sequence[Any]) -> bool:
    """Whether an endpoint is within this process."""
    return bool(endpoint[0]) and str(endpoint[0]).startswith("inproc")


def block(tables: Mapping[Any, dict[str, Any]], names: Iterable[str]) -> None:
    """Refuse some operations, whoever asks for them.

    Raises
    ------
    ValueError
        If there is no such operation.
    """
    for name in names:
        if not any(name in table for table in tables.values()):
            raise ValueError(f"blocked_handlers names {name!r}, which is no operation of the scheduler")

        def refuse(peer: Any, fields: Any, buffers: Any, name: str = name) -> None:
            raise ValueError(
                f"The {name!r} handler has been explicitly disallowed in Scheduler, possibly due to security concerns."
            )

        for table in tables.values():
            if name in table:
                table[name] = refuse


def make_extensions(scheduler: Any, wanted: Mapping[str, Any]) -> dict[str, Extension]:
    """The extensions that a user adds.

    Raises
    ------
    TypeError
        If one of them is no kind of Extension.
    """
    for name, kind in wanted.items():
        if not (isinstance(kind, type) and issubclass(kind, Extension)):
            base = "fastdist.scheduler.extensions.Extension"
            raise TypeError(f"the extension {name!r} must be a subclass of {base}, not {kind!r}")
    return {name: kind(scheduler) for name, kind in wanted.items()}
