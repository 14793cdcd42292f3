"""Options of submissions: checked, and packed for the wire. May import: `protocol`, `retries`."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Collection, Mapping
from numbers import Real
from typing import Any

import msgpack

from fastdist.protocol import pickling
from fastdist.retries import MAX_RETRIES, Retry

UNITS = {
    "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?)\s*([a-zµ]*)\s*", re.IGNORECASE)


def parse_seconds(value: Any, what: str = "timeout") -> float | None:
    """A duration in seconds: a number, a text such as ``"100 ms"``, a timedelta, or None for none.

    Raises
    ------
    TypeError, ValueError
        If it is none of these; the text names `what`.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real | str | datetime.timedelta):
        raise TypeError(f"{what}= must be a number of seconds or a text such as '500 ms', not {value!r}")
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, Real):
        return float(value)
    match = DURATION.fullmatch(value)
    if not match or match[2].lower() not in UNITS:
        raise ValueError(
            f"{what}={value!r} is no duration; write something like '500 ms', '2s' or '1 minute'"
        )
    return float(match[1]) * UNITS[match[2].lower()]


def parse_workers(workers: Any) -> list[Any] | None:
    """Workers as a list of texts: one name, address or host, or a list, tuple or set of them."""
    if workers is None:
        return None
    names = workers if isinstance(workers, list | tuple | set | frozenset) else [workers]
    for name in names:
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise TypeError(
                f"workers= must be a name, address or host, or a list, tuple or set of them, not {workers!r}"
            )
    return sorted({str(name) for name in names})


def pack_options(
    *,
    workers: Any = None,
    allow_other_workers: Any = False,
    resources: Mapping[str, float] | None = None,
    retries: int | Retry | None = None,
    priority: float = 0,
    actor: bool = False,
    timeout: Any = None,
) -> bytes | None:
    """The options of a task as a msgpack map, or None if all have their defaults.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type, or contradicts another one.
    """
    options: dict[str, Any] = {}
    if allow_other_workers not in (True, False, None):
        raise TypeError("allow_other_workers= must be True or False")
    if allow_other_workers and workers is None:
        raise ValueError("allow_other_workers= has a meaning only together with workers=")
    names = parse_workers(workers)
    if names is not None:
        if not names:
            raise ValueError("workers= names no worker at all; leave it out to allow every worker")
        options["workers"] = names
        if allow_other_workers:
            options["allow_other_workers"] = True
    if resources:
        options["resources"] = check_resources(resources)
    if isinstance(retries, Retry):
        if retries.n:
            options["retries"] = retries.n
            options["retry"] = pickling.dumps(retries, {"retries": retries})
    elif retries is not None:
        if isinstance(retries, bool) or not isinstance(retries, int):
            raise TypeError(f"retries= must be a whole number or a Retry, not {retries!r}")
        if not 0 <= retries <= MAX_RETRIES:
            raise ValueError(f"retries= must lie between 0 and {MAX_RETRIES}, but is {retries}")
        if retries:
            options["retries"] = retries
    if isinstance(priority, bool) or not isinstance(priority, Real):
        raise TypeError(f"priority= must be a number, not {priority!r}")
    if not math.isfinite(priority):
        raise ValueError(f"priority= must be finite, but is {priority!r}")
    if priority:
        options["priority"] = float(priority)
    if actor:
        options["actor"] = True
    seconds = parse_seconds(timeout)
    if seconds is not None:
        if not 0 < seconds < math.inf:
            raise ValueError(f"timeout= must be finite and more than 0, but is {timeout!r}")
        options["timeout"] = seconds
    return msgpack.packb(options) if options else None


def check_resources(resources: Any) -> dict[str, float]:
    """The resources as a dict of amounts."""
    if not isinstance(resources, Mapping):
        raise TypeError(f"resources= must be a dict such as {{'GPU': 1}}, not {resources!r}")
    amounts = {}
    for name, amount in resources.items():
        if not isinstance(name, str) or isinstance(amount, bool) or not isinstance(amount, Real):
            raise TypeError(f"resources= must map names to amounts, but has {name!r}: {amount!r}")
        if not 0 <= float(amount) < math.inf:
            raise ValueError(f"resources= must be finite and not negative, but has {name!r}: {amount!r}")
        amounts[name] = float(amount)
    return amounts


def unique(items: Collection[Any]) -> bool:
    """Whether no item occurs twice."""
    return len(set(items)) == len(items)
