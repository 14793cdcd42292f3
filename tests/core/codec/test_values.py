"""The compiled value encoding and payloads: round trips, refusals, and bytes that are no payload."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
import threading

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdist._core.codec import references as references_module
from fastdist._core.codec.references import Dependency, replace_references
from fastdist._core.codec.values import (
    ARGUMENTS_LIMIT,
    Encoding,
    decode_call,
    decode_value,
    dependency,
    encode_call,
    encode_value,
    own_buffer,
)
from fastdist.errors import FrameError


class Reference:
    """Stands for a Future."""


class IntSubclass(int):
    pass


SIMPLE = [
    None, True, False, 0, 1, -1, 127, 128, -128, -129, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1,
    2**63 - 1, 2**63,
    -(2**63), -(2**63) - 1, 2**64, 10**500, -(10**500), 0.0, -0.0, 1.5, math.inf, -math.inf, 5e-324, 1j,
    complex(-0.0, 2),
    "", "a", "x" * 255, "x" * 256, "é", "é" * 300, "\U0001f600", "\ud800", b"", b"\x00", b"b" * 255,
    b"b" * 256,
    (), (1,), tuple(range(255)), tuple(range(256)), [], [1, [2, [3]]], {}, {"a": {1: (2,)}}, set(), {1,
    "a"}, frozenset(),
    frozenset({(1, 2)}), {None: [None]},
]  # fmt: skip


@pytest.mark.parametrize("value", SIMPLE, ids=lambda value: repr(value)[:30])
def test_builtin_values_come_back_equal_and_of_the_same_type(value):
    payload = encode_value(value)
    assert payload[0] == Encoding.ENCODED
    decoded = decode_value(payload)
    assert decoded == value
    assert type(decoded) is type(value)
    assert repr(decoded) == repr(value)


def test_nan_comes_back():
    assert math.isnan(decode_value(encode_value(math.nan)))


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
)
hashables = scalars | st.tuples(scalars, scalars) | st.frozensets(st.integers(), max_size=3)
values = st.recursive(
    hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(hashables, inner, max_size=4)
        | st.sets(hashables, max_size=4)
    ),
    max_leaves=8,
)


def described(value: object) -> object:
    """A value with the types of all that is in it; sets in one order."""
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [described(item) for item in value]
    if isinstance(value, dict):
        return "dict", [(described(key), described(item)) for key, item in value.items()]
    if isinstance(value, (set, frozenset)):
        return type(value).__name__, sorted(repr(described(item)) for item in value)
    return type(value).__name__, repr(value)


@given(values)
def test_any_builtin_value_is_encoded_like_pickle_or_refused(value):
    payload = encode_value(value)
    if payload is not None:
        assert described(decode_value(payload)) == described(pickle.loads(pickle.dumps(value)))


@given(st.lists(values, max_size=3), st.dictionaries(st.text(), values, max_size=3))
def test_any_arguments_come_back(args, kwargs):
    encoded = encode_call(tuple(args), kwargs)
    if encoded is not None:
        assert decode_call(encoded[0], []) == (tuple(args), kwargs or None)


@pytest.mark.parametrize(
    "dtype", ["?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d", "F", "D"]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (0, 5), (5, 0), (1, 1, 2)])
def test_arrays_come_back_writable_and_their_own(dtype, shape):
    array = numpy.arange(math.prod(shape)).reshape(shape).astype(dtype)
    decoded = decode_value(encode_value([array]))[0]
    assert decoded.dtype == array.dtype
    assert decoded.shape == array.shape
    assert (decoded == array).all()
    assert decoded.flags.writeable
    assert decoded.flags.owndata


@pytest.mark.parametrize(
    "scalar",
    [
        numpy.bool_(True), numpy.int8(-3), numpy.uint64(2**64 - 1), numpy.int64(-5), numpy.float16(1.5),
        numpy.float32(0.1), numpy.float64(0.1), numpy.complex64(1 + 2j), numpy.complex128(1 + 2j),
    ],
    ids=lambda scalar: scalar.dtype.name,
)  # fmt: skip
def test_numpy_scalars_come_back_of_the_same_type(scalar):
    decoded = decode_value(encode_value(scalar))
    assert decoded == scalar
    assert type(decoded) is type(scalar)


def read_only_array():
    array = numpy.arange(3)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "value",
    [
        object(), IntSubclass(5), bytearray(b"a"), memoryview(b"a"), range(3), slice(1), Ellipsis, int,
        len, Reference(),
        numpy.arange(10)[::2], numpy.ones((2, 3), order="F"), numpy.array(["text"]), numpy.array([object()]),
        numpy.array([1], ">i4"), numpy.array([1], "M8[s]"), numpy.zeros(2, "i4,f8"),
        numpy.longdouble(1), read_only_array(),
        numpy.ma.array([1]), numpy.datetime64(1, "s"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_other_objects_are_refused(value):
    assert encode_value(value) is None
    assert encode_value([1, {"a": (value,)}]) is None
    assert encode_call((value,)) is None


def test_fortran_order_is_left_to_pickle_but_one_dimension_is_not():
    assert encode_value(numpy.ones((2, 3)).T) is None
    assert encode_value(numpy.ones((1, 3)).T) is not None


@pytest.mark.parametrize(
    "shared",
    [[1], {"a": 1}, {1}, frozenset({1}), (1,), numpy.ones(2), "x" * 100, b"x" * 100],
    ids=lambda x: type(x).__name__,
)
def test_an_object_met_twice_is_left_to_pickle(shared):
    assert encode_value([shared, 1]) is not None
    assert encode_value([shared, shared]) is None
    assert encode_value((shared, {"deep": [shared]})) is None
    many = [[index] for index in range(50)]
    assert encode_value([shared, many]) is not None
    assert encode_value([shared, many, shared]) is None


def test_short_strings_numbers_and_empty_tuples_may_be_met_twice():
    value = ["key", "key", 1.5, 1.5, (), ()]
    assert decode_value(encode_value(value)) == value


def test_a_container_that_holds_itself_is_refused():
    endless: list = []
    endless.append(endless)
    assert encode_value(endless) is None


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_is_bounded_in_both_directions():
    assert decode_value(encode_value(nested(32))) == nested(32)
    assert encode_value(nested(33)) is None
    assert encode_value(nested(100_000)) is None
    forged = b"\x01\x00" + b"\x0d\x01" * 33 + b"\x00"
    with pytest.raises(FrameError, match="nested"):
        decode_value(forged)


def test_a_payload_keeps_to_its_limit():
    payload = encode_value([1, 2, 3])
    assert encode_value([1, 2, 3], len(payload)) == payload
    for limit in range(len(payload)):
        assert encode_value([1, 2, 3], limit) is None
    assert encode_value(None, -1) is None
    assert encode_value(2**100_000, 1000) is None
    assert encode_call((b"x" * ARGUMENTS_LIMIT,)) is None


def test_kwargs_are_present_only_if_there_are_some():
    assert decode_call(encode_call((1,), {})[0], []) == ((1,), None)
    assert decode_call(encode_call((1,), None)[0], []) == ((1,), None)
    assert decode_call(encode_call((), {"a": 2})[0], []) == ((), {"a": 2})


def test_a_trivial_call_is_small():
    assert len(encode_call((5,))[0]) == 6


def test_references_are_numbered_by_identity():
    first, second = Reference(), Reference()
    payload, references = encode_call((first, [second, first]), {"k": {first, second}}, Reference)
    assert references == [first, second]
    args, kwargs = decode_call(payload, ["one", "two"])
    assert args == ("one", ["two", "one"])
    assert kwargs == {"k": {"one", "two"}}


def test_an_input_is_passed_as_the_object_itself():
    value = object()
    payload, _ = encode_call((Reference(),), None, Reference)
    assert decode_call(payload, [value])[0][0] is value


def test_a_subclass_of_the_reference_type_is_no_reference():
    class Other(Reference):
        pass

    assert encode_call((Other(),), None, Reference) is None


def test_refused_arguments_leave_no_references_behind():
    assert encode_call((Reference(), object()), None, Reference) is None


def test_thousands_of_references_are_encoded():
    sources = [Reference() for _ in range(10_000)]
    payload, references = encode_call((sources,), None, Reference)
    assert references == sources
    assert decode_call(payload, list(range(10_000))) == ((list(range(10_000)),), None)


def test_a_reference_to_a_missing_input_is_an_error():
    payload, _ = encode_call((Reference(),), None, Reference)
    with pytest.raises(FrameError, match="input 0"):
        decode_call(payload, [])
    with pytest.raises(FrameError, match="input 0"):
        decode_value(payload)


def test_an_unhashable_input_is_the_users_type_error():
    payload, _ = encode_call(({Reference()},), None, Reference)
    with pytest.raises(TypeError, match="unhashable"):
        decode_call(payload, [[]])


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\x01", b"\x01\x00", b"\x00\x00\x00", b"\x09\x00\x00", b"\x01\x00\xff", b"\x01\x00\x00\x00",
        b"\x01\x01\x00",                                     # a result with the shape of arguments
        b"\x01\x00\x0f\xff\xff\xff\xff",                     # a list longer than its payload
        b"\x01\x00\x0a\xff\xff\xff\xff", b"\x01\x00\x06\x10\x00\x00\x00\x01",
        b"\x01\x00\x09\x02\xff\xff",                         # no utf-8
        b"\x01\x00\x11\x01\x00\x00\x00\x0f\x00\x00\x00\x00", # a set of lists
        b"\x01\x00\x10\x01\x00\x00\x00\x0f\x00\x00\x00\x00\x00",
        b"\x01\x00\x13\x00\x00\x00\x00", b"\x01\x00\x14\x63\x00", b"\x01\x00\x14\x0b\x00",
        b"\x01\x00\x15\x0b\x01" + b"\xff" * 8, b"\x01\x00\x15\x0b\x02" + b"\xff" * 16,
        b"\x01\x00\x15\x0b\xff",
        b"\x01\x00\x15\x0b\x02" + b"\x00" * 7 + b"\x40" + b"\x00" * 8,
        b"\x03\x00", b"\x03\x00\x00\x00\x00\x00", b"\x03\x00\xff\xff\xff\xff",
        b"\x03\x00\x01\x00\x00\x00" + b"\xff" * 8,
        b"\x03\x00\x01\x00\x00\x00" + b"\x01" + b"\x00" * 7 + b"NN",
    ],
    ids=lambda payload: payload.hex()[:24],
)  # fmt: skip
def test_bytes_that_are_no_payload_are_refused(payload):
    with pytest.raises(FrameError):
        decode_value(payload)


def test_an_array_too_large_for_numpy_is_refused():
    shape = (0).to_bytes(8, "little") + (2**63).to_bytes(8, "little")
    with pytest.raises(FrameError, match="larger than any memory"):
        decode_value(b"\x01\x00\x15\x0b\x02" + shape)


@pytest.mark.parametrize("value", [(1, 2), [1], ((1,), [2]), ([1], {}), ((), {}, 1)])
def test_arguments_must_be_a_tuple_and_a_dict(value):
    payload = encode_value(value)
    with pytest.raises(FrameError, match="no arguments"):
        decode_call(payload[:1] + b"\x01" + payload[2:], [])
    with pytest.raises(FrameError, match="shape"):
        decode_call(payload[:1] + b"\x02" + payload[2:], [])


@settings(max_examples=500)
@given(st.binary(max_size=200), st.integers(0, 3))
def test_arbitrary_bytes_never_crash_the_decoder(data, inputs):
    for payload in (b"\x01\x00" + data, b"\x01\x01" + data, b"\x03\x00" + data + pickle.dumps(())):
        try:
            decode_call(payload, [None] * inputs)
        except ValueError:
            continue


@settings(max_examples=300)
@given(values, st.data())
def test_damaged_payloads_never_crash_the_decoder(value, data):
    payload = encode_value([value, 1])
    if payload is None:
        return
    position = data.draw(st.integers(2, len(payload) - 1))
    damaged = bytearray(payload)
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        decode_value(bytes(damaged))
    except ValueError:
        return


@given(values, st.data())
def test_a_shortened_payload_is_refused(value, data):
    payload = encode_value((1, value))
    if payload is None:
        return
    with pytest.raises(FrameError):
        decode_value(payload[: data.draw(st.integers(0, len(payload) - 1))])


def pickled_call(value: object) -> bytes:
    return bytes((Encoding.PICKLED, 0)) + pickle.dumps(value)


def test_a_pickle_finds_the_inputs_of_its_task():
    payload = pickled_call((Dependency(1), [Dependency(0)]))
    assert decode_call(payload, ["zero", "one"]) == (("one", ["zero"]), None)


class DecodesInside:
    """Decodes other arguments while its own are decoded."""

    def __reduce__(self):
        return decode_inside, (pickled_call((Dependency(0),)),)


def decode_inside(payload: bytes) -> object:
    return decode_call(payload, ["inner"])


class Fails:
    def __reduce__(self):
        return fail, ()


def fail() -> None:
    raise KeyError("while loading")


def test_a_decode_inside_a_decode_has_its_own_inputs():
    payload = pickled_call((Dependency(0), DecodesInside(), Dependency(0)))
    assert decode_call(payload, ["outer"]) == (("outer", (("inner",), None), "outer"), None)


def test_inputs_are_forgotten_after_a_failed_decode():
    with pytest.raises(KeyError, match="while loading"):
        decode_call(pickled_call((Fails(),)), ["input"])
    with pytest.raises(RuntimeError, match="only while arguments are decoded"):
        dependency(0)


def test_a_pickle_cannot_name_a_missing_input():
    for number in (1, -1):
        with pytest.raises(FrameError, match="does not exist"):
            decode_call(pickled_call((Dependency(number),)), ["only"])


def test_the_pickle_of_a_result_sees_no_inputs():
    with pytest.raises(RuntimeError, match="only while arguments are decoded"):
        decode_value(pickled_call((Dependency(0),)))


def test_threads_do_not_see_the_inputs_of_each_other():
    payload = pickled_call(tuple([Dependency(0)] * 10))
    wrong = []

    def decode(name: str) -> None:
        for _ in range(200):
            if decode_call(payload, [name])[0] != (name,) * 10:
                wrong.append(name)

    threads = [threading.Thread(target=decode, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_own_buffer_copies_what_is_read_only_or_a_small_part():
    data = bytearray(1 << 16)
    whole = memoryview(data)
    assert own_buffer(whole) is whole
    assert isinstance(own_buffer(memoryview(bytes(100))), bytearray)
    assert isinstance(own_buffer(whole[: 1 << 12]), bytearray)
    assert isinstance(own_buffer(whole[1:]), bytearray)
    assert own_buffer(memoryview(b"abc")) == b"abc"


def test_references_in_nested_containers_are_replaced():
    first, second = Reference(), Reference()
    shared = [first]
    value = {
        "list": shared,
        "again": shared,
        "tuple": (second, 1),
        "set": {second},
        "frozen": frozenset({first}),
    }
    references: list = []
    replaced = replace_references(value, Reference, references)
    assert references == [first, second]
    assert replaced["list"] is replaced["again"]
    assert value["list"] == [first]
    loaded = decode_call(pickled_call((replaced,)), ["one", "two"])[0][0]
    assert loaded == {
        "list": ["one"], "again": ["one"], "tuple": ("two", 1), "set": {"two"}, "frozen": frozenset({"one"})
    }  # fmt: skip


def test_a_value_without_references_is_returned_itself():
    value = [1, {"a": object()}]
    assert replace_references(value, Reference, []) is value
    assert replace_references([Reference()], None, []) != []


def test_references_are_replaced_in_a_list_that_holds_itself():
    endless: list = [Reference()]
    endless.append(endless)
    references: list = []
    replaced = replace_references(endless, Reference, references)
    assert replaced[1] is replaced
    assert isinstance(replaced[0], Dependency)


def test_containers_nested_too_deep_for_references_are_an_error():
    with pytest.raises(RecursionError, match="1000"):
        replace_references(nested(5000), Reference, [])


def test_a_dependency_pickles_as_a_call():
    assert references_module.Dependency(3).__reduce__() == (dependency, (3,))


def test_numpy_is_imported_only_to_decode_a_numpy_value():
    payload = encode_value(numpy.float64(2.5))
    program = f"""
import sys
from fastdist._core.codec.values import decode_value, encode_value
assert encode_value(object()) is None
assert decode_value(encode_value([1])) == [1]
assert "numpy" not in sys.modules
assert decode_value({payload!r}) == 2.5
assert "numpy" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
