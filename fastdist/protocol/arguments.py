"""The arguments of tasks: bytes, and the references to other tasks in them.

May import: `fastdist._core`, `fastdist.errors`.
"""

from __future__ import annotations

from typing import Any

from fastdist._core.codec.references import replace_references
from fastdist._core.codec.values import encode_call
from fastdist.errors import SerializationError
from fastdist.protocol.pickling import payload


def serialize_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, reference_type: type | None = None
) -> tuple[bytes, list[Any]]:
    """The payload of the arguments of one call, and the references in it.

    Parameters
    ----------
    args, kwargs : tuple, dict or None
        The arguments.
    reference_type : type, optional
        Objects of exactly this type, at any depth in lists, tuples, dicts and sets, stand for results of
        other tasks.

    Returns
    -------
    tuple of bytes and list
        The payload, and the distinct references in the order of their numbers in the payload.

    Raises
    ------
    SerializationError
        If an argument cannot be pickled. The text gives the path to it, such as ``args[0]['model']._lock``;
        the error of the pickler is its ``__cause__``.

    Examples
    --------
    >>> from fastdist._core.codec.values import decode_call
    >>> data, references = serialize_arguments((1, "two"), {"three": 3})
    >>> decode_call(data, references)
    ((1, 'two'), {'three': 3})
    """
    encoded = encode_call(args, kwargs, reference_type)
    if encoded is not None:
        return encoded
    return pickle_arguments(args, kwargs, reference_type)


def pickle_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, reference_type: type | None = None
) -> tuple[bytes, list[Any]]:
    """Like `serialize_arguments`, for arguments that the compiled encoding has refused already."""
    references: list[Any] = []
    value: Any = (args, kwargs) if kwargs else args
    try:
        value = replace_references(value, reference_type, references)
    except RecursionError as error:
        raise SerializationError("the arguments are nested too deep, or have no end") from error
    parts = {"args": value[0], "kwargs": value[1]} if kwargs else {"args": value}
    return payload(value, parts, shape=1 if kwargs else 0), references
