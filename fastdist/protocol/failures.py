"""Exceptions that travel: with their causes, notes and tracebacks, and whatever becomes of their classes.

May import: `fastdist._core`, `fastdist.config`, `fastdist.errors`.
"""

from __future__ import annotations

import builtins
import io
import os
import pickle
import traceback
from types import TracebackType
from typing import Any

from fastdist import config
from fastdist._core.codec.values import Encoding, decode_value
from fastdist.errors import FrameError, RemoteTaskError
from fastdist.protocol import pickling

MAX_PICKLE = 1 << 20
"""A larger pickle of an exception is not sent: its text and traceback are."""
MAX_CHAIN = 32
"""Exceptions that are followed along ``__cause__``, ``__context__`` and groups."""
MAX_FRAMES = 200
"""Frames of one traceback; of a longer one (endless recursion) both ends are kept."""

# Compiled modules give their source as the path that it had when they were built.
_OUR_FOLDERS = (os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep, "fastdist/_core/")
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())  # Python 3.11
_Frame = tuple[str, str, int, str]
_Record = dict[str, Any]


def dump_failure(exception: BaseException, limit: int | None = None) -> bytes:
    """The bytes of an exception.

    Parameters
    ----------
    exception : BaseException
        What a task raised. Frames of fastdist at the start of its traceback are left out.
    limit : int, optional
        The most characters of its text that are sent; the setting `admin.max-error-length` by default.

    Returns
    -------
    bytes
        What `load_failure` takes. This never fails: an exception that cannot be pickled, or not loaded again,
        is sent as the name of its class, its text and its printed traceback.

    Examples
    --------
    >>> load_failure(dump_failure(ValueError("no")))
    ValueError('no')
    """
    if limit is None:
        limit = max(1, config.get("admin.max-error-length"))
    if limit < 1:
        raise ValueError(f"the text of an exception needs a limit of at least one character, not {limit}")
    chain = _chain(exception)
    numbers = {id(link): number for number, link in enumerate(chain)}
    records = [_record(link, numbers, limit) for link in chain]
    return bytes((Encoding.PICKLED, 0)) + pickle.dumps(records, pickling.PROTOCOL)


def load_failure(payload: bytes | bytearray | memoryview) -> BaseException:
    """The exception that `dump_failure` was given, with its traceback, causes and notes.

    Parameters
    ----------
    payload : bytes-like
        What `dump_failure` made.

    Returns
    -------
    BaseException
        A `fastdist.errors.RemoteTaskError` if the exception could not travel, or has no class here.

    Raises
    ------
    FrameError
        If these bytes are no exception.
    """
    records = decode_value(payload)
    if type(records) is not list or not records or not all(type(record) is dict for record in records):
        raise FrameError("the payload of a failure holds no exception")
    try:
        links = [_load_link(record) for record in records]
        for record, link in zip(records, links, strict=True):
            _connect(record, link, records, links)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise FrameError(f"the payload of a failure is malformed: {error!r}") from error
    return links[0]


