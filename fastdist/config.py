"""Settings: one table that states each name, type, default and meaning.

A value comes from `config.set`, else from the environment, else from the table. The variable of a setting is
its name in capitals with `__` for each dot and `_` for each dash: `FASTDIST_COMM__TIMEOUTS__CONNECT=10s`. May
import: fastdist.errors.
"""

from __future__ import annotations

import datetime
import difflib
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastdist.errors import ConfigurationError

_PREFIX = "FASTDIST_"
REQUIRED: Any = object()

_TIME_UNITS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
    "d": 86400.0, "w": 604800.0,
    "microsecond": 1e-6, "millisecond": 1e-3, "second": 1.0, "sec": 1.0, "minute": 60.0, "min": 60.0,
    "hour": 3600.0, "hr": 3600.0, "day": 86400.0, "week": 604800.0,
}  # fmt: skip
_BYTE_UNITS = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "p": 10**15, "pb": 10**15,
    "ki": 2**10, "kib": 2**10, "mi": 2**20, "mib": 2**20, "gi": 2**30, "gib": 2**30,
    "ti": 2**40, "tib": 2**40, "pi": 2**50, "pib": 2**50,
}  # fmt: skip
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)?\s*([a-zA-Zµ]*)\s*")

TimeLike = str | int | float | datetime.timedelta


