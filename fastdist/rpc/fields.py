"""Checks of the fields of a control message: each returns the value or says which field is wrong and why.

A handler checks what it reads before it changes anything. May import: fastdist.errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastdist.errors import MessageError

REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()
_MAX_ITEMS = 4_000_000


def _present(fields: Mapping[str, Any], name: str, default: Any) -> tuple[bool, Any]:
    value = fields.get(name, REQUIRED)
    if value is not REQUIRED and not (value is None and default is None):
        return True, value
    if default is REQUIRED:
        raise MessageError(f"the field {name!r} is missing")
    return False, default


def _wrong(name: str, expected: str, value: Any) -> MessageError:
    shown = repr(value)
    return MessageError(f"the field {name!r} must be {expected}, not {type(value).__name__} {shown[:80]}")


def text(fields: Mapping[str, Any], name: str, max_length: int = 4096, *, default: Any = REQUIRED) -> str:
    """A text of at most `max_length` characters.

    Parameters
    ----------
    fields : mapping
        The fields of the message.
    name : str
        The field.
    max_length : int
        The bound.
    default
        What stands for an absent field (or for None, if it is None); without it the field is required.

    Raises
    ------
    MessageError
        If the field is missing, no text, or too long.

    Examples
    --------
    >>> text({"name": "alice"}, "name")
    'alice'
    """
    there, value = _present(fields, name, default)
    if not there:
        return value
    if type(value) is not str:
        raise _wrong(name, "a text", value)
    if len(value) > max_length:
        raise MessageError(f"the field {name!r} has {len(value)} characters; the limit is {max_length}")
    return value


def whole(
    fields: Mapping[str, Any],
    name: str,
    minimum: int = 0,
    maximum: int = 2**64 - 1,
    *,
    default: Any = REQUIRED,
) -> int:
    """A whole number between `minimum` and `maximum`, both allowed; True and False are none."""
    there, value = _present(fields, name, default)
    if not there:
        return value
    if type(value) is not int:
        raise _wrong(name, "a whole number", value)
    if not minimum <= value <= maximum:
        raise MessageError(f"the field {name!r} is {value}; it must lie between {minimum} and {maximum}")
    return value


def number(
    fields: Mapping[str, Any],
    name: str,
    minimum: float = float("-inf"),
    maximum: float = float("inf"),
    *,
    default: Any = REQUIRED,
) -> float:
    """A number between `minimum` and `maximum`, both allowed; NaN is none."""
    there, value = _present(fields, name, default)
    if not there:
        return value
    if type(value) not in (int, float):
        raise _wrong(name, "a number", value)
    if not minimum <= value <= maximum:
        raise MessageError(f"the field {name!r} is {value}; it must lie between {minimum} and {maximum}")
    return float(value)


def flag(fields: Mapping[str, Any], name: str, *, default: Any = REQUIRED) -> bool:
    """True or False."""
    there, value = _present(fields, name, default)
    if there and type(value) is not bool:
        raise _wrong(name, "true or false", value)
    return value


def mapping(
    fields: Mapping[str, Any], name: str, max_items: int = _MAX_ITEMS, *, default: Any = REQUIRED
) -> dict[str, Any]:
    """A map with texts as keys."""
    there, value = _present(fields, name, default)
    if not there:
        return value
    if type(value) is not dict or any(type(key) is not str for key in value):
        raise _wrong(name, "a map with texts as keys", value)
    if len(value) > max_items:
        raise MessageError(f"the field {name!r} has {len(value)} entries; the limit is {max_items}")
    return value


def items(
    fields: Mapping[str, Any],
    name: str,
    kind: type | tuple[type, ...] = object,
    max_items: int = _MAX_ITEMS,
    *,
    default: Any = REQUIRED,
) -> list[Any]:
    """A list whose items are all exactly of the type `kind`, or of one of those types."""
    there, value = _present(fields, name, default)
    if not there:
        return value
    if type(value) not in (list, tuple):
        raise _wrong(name, "a list", value)
    if len(value) > max_items:
        raise MessageError(f"the field {name!r} has {len(value)} items; the limit is {max_items}")
    if kind is not object:
        kinds = set(kind) if isinstance(kind, tuple) else {kind}
        for item in value:
            if type(item) not in kinds:
                expected = " or ".join(sorted(allowed.__name__ for allowed in kinds))
                raise MessageError(
                    f"an item of the field {name!r} must be {expected}, not {type(item).__name__}"
                )
    return list(value)


def ids(
    fields: Mapping[str, Any], name: str, max_items: int = _MAX_ITEMS, *, default: Any = REQUIRED
) -> list[int]:
    """A list of task or client ids: whole numbers of 64 bits."""
    there, value = _present(fields, name, default)
    if not there:
        return value
    value = items(fields, name, int, max_items)
    if value and not (min(value) >= 0 and max(value) < 2**64):
        raise MessageError(f"the ids in the field {name!r} must fit into 64 bits")
    return value
