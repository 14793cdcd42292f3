"""Arguments as payloads: references, pickling by value, buffers, and errors that say where."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import cloudpickle
import numpy
import pytest

from fastdist._core.codec.values import Encoding, decode_call
from fastdist.errors import FastdistError, SerializationError
from fastdist.protocol.arguments import pickle_arguments, serialize_arguments
from fastdist.protocol.pickling import OUT_OF_BAND_FROM


class Reference:
    """Stands for a Future."""


class Holder:
    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner: object) -> None:
        self.inner = inner


class Ordinary:
    def __init__(self, number: int) -> None:
        self.number = number


def test_builtin_arguments_are_encoded():
    payload, references = serialize_arguments((1, [2]), {"k": None})
    assert payload[0] == Encoding.ENCODED
    assert references == []
    assert decode_call(payload, []) == ((1, [2]), {"k": None})


def test_other_arguments_are_pickled():
    payload, _ = serialize_arguments((Ordinary(5),))
    assert payload[0] == Encoding.PICKLED
    args, kwargs = decode_call(payload, [])
    assert args[0].number == 5
    assert kwargs is None


def test_what_is_shared_stays_shared():
    shared = [1]
    args, kwargs = decode_call(serialize_arguments((shared, shared), {"k": shared})[0], [])
    assert args[0] is args[1] is kwargs["k"]


def test_references_beside_pickled_arguments_are_found():
    first, second = Reference(), Reference()
    payload, references = serialize_arguments(
        (Ordinary(1), first, [second, {"k": first}]), {"name": {second}}, Reference
    )
    assert payload[0] == Encoding.PICKLED
    assert references == [first, second]
    args, kwargs = decode_call(payload, ["one", "two"])
    assert args[1:] == ("one", ["two", {"k": "one"}])
    assert kwargs == {"name": {"two"}}


def test_references_inside_other_objects_are_left_alone():
    payload, references = serialize_arguments((Holder(inside=Reference()),), None, Reference)
    assert references == []
    assert isinstance(decode_call(payload, [])[0][0].inside, Reference)


@pytest.mark.parametrize("size", [OUT_OF_BAND_FROM // 8 - 1, OUT_OF_BAND_FROM // 8, 1_000_000])
def test_arrays_come_back_writable_whatever_their_size(size):
    array = numpy.arange(size, dtype="f8")
    payload, _ = pickle_arguments((array, Ordinary(1)), {"k": array})
    assert payload[0] == (Encoding.BUFFERS if array.nbytes >= OUT_OF_BAND_FROM else Encoding.PICKLED)
    args, kwargs = decode_call(payload, [])
    assert (args[0] == array).all()
    assert args[0] is kwargs["k"]
    assert args[0].flags.writeable
    assert args[0].flags.aligned


def test_read_only_and_fortran_arrays_come_back_as_they_were():
    array = numpy.asfortranarray(numpy.ones((300, 300)))
    array.flags.writeable = False
    loaded = decode_call(serialize_arguments((array,))[0], [])[0][0]
    assert not loaded.flags.writeable
    assert loaded.flags.f_contiguous
    assert (loaded == array).all()


def test_lambdas_and_local_classes_are_pickled_by_value():
    offset = 5

    class Local:
        def value(self) -> int:
            return offset

    args, _ = decode_call(serialize_arguments((lambda x: x + offset, Local()))[0], [])
    assert args[0](1) == 6
    assert args[1].value() == 5


def test_what_main_defines_is_pickled_by_value():
    program = textwrap.dedent("""
        import sys
        from fastdist.protocol.arguments import serialize_arguments
        class Mine:
            number = 7
        def double(x):
            return 2 * x
        sys.stdout.buffer.write(serialize_arguments((Mine(), double))[0])
    """)
    payload = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE).stdout
    args, _ = decode_call(payload, [])
    assert args[0].number == 7
    assert args[1](4) == 8


def test_the_text_main_among_the_data_changes_nothing():
    assert decode_call(serialize_arguments((Ordinary(1), "__main__"))[0], [])[0][1] == "__main__"


def test_modules_registered_with_cloudpickle_are_pickled_by_value():
    module = sys.modules[__name__]
    by_name, _ = serialize_arguments((Ordinary(1),))
    cloudpickle.register_pickle_by_value(module)
    try:
        by_value, _ = serialize_arguments((Ordinary(1),))
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    assert len(by_value) > 2 * len(by_name)


def refused(*args: object, **kwargs: object) -> SerializationError:
    with pytest.raises(SerializationError) as caught:
        serialize_arguments(args, kwargs)
    assert caught.value.__cause__ is not None
    return caught.value


def test_the_error_is_a_type_error_and_keeps_the_cause():
    error = refused(threading.Lock())
    assert isinstance(error, TypeError)
    assert isinstance(error, FastdistError)
    assert isinstance(error.__cause__, TypeError)
    assert "_thread.lock" in str(error.__cause__)


LOCK = threading.Lock()


@pytest.mark.parametrize(
    "args, kwargs, path",
    [
        ((LOCK,), {}, "args[0]"),
        ((1, {"model": Holder(_lock=LOCK)}), {}, "args[1]['model']._lock"),
        ((Holder(a=Holder(b=[1, LOCK])),), {}, "args[0].a.b[1]"),
        ((1,), {"option": {"deep": (1, LOCK)}}, "kwargs['option']['deep'][1]"),
        ((Slotted(LOCK),), {}, "args[0].inner"),
        (({1, 2}, frozenset({LOCK})), {}, "args[1] item <lock>"),
        (({LOCK: 1},), {}, "args[0] key <lock>"),
        (((number for number in "abc"),), {}, "args[0]"),
        (([Holder(stream=(n for n in "abc"))],), {}, "args[0][0].stream"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_error_gives_the_path(args, kwargs, path):
    message = str(refused(*args, **kwargs))
    assert message.startswith(f"cannot pickle {path} (a ")


def test_the_error_gives_the_type():
    assert "(a builtins.generator)" in str(refused(Holder(g=(x for x in ""))))


def test_an_open_file_is_named(tmp_path):
    with open(tmp_path / "file", "w") as stream:
        message = str(refused([Holder(log=stream)]))
    assert "args[0][0].log" in message
    assert "TextIOWrapper" in message


def test_a_lambda_over_something_with_a_lock_is_named():
    client = Holder(connection=Holder(_lock=threading.RLock()))
    message = str(refused(lambda: client))
    assert "args[0] closure client.connection._lock" in message


def uses_global_lock() -> bool:
    return LOCK.locked()


def test_a_global_with_a_lock_is_named():
    function = cloudpickle.loads(cloudpickle.dumps(lambda: None))
    function.__code__ = (lambda: LOCK.locked()).__code__  # type: ignore[name-defined]
    function.__globals__["LOCK"] = LOCK
    assert "args[0] global LOCK" in str(refused(function))


def test_deep_recursion_is_an_error_of_its_own():
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    assert "args[0][0]" in str(refused(deep))
    with pytest.raises(SerializationError, match="nested too deep") as caught:
        serialize_arguments((deep, object()), None, Reference)
    assert isinstance(caught.value.__cause__, RecursionError)


def test_an_object_that_breaks_while_it_is_looked_at():
    class Hostile:
        def __getattr__(self, name: str) -> object:
            raise OSError("no")

        def __reduce_ex__(self, protocol: int) -> object:
            raise OSError("not this one")

    error = refused([Hostile()])
    assert "args[0][0]" in str(error)
    assert isinstance(error.__cause__, OSError)


def test_an_error_text_is_bounded():
    class Loud:
        def __reduce__(self) -> object:
            raise ValueError("x" * 1_000_000)

    assert len(str(refused({"k" * 10_000: Loud()}))) < 1000
