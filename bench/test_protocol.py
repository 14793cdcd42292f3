"""What pickling costs, per value: functions, arguments, results, failures."""

from __future__ import annotations

import datetime
import operator

import numpy
import pytest

from fastdist._core.codec.values import decode_call
from fastdist.protocol.arguments import serialize_arguments
from fastdist.protocol.failures import dump_failure, load_failure
from fastdist.protocol.functions import FunctionCache, load_function
from fastdist.protocol.results import dumps, loads

ARGUMENTS = {
    "encoded": (5,),
    "date": (datetime.date(2026, 1, 1),),
    "lambda": (lambda x: x + 1,),
    "array of 1 MiB": (numpy.ones(1 << 17), range(3)),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_serialize_arguments(benchmark, name):
    payload, references = benchmark(serialize_arguments, ARGUMENTS[name])
    assert payload
    assert not references


@pytest.mark.parametrize("name", ARGUMENTS)
def test_decode_arguments(benchmark, name):
    payload, _ = serialize_arguments(ARGUMENTS[name])
    assert len(benchmark(decode_call, payload, [])[0]) == len(ARGUMENTS[name])


@pytest.mark.parametrize("function", [operator.add, lambda x: x + 1], ids=["importable", "lambda"])
def test_serialize_function(benchmark, function):
    assert benchmark(FunctionCache().serialize_function, function).payload


def test_load_function(benchmark):
    payload = FunctionCache().serialize_function(lambda x: x + 1).payload
    assert benchmark(load_function, payload)(1) == 2


@pytest.mark.parametrize("size", [100, 1 << 17, 1 << 22])
def test_result_there_and_back(benchmark, size):
    array = numpy.ones(size)
    assert benchmark(lambda: loads([bytearray(buffer) for buffer in dumps(array)])).size == size


def test_failure_there_and_back(benchmark):
    try:
        operator.truediv(1, 0)
    except ZeroDivisionError as error:
        exception = error
    assert type(benchmark(lambda: load_failure(dump_failure(exception)))) is ZeroDivisionError