class _PlainUnpickler(pickle.Unpickler):
    """Reads pickles of plain values only."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} has no place in the record of a failure")


def describe_failure(payload: bytes | bytearray | memoryview) -> tuple[str, str]:
    """Text and printed traceback of what `dump_failure` was given, without making the exception.

    No code of a user runs, so that the scheduler may show what happened.

    Examples
    --------
    >>> describe_failure(dump_failure(ValueError("no")))[0]
    'ValueError: no'
    """
    content = bytes(payload)
    if content[:1] == bytes((Encoding.PICKLED,)):
        try:
            first = _PlainUnpickler(io.BytesIO(content[2:])).load()[0]
            return f"{first['type']}: {first['text']}", str(first["printed"])
        except (pickle.UnpicklingError, KeyError, IndexError, TypeError, EOFError) as error:
            return f"the record of this failure cannot be read: {error}", ""
    if content[:1] != bytes((Encoding.ENCODED,)):
        return "the record of this failure has an unknown form", ""
    reason = decode_value(content)
    return (str(reason.get("message", reason)), "") if isinstance(reason, dict) else (str(reason), "")


# ----------------------------------------------------------------------------------------------------
# Sending


def _neighbours(exception: BaseException) -> list[BaseException]:
    linked = [exception.__cause__, exception.__context__, *_members(exception)]
    return [link for link in linked if link is not None]


def _members(exception: BaseException) -> tuple[BaseException, ...]:
    """The exceptions of an exception group."""
    return exception.exceptions if isinstance(exception, _GROUP) else ()


def _chain(exception: BaseException) -> list[BaseException]:
    """The exception and all that led to it, nearest first."""
    chain = [exception]
    for link in chain:
        for neighbour in _neighbours(link):
            if len(chain) < MAX_CHAIN and all(neighbour is not known for known in chain):
                chain.append(neighbour)
    return chain


def _record(exception: BaseException, numbers: dict[int, int], limit: int) -> _Record:
    return {
        "pickle": _pickle(exception, limit),
        "type": _type_name(exception),
        "text": _shorten(_text(exception), limit),
        "printed": _shorten(_printed(exception), 2 * limit),
        "frames": _frames(exception.__traceback__),
        "notes": [_shorten(note, limit) for note in _notes(exception)[:MAX_CHAIN]],
        "cause": numbers.get(id(exception.__cause__)),
        "context": numbers.get(id(exception.__context__)),
        "suppress": bool(exception.__suppress_context__),
        "members": [numbers.get(id(member)) for member in _members(exception)],
    }


def _type_name(exception: BaseException) -> str:
    kind = type(exception)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception as error:  # the user's __str__ is broken; say so in its place
        return f"<the text of this exception cannot be made: {type(error).__name__}>"


def _notes(exception: BaseException) -> list[str]:
    notes = getattr(exception, "__notes__", ())
    return [note for note in notes if type(note) is str] if isinstance(notes, (list, tuple)) else []


def _printed(exception: BaseException) -> str:
    try:
        found = _from_user(exception.__traceback__)
        return "".join(traceback.format_exception(type(exception), exception, found))
    except Exception as error:  # the user's class is broken; its text and frames travel all the same
        return f"<the traceback of this exception cannot be printed: {type(error).__name__}>"


def _shorten(text: str, limit: int) -> str:
    # Through str: a subclass of it would not be encodable.
    plain = str.__str__(text)
    return plain if len(plain) <= limit else plain[:limit] + f"... ({len(plain) - limit} more characters)"


def _pickle(exception: BaseException, limit: int) -> bytes | None:
    """The pickle of the exception alone, tried by loading it; None if no other process could load one."""
    if len(_text(exception)) > limit:
        shortened = _with_short_text(exception, limit)
        if shortened is None:
            return None
        exception = shortened
    for candidate in (_Plain(exception), _Rebuild(exception)):
        try:
            pickled = pickling.dumps(candidate)
            loaded = pickle.loads(pickled)
        except Exception:  # the next candidate may do better; without a pickle the record says the rest
            continue
        # The classes are compared by name: one that is pickled by value comes back as another object.
        same_type = _type_name(loaded) == _type_name(exception)
        if same_type and len(loaded.args) == len(exception.args) and len(pickled) <= MAX_PICKLE:
            return pickled
    return None


def _with_short_text(exception: BaseException, limit: int) -> BaseException | None:
    """An exception of the same class with the start of the text; None if its class cannot say just a text."""
    try:
        shortened = type(exception)(_shorten(_text(exception), limit))
    except Exception:  # it needs other arguments
        return None
    return shortened if len(_text(shortened)) <= limit + 100 else None


class _Plain:
    """Pickles as its exception, in the way of the exception's own class.

    Libraries register other ways for all exceptions of a program (dask does); those send tracebacks along.
    """

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def __reduce__(self) -> str | tuple[Any, ...]:
        reduced = self.exception.__reduce_ex__(pickling.PROTOCOL)
        if isinstance(reduced, str):
            return reduced
        function, args, *rest = reduced
        return function, _wrapped(args, _Plain), *rest


class _Rebuild:
    """Pickles as its exception, which is made without calling the ``__init__`` of its class.

    Many exceptions take other arguments than they hand to ``Exception``, and cannot be unpickled as usual.
    """

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def __reduce__(self) -> tuple[Any, ...]:
        exception = self.exception
        state = dict(exception.__dict__)
        return rebuild_exception, (type(exception), _wrapped(exception.args, _Rebuild), state)


def _wrapped(value: Any, wrapper: type[_Plain] | type[_Rebuild]) -> Any:
    """The arguments of an exception; the members of a group in them travel in the same way as the group."""
    if isinstance(value, BaseException):
        return wrapper(value)
    return type(value)(_wrapped(item, wrapper) for item in value) if type(value) in (list, tuple) else value


def rebuild_exception(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> BaseException:
    """An exception with these `args` and attributes, made without calling the ``__init__`` of its class."""
    exception: BaseException = kind.__new__(kind, *args)
    # The builtin class below it may keep more than `args` (UnicodeError does).
    builtin: Any = next(base for base in kind.__mro__ if base.__module__ == "builtins")
    builtin.__init__(exception, *args)
    exception.args = args
    exception.__dict__.update(state)
    return exception


# ----------------------------------------------------------------------------------------------------
# Tracebacks


def _from_user(found: TracebackType | None) -> TracebackType | None:
    """The traceback from its first frame that is not fastdist's; the whole if all of them are."""
    first = found
    while first is not None and first.tb_frame.f_code.co_filename.startswith(_OUR_FOLDERS):
        first = first.tb_next
    return found if first is None else first


