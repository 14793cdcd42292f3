"""Exceptions that travel: class, text, causes, notes, traceback; and stand-ins for those that cannot."""

from __future__ import annotations

import asyncio
import copyreg
import pickle
import subprocess
import sys
import textwrap
import threading
import traceback

import pytest

from fastdist._core.codec.values import Encoding, decode_value, encode_value
from fastdist.errors import FastdistError, FrameError, RemoteTaskError
from fastdist.protocol import failures
from fastdist.protocol.failures import describe_failure, dump_failure, load_failure


class NeedsTwo(Exception):
    """Hands another text to Exception than it is made with, so that plain pickle cannot load it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Holds(Exception):
    pass


class Unloadable(Exception):
    def __new__(cls, *args: object, made_on_purpose: bool = False) -> Unloadable:
        if not made_on_purpose:
            raise RuntimeError("not while unpickling")
        return super().__new__(cls, *args)

    def __init__(self, *args: object, made_on_purpose: bool = False) -> None:
        super().__init__(*args)


class BrokenText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def caught(function, *args) -> BaseException:
    try:
        function(*args)
    except BaseException as exception:
        return exception
    raise AssertionError("nothing was raised")


def travel(exception: BaseException, **options) -> BaseException:
    return load_failure(dump_failure(exception, **options))


def divide(x: int) -> float:
    return 1 / x


def explain(x: int) -> None:
    try:
        divide(x)
    except ZeroDivisionError as error:
        raise NeedsTwo(7, "no quotient") from error


@pytest.mark.parametrize(
    "exception",
    [
        ValueError("no"), ValueError(), KeyError("key"), KeyError(("a", 1)), OSError(2, "missing", "file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), StopIteration(5), SystemExit(3),
        KeyboardInterrupt(),
        asyncio.CancelledError("reason"), ImportError("x", name="module"), Holds({"a": [1]}),
        AssertionError(),
    ],
    ids=lambda exception: type(exception).__name__,
)  # fmt: skip
def test_exceptions_come_back_of_the_same_class(exception):
    loaded = travel(exception)
    assert type(loaded) is type(exception)
    assert loaded.args == exception.args
    assert str(loaded) == str(exception)


def test_attributes_come_back():
    loaded = travel(OSError(2, "missing", "file"))
    assert loaded.filename == "file"
    exception = Holds("x")
    exception.detail = {"a": 1}
    assert travel(exception).detail == {"a": 1}


def test_an_exception_whose_init_takes_other_arguments_comes_back():
    loaded = travel(NeedsTwo(7, "reason"))
    assert type(loaded) is NeedsTwo
    assert str(loaded) == "7: reason"
    assert loaded.code == 7


def test_reducers_that_a_library_registers_for_exceptions_do_not_matter(monkeypatch):
    for kind in (ValueError, NeedsTwo, UnicodeDecodeError):
        monkeypatch.setitem(copyreg.dispatch_table, kind, lambda exception: (explode, ()))
    for exception in (ValueError("no"), NeedsTwo(1, "x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")):
        loaded = travel(exception)
        assert type(loaded) is type(exception)
        assert str(loaded) == str(exception)


def explode() -> None:
    raise AssertionError("a registered reducer was used")


class NeedsTwoToDecode(UnicodeDecodeError):
    def __init__(self, data: bytes, reason: str) -> None:
        super().__init__("utf-8", data, 0, 1, reason)


def test_a_builtin_class_below_keeps_what_it_knows():
    class Local(NeedsTwoToDecode):
        def __new__(cls, *args: object) -> Local:
            return UnicodeDecodeError.__new__(cls, *args)

    for exception in (NeedsTwoToDecode(b"\xff", "bad"), Local(b"\xff", "bad")):
        assert str(travel(exception)) == str(exception)


def test_the_traceback_shows_the_users_frames():
    loaded = travel(caught(explain, 0))
    names = [frame.name for frame in traceback.extract_tb(loaded.__traceback__)]
    assert names == ["caught", "explain"]
    printed = "".join(traceback.format_exception(type(loaded), loaded, loaded.__traceback__))
    assert 'raise NeedsTwo(7, "no quotient") from error' in printed
    assert "return 1 / x" in printed
    assert "direct cause" in printed


def test_the_cause_comes_back():
    loaded = travel(caught(explain, 0))
    assert type(loaded.__cause__) is ZeroDivisionError
    assert loaded.__cause__ is loaded.__context__
    assert [frame.name for frame in traceback.extract_tb(loaded.__cause__.__traceback__)] == [
        "explain",
        "divide",
    ]


def test_the_context_and_its_suppression_come_back():
    def during() -> None:
        try:
            divide(0)
        except ZeroDivisionError:
            raise ValueError("second")  # noqa: B904

    def instead() -> None:
        try:
            divide(0)
        except ZeroDivisionError:
            raise ValueError("second") from None

    loaded = travel(caught(during))
    assert type(loaded.__context__) is ZeroDivisionError
    assert loaded.__cause__ is None
    assert not loaded.__suppress_context__
    assert travel(caught(instead)).__suppress_context__


def test_a_long_chain_is_cut():
    exception: BaseException = ValueError("last")
    for number in range(100):
        outer = ValueError(number)
        outer.__cause__ = exception
        exception = outer
    loaded, length = travel(exception), 0
    while loaded is not None:
        loaded, length = loaded.__cause__, length + 1
    assert length == failures.MAX_CHAIN


def test_a_chain_that_ends_in_itself_comes_back():
    first, second = ValueError(1), ValueError(2)
    first.__context__, second.__cause__ = second, first
    loaded = travel(first)
    assert loaded.__context__.__cause__ is loaded


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups came with Python 3.11")
def test_notes_come_back():
    exception = ValueError("no")
    exception.add_note("look here")
    assert travel(exception).__notes__ == ["look here"]
    unpicklable = Holds(threading.Lock())
    unpicklable.add_note("and here")
    assert travel(unpicklable).__notes__ == ["and here"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups came with Python 3.11")
def test_groups_come_back_with_the_tracebacks_of_their_members():
    group = ExceptionGroup("several", [caught(divide, 0), caught(explain, 0)])  # noqa: F821
    loaded = travel(group)
    assert type(loaded) is type(group)
    first, second = loaded.exceptions
    assert [frame.name for frame in traceback.extract_tb(first.__traceback__)] == ["caught", "divide"]
    assert type(second) is NeedsTwo
    assert type(second.__cause__) is ZeroDivisionError


@pytest.mark.parametrize("exception", [Holds(threading.Lock()), Unloadable("x", made_on_purpose=True)])
def test_an_exception_that_cannot_travel_has_a_stand_in(exception):
    def fail() -> None:
        raise exception

    loaded = travel(caught(fail))
    assert type(loaded) is RemoteTaskError
    assert isinstance(loaded, FastdistError)
    assert loaded.type_name == f"{__name__}.{type(exception).__name__}"
    assert loaded.text == str(exception)
    assert str(loaded).startswith(loaded.type_name)
    assert "raise exception" in loaded.traceback_text
    assert [frame.name for frame in traceback.extract_tb(loaded.__traceback__)] == ["caught", "fail"]
    assert repr(pickle.loads(pickle.dumps(loaded))) == repr(loaded)


def test_a_class_that_does_not_exist_here_has_a_stand_in():
    program = textwrap.dedent("""
        import sys, types
        from fastdist.protocol.failures import dump_failure
        module = sys.modules["only_there"] = types.ModuleType("only_there")
        exec("class Theirs(Exception): pass", module.__dict__)
        sys.stdout.buffer.write(dump_failure(module.Theirs("text")))
    """)
    payload = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE).stdout
    loaded = load_failure(payload)
    assert type(loaded) is RemoteTaskError
    assert str(loaded) == "only_there.Theirs: text"


def test_a_class_of_main_comes_back_by_value():
    program = textwrap.dedent("""
        import sys
        from fastdist.protocol.failures import dump_failure
        class Mine(Exception):
            def hint(self):
                return "try again"
        sys.stdout.buffer.write(dump_failure(Mine("text")))
    """)
    payload = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE).stdout
    assert load_failure(payload).hint() == "try again"


@pytest.mark.parametrize("exception", [ValueError("x" * 100_000), NeedsTwo(1, "x" * 100_000)])
def test_a_long_text_is_cut(exception):
    loaded = travel(exception, limit=1000)
    assert 1000 <= len(str(loaded)) < 1200
    assert "more characters)" in str(loaded)
    assert len(dump_failure(exception, 1000)) < 20_000


def test_a_large_exception_is_not_sent_whole():
    exception = Holds("short")
    exception.data = b"x" * 10_000_000
    assert len(dump_failure(exception)) < 100_000
    assert str(travel(exception)).endswith("Holds: short")


def test_an_exception_without_a_text_of_its_own_is_sent():
    loaded = travel(BrokenText("x"))
    assert type(loaded) is BrokenText
    assert loaded.args == ("x",)


def test_endless_recursion_keeps_both_ends_of_its_traceback():
    def recurse(n: int) -> None:
        recurse(n + 1)

    loaded = travel(caught(recurse, 0))
    assert type(loaded) is RecursionError
    frames = traceback.extract_tb(loaded.__traceback__)
    assert len(frames) == failures.MAX_FRAMES
    assert frames[0].name == "caught"


def test_frames_of_fastdist_at_the_start_are_left_out(tmp_path):
    loop = compile("def loop(f):\n    f(0)", failures._OUR_FOLDERS[0] + "worker/loop.py", "exec")
    core = compile("def run(f):\n    f(loop, 1)", "fastdist/_core/worker/run.pyx", "exec")
    namespace: dict = {}
    exec(loop, namespace)
    exec(core, namespace)

    def user(*_: object) -> None:
        namespace["loop"](divide)

    try:
        namespace["run"](user)
    except ZeroDivisionError as error:
        exception = error.with_traceback(error.__traceback__.tb_next)
    names = [frame.name for frame in traceback.extract_tb(travel(exception).__traceback__)]
    assert names == ["user", "loop", "divide"]
    stand_in = Holds(threading.Lock()).with_traceback(exception.__traceback__)
    assert "in run" not in travel(stand_in).traceback_text
    assert "in divide" in travel(stand_in).traceback_text


def test_a_traceback_of_fastdist_alone_is_kept():
    namespace: dict = {}
    exec(compile("def own():\n    1 / 0", failures._OUR_FOLDERS[0] + "worker/own.py", "exec"), namespace)
    try:
        namespace["own"]()
    except ZeroDivisionError as error:
        exception = error.with_traceback(error.__traceback__.tb_next)
    names = [frame.name for frame in traceback.extract_tb(travel(exception).__traceback__)]
    assert names == ["own"]


def test_a_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        dump_failure(ValueError(), 0)


@pytest.mark.parametrize("value", [5, [], [5], [{}], [{"pickle": None}]])
def test_other_payloads_are_refused(value):
    with pytest.raises(FrameError, match="payload of a failure"):
        load_failure(encode_value(value))


def test_a_failure_is_a_payload_like_any_other():
    assert type(decode_value(dump_failure(ValueError("no")))) is list


def test_a_failure_is_described_without_running_code_of_the_sender() -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, ("raise SystemExit",))

    assert describe_failure(dump_failure(KeyError("k"))) == ("KeyError: 'k'", "KeyError: 'k'\n")
    for encoding in (Encoding.PICKLED, Encoding.BUFFERS):
        text, printed = describe_failure(bytes((encoding, 0)) + pickle.dumps([Evil()]))
        assert "failure" in text
        assert printed == ""
    reason = encode_value({"reason": "lost-data", "message": "the data was lost"})
    assert reason is not None
    assert describe_failure(reason) == ("the data was lost", "")
