"""What values mean: durations, sizes, numbers, switches, lists and mappings, from whatever spelling.

May import: the standard library.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Parse = Callable[[Any], Any]

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


def frame_bytes(value: Any) -> int:
    """The length of a columnar frame."""
    size = parse_bytes(value)
    if size >= 1 << 32:
        # The offsets inside a columnar frame have 32 bits.
        raise ValueError(f"{value!r} is too much: a columnar frame stays below 4 GiB")
    if size < 1 << 27:
        # What is sent in batches is cut at 64 MiB.
        raise ValueError(f"{value!r} is too little: a columnar frame must be able to hold 128 MiB")
    return size


def whole(value: Any) -> int:
    """A count."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d+\s*", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no whole number of at least 0")
    return value


def positive(value: Any) -> float:
    """A number above 0; it may be endless."""
    number = math.inf if value == ".inf" else float(value)
    if isinstance(value, bool) or not (number > 0):
        raise ValueError(f"{value!r} is no number above 0")
    return number


def fraction(value: Any) -> float | bool:
    """A fraction, or False for "never"."""
    if value is False or (isinstance(value, str) and value.strip().lower() == "false"):
        return False
    number = float(value)
    if isinstance(value, bool) or not 0 < number <= 1:
        raise ValueError(f"{value!r} is neither a fraction between 0 and 1 nor false")
    return number


def share(value: Any) -> float:
    """A number between 0 and 1, both allowed."""
    number = float(value)
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise ValueError(f"{value!r} is not between 0 and 1")
    return number


def size_or_never(value: Any) -> int | bool:
    """A number of bytes, or False for no limit."""
    if value is False or (isinstance(value, str) and value.strip().lower() == "false"):
        return False
    return parse_bytes(value)


def endless(value: Any) -> float:
    """Seconds, or infinity for "inf"."""
    if value == math.inf or (isinstance(value, str) and value.strip().lower() in ("inf", ".inf")):
        return math.inf
    return parse_timedelta(value)


def flag(value: Any) -> bool:
    """True or False, also from the words that people use for them."""
    word = str(value).strip().lower() if isinstance(value, (str, bool)) or value in (0, 1) else ""
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def optional(parse: Parse) -> Parse:
    """The same, or None."""

    def parse_optional(value: Any) -> Any:
        if value is None or (isinstance(value, str) and value.strip().lower() in ("", "none", "null")):
            return None
        return parse(value)

    return parse_optional


def one_of(*choices: str) -> Parse:
    """One of some words."""

    def parse_choice(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is neither {' nor '.join(map(repr, choices))}")
        return str(value)

    return parse_choice


def event_loop(value: Any) -> str:
    """`asyncio` or `uvloop`; tornado's loop is asyncio's."""
    return "asyncio" if value == "tornado" else str(one_of("asyncio", "uvloop")(value))


def texts(value: Any) -> list[str]:
    """A list of texts; one text is a list of one."""
    value = literal(value)
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(each, str) for each in values):
        raise ValueError(f"{value!r} is no list of texts")
    return list(values)


def arguments(value: Any) -> list[Any]:
    """Arguments for preloads: texts for all of them, or one list of texts for each."""
    value = literal(value)
    if isinstance(value, (list, tuple)) and any(isinstance(each, (list, tuple)) for each in value):
        return [texts(each) for each in value]
    return texts(value)


def variables(value: Any) -> dict[str, str]:
    """Environment variables; numbers become text, and None means "not set"."""
    pairs = mapping(value)
    if not all(isinstance(each, (str, int, float)) or each is None for each in pairs.values()):
        raise ValueError(f"{value!r} is no mapping of variables to texts or numbers")
    return {name: str(each) for name, each in pairs.items() if each is not None}


def amounts(value: Any) -> dict[str, float]:
    """Names with numbers, as of resources."""
    pairs = mapping(value)
    if any(isinstance(each, bool) or not isinstance(each, (int, float)) for each in pairs.values()):
        raise ValueError(f"{value!r} is no mapping of names to numbers")
    return {name: float(each) for name, each in pairs.items()}


def mapping(value: Any) -> dict[str, Any]:
    """A mapping from texts."""
    value = literal(value)
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{value!r} is no mapping")
    return dict(value)


def mappings(value: Any) -> list[dict[str, Any]]:
    """A list of mappings."""
    value = literal(value)
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{value!r} is no list of mappings")
    return [mapping(each) for each in value]


def literal(value: Any) -> Any:
    """What a text from the environment stands for: a Python literal, true, false, null, or itself."""
    if not isinstance(value, str):
        return value
    import ast

    try:
        return ast.literal_eval(value)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return {"none": None, "null": None, "false": False, "true": True}.get(value.lower(), value)