def _frames(found: TracebackType | None) -> list[_Frame]:
    """File, function, line and module of each frame, outermost first, beginning with the user's."""
    frames: list[_Frame] = []
    found = _from_user(found)
    while found is not None:
        code = found.tb_frame.f_code
        module = str(found.tb_frame.f_globals.get("__name__", "?"))
        frames.append((code.co_filename, code.co_name, found.tb_lineno, module))
        found = found.tb_next
    half = MAX_FRAMES // 2
    return frames if len(frames) <= MAX_FRAMES else frames[:half] + frames[-half:]


def _traceback(frames: list[_Frame]) -> TracebackType | None:
    """A traceback that prints like the original."""
    from tblib import Traceback  # type: ignore[import-untyped]

    described: dict[str, Any] | None = None
    for filename, name, line, module in reversed(frames[:MAX_FRAMES]):
        code = {"co_filename": filename, "co_name": name}
        names = {"__name__": module, "__file__": filename}
        frame = {"f_globals": names, "f_locals": {}, "f_code": code, "f_lineno": line}
        described = {"tb_frame": frame, "tb_lineno": line, "tb_next": described}
    if described is None:
        return None
    made: TracebackType = Traceback.from_dict(described).as_traceback()
    return made


# ----------------------------------------------------------------------------------------------------
# Receiving


def _load_link(record: _Record) -> BaseException:
    if record["pickle"] is not None:
        try:
            loaded = pickle.loads(record["pickle"])
        except Exception:  # its module is missing here, or another version: the stand-in tells
            loaded = None
        if isinstance(loaded, BaseException):
            return loaded
    return RemoteTaskError(record["type"], record["text"], record["printed"])


def _connect(
    record: _Record, link: BaseException, records: list[_Record], links: list[BaseException]
) -> None:
    """Give an exception what pickle leaves out."""
    link.__traceback__ = _traceback(record["frames"])
    link.__cause__ = None if record["cause"] is None else links[record["cause"]]
    link.__context__ = None if record["context"] is None else links[record["context"]]
    link.__suppress_context__ = record["suppress"]
    if record["notes"] and not _notes(link):
        link.__notes__ = list(record["notes"])  # type: ignore[attr-defined]
    # A group is pickled with its members; each of them gets what its own record says.
    for number, member in zip(record["members"], _members(link), strict=False):
        if number is not None and number != 0:
            _connect({**records[number], "members": []}, member, records, links)
