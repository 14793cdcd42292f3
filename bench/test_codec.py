"""What the compiled value encoding costs, per value: encode, decode, and the size of a value."""

from __future__ import annotations

import numpy
import pytest

from fastdist._core.codec.sizeof import sizeof
from fastdist._core.codec.values import decode_call, decode_value, encode_call, encode_value

CALLS = {
    "one int": ((5,), None),
    "three mixed": ((5, 2.5, "text"), None),
    "one kwarg": ((5,), {"scale": 2}),
    "list of 10": (([1, 2, 3, 4, 5, 6, 7, 8, 9, 10],), None),
    "dict of 10": (({f"key-{number}": number for number in range(10)},), None),
    "numpy scalar": ((numpy.float64(2.5),), None),
    "array of 100": ((numpy.ones(100),), None),
}


class Reference:
    """Stands for a Future."""


@pytest.mark.parametrize("name", CALLS)
def test_encode_arguments(benchmark, name):
    args, kwargs = CALLS[name]
    assert benchmark(encode_call, args, kwargs) is not None


@pytest.mark.parametrize("name", CALLS)
def test_decode_arguments(benchmark, name):
    payload, _ = encode_call(*CALLS[name])
    assert len(benchmark(decode_call, payload, [])[0]) == len(CALLS[name][0])


@pytest.mark.parametrize("count", [1, 3, 10_000])
def test_encode_references(benchmark, count):
    args = ([Reference() for _ in range(count)],)
    assert len(benchmark(encode_call, args, None, Reference)[1]) == count


@pytest.mark.parametrize(
    "value", [5, "text", [1, 2, 3], numpy.ones(100)], ids=lambda value: type(value).__name__
)
def test_encode_and_decode_result(benchmark, value):
    assert type(benchmark(lambda: decode_value(encode_value(value, 4096)))) is type(value)


@pytest.mark.parametrize(
    "value",
    [5, "text", [1, 2, 3], numpy.ones(100), list(range(100_000))],
    ids=["int", "str", "list", "array", "long list"],
)
def test_sizeof(benchmark, value):
    assert benchmark(sizeof, value) > 0