def _split_quantity(text: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None or not text.strip():
        raise ValueError(f"{text!r} is no quantity")
    return float(match[1] or 1), match[2]


def _time_unit(unit: str) -> float | None:
    for spelling in (unit or "s", unit.lower(), unit.lower().removesuffix("s")):
        if spelling in _TIME_UNITS:
            return _TIME_UNITS[spelling]
    return None


def parse_timedelta(value: TimeLike) -> float:
    """Seconds.

    Parameters
    ----------
    value : str, int, float or timedelta
        A number of seconds, or a text with a unit.

    Raises
    ------
    ValueError
        If it is no duration, negative, or endless.

    Examples
    --------
    >>> parse_timedelta("100 ms")
    0.1
    """
    if isinstance(value, datetime.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        amount, unit = _split_quantity(value)
        factor = _time_unit(unit)
        if factor is None:
            raise ValueError(f"{value!r} has the unknown unit {unit!r}; use one of ns, us, ms, s, m, h, d, w")
        seconds = amount * factor
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no duration such as 0.5 or '10s'")
    else:
        seconds = float(value)
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise ValueError(f"{value!r} is no duration: it must be zero or more, and finite")
    return seconds


def parse_bytes(value: str | int | float) -> int:
    """A number of bytes.

    Parameters
    ----------
    value : str, int or float
        A number, or a text with a unit; `kB` is 1000 bytes and `KiB` 1024.

    Raises
    ------
    ValueError
        If it is no size, or negative.

    Examples
    --------
    >>> parse_bytes("64 MiB")
    67108864
    """
    if isinstance(value, str):
        amount, unit = _split_quantity(value)
        factor = _BYTE_UNITS.get(unit.lower())
        if factor is None:
            raise ValueError(
                f"{value!r} has the unknown unit {unit!r}; use one of B, kB, MB, GB, KiB, MiB, GiB, TiB"
            )
        return int(amount * factor)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is no number of bytes such as 4096 or '64 MiB'")
    return int(value)


def _frame_bytes(value: Any) -> int:
    size = parse_bytes(value)
    if size >= 1 << 32:
        # The offsets inside a columnar frame have 32 bits.
        raise ValueError(f"{value!r} is too much: a columnar frame stays below 4 GiB")
    if size < 1 << 27:
        # What is sent in batches is cut at 64 MiB.
        raise ValueError(f"{value!r} is too little: a columnar frame must be able to hold 128 MiB")
    return size


def _whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*\d+\s*", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no whole number of at least 0")
    return value


def _factor(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not (number > 0):
        raise ValueError(f"{value!r} is no number above 0")
    return number


def _fraction(value: Any) -> float | bool:
    if value is False or (isinstance(value, str) and value.strip().lower() == "false"):
        return False
    number = float(value)
    if isinstance(value, bool) or not 0 < number <= 1:
        raise ValueError(f"{value!r} is neither a fraction between 0 and 1 nor false")
    return number


def _event_loop(value: Any) -> str:
    if value not in ("asyncio", "uvloop"):
        raise ValueError(f"{value!r} is neither 'asyncio' nor 'uvloop'")
    return str(value)


@dataclass(frozen=True)
class Setting:
    """One row of the table: how a value is understood, what it is by default, and what it means."""

    name: str
    parse: Callable[[Any], Any]
    default: Any
    doc: str

    @property
    def variable(self) -> str:
        """The environment variable of the setting."""
        return _PREFIX + self.name.upper().replace("-", "_").replace(".", "__")


_TABLE = (
    Setting(
        "event-loop", _event_loop, "asyncio", "The event loop that processes run on: asyncio or uvloop."
    ),
    Setting("comm.timeouts.connect", parse_timedelta, "30s", "How long opening a connection may take."),
    Setting(
        "comm.timeouts.tcp", parse_timedelta, "30s", "After how long without acknowledgement a peer is dead."
    ),
    Setting(
        "comm.timeouts.handshake", parse_timedelta, "5s", "How long authentication may take."
    ),
    Setting("comm.max-frame-bytes", _frame_bytes, "2 GiB", "The longest columnar frame."),
    Setting("comm.max-message-bytes", parse_bytes, "8 GiB", "The longest control message with its payloads."),
    Setting("comm.high-water", parse_bytes, "64 MiB", "Above this queue for one peer, its senders wait."),
    Setting("comm.max-queued-bytes", parse_bytes, "256 MiB", "Above this queue for one peer, it is dropped."),
    Setting(
        "comm.socket-backlog", _whole, 2048, "How many connections the kernel holds until they are accepted."
    ),
    Setting("scheduler.allowed-failures", _whole, 3, "How many workers may die while executing a task."),
    Setting(
        "scheduler.inline-limit", parse_bytes, "4 KiB", "The largest result sent with its task's state."
    ),
    Setting(
        "scheduler.prefill", parse_timedelta, "5ms", "How much work beyond its threads a worker is given."
    ),
    Setting(
        "scheduler.worker-saturation", _factor, 1.1, "Tasks per thread where prefill does not apply."
    ),
    Setting(
        "scheduler.client-grace", parse_timedelta, "10s", "How long the futures of a lost client are kept."
    ),
    Setting("scheduler.heartbeat", parse_timedelta, "1s", "How often workers and clients report."),
    Setting(
        "worker.memory.target", _fraction, 0.60, "The fraction of the limit to spill at, by size."
    ),
    Setting("worker.memory.spill", _fraction, 0.70, "The same, by the memory of the process."),
    Setting("worker.memory.pause", _fraction, 0.80, "The fraction at which no new task is started."),
    Setting(
        "worker.memory.terminate", _fraction, 0.95, "The fraction at which the nanny restarts the worker."
    ),
    Setting("worker.memory.monitor-interval", parse_timedelta, "100ms", "How often the memory is looked at."),
)  # fmt: skip

#: Every setting by its name.
SETTINGS: Mapping[str, Setting] = {setting.name: setting for setting in _TABLE}

_lock = threading.Lock()
_values: dict[str, Any] = {}
_loaded = False


def _unknown(name: str, where: str, candidates: list[str]) -> ConfigurationError:
    near = difflib.get_close_matches(name, candidates, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(candidates)}"
    return ConfigurationError(f"unknown setting {name!r}{where}{hint}")


def _parsed(setting: Setting, value: Any, where: str) -> Any:
    try:
        return setting.parse(value)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"the setting {setting.name!r}{where} is wrong: {error}") from None


def read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings among the variables.

    Raises
    ------
    ConfigurationError
        If a variable looks like a setting and is none, or its value is wrong.
    """
    by_variable = {setting.variable: setting for setting in _TABLE}
    squeezed = {name.replace("__", "_") for name in by_variable}
    found = {}
    for variable, value in environment.items():
        if not variable.startswith(_PREFIX):
            continue
        setting = by_variable.get(variable)
        if setting is not None:
            found[setting.name] = _parsed(setting, value, f" (from {variable})")
        elif "__" in variable or variable in squeezed:
            raise _unknown(variable, " in the environment", sorted(by_variable))
    return found


def load() -> None:
    """Read the environment, once; daemons call it at start so that a wrong value is named there and then.

    Raises
    ------
    ConfigurationError
        As `read_environment`.
    """
    global _loaded
    with _lock:
        if _loaded:
            return
        values = {setting.name: _parsed(setting, setting.default, " by default") for setting in _TABLE}
        values.update(read_environment(os.environ))
        _values.update(values)
        _loaded = True


def get(name: str, default: Any = REQUIRED) -> Any:
    """The value of a setting: seconds for durations, bytes for sizes.

    Parameters
    ----------
    name : str
        The setting.
    default
        What to return if there is no such setting.

    Raises
    ------
    ConfigurationError
        If there is no such setting, and no default is given.

    Examples
    --------
    >>> get("scheduler.allowed-failures")
    3
    """
    if not _loaded:
        load()
    value = _values.get(name, default)
    if value is REQUIRED:
        raise _unknown(name, "", sorted(SETTINGS))
    return value


class set:
    """Change settings, for good or for the length of a `with` block.

    Parameters
    ----------
    settings : mapping
        Names and values; a value may have any form that its type understands.

    Raises
    ------
    ConfigurationError
        If a name is unknown or a value wrong; nothing is changed then.

    Examples
    --------
    >>> with set({"comm.timeouts.connect": "1 min"}):
    ...     get("comm.timeouts.connect")
    60.0
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        load()
        parsed = {}
        for name, value in settings.items():
            setting = SETTINGS.get(name)
            if setting is None:
                raise _unknown(name, "", sorted(SETTINGS))
            parsed[name] = _parsed(setting, value, "")
        with _lock:
            self._before = {name: _values[name] for name in parsed}
            _values.update(parsed)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *details: object) -> None:
        with _lock:
            _values.update(self._before)


@contextmanager
def defaults() -> Iterator[None]:
    """Forget the environment and every `set` for the length of a `with` block; for tests."""
    load()
    with _lock:
        before = dict(_values)
        _values.update({setting.name: setting.parse(setting.default) for setting in _TABLE})
    try:
        yield
    finally:
        with _lock:
            _values.update(before)
