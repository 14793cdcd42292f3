"""Exceptions as text on the wire, and back; nothing is pickled.

May import: fastdist.errors.
"""

from __future__ import annotations

import builtins

import fastdist.errors
from fastdist.errors import RemoteError

_MAX_TEXT = 64 * 1024
# Python itself acts on these when they pass through a coroutine or a generator.
_NOT_RAISED = (StopIteration, StopAsyncIteration, GeneratorExit, Warning)


def describe_error(error: BaseException) -> tuple[str, str]:
    """The text and the name of the class of an exception, for the fields `error` and `error_type`."""
    if isinstance(error, KeyError) and len(error.args) == 1 and type(error.args[0]) is str:
        text = error.args[0]
    else:
        text = str(error)
    return (text or repr(error))[:_MAX_TEXT], type(error).__name__


def rebuild_error(text: str, error_type: str) -> Exception:
    """The exception that an error reply stands for.

    A class of `fastdist.errors` or a builtin exception comes back as itself, every other as `RemoteError`.
    """
    kind = getattr(fastdist.errors, error_type, None) or getattr(builtins, error_type, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _NOT_RAISED):
        try:
            return kind(text)
        except TypeError:
            # The class wants more than a text.
            pass
    return RemoteError(f"{error_type}: {text}")
