"""Results that travel: payloads in one piece or in several."""

from __future__ import annotations

import threading

import numpy
import pytest

from fastdist._core.codec.values import Encoding, decode_value
from fastdist.errors import FrameError, SerializationError
from fastdist.protocol.results import dumps, loads, nbytes


class Model:
    def __init__(self, weights: object) -> None:
        self.weights = weights


@pytest.mark.parametrize(
    "value", [None, 5, "text", [1, {"a": (2.5,)}], b"x" * 1_000_000, range(3), ValueError("no")]
)
def test_values_come_back(value):
    buffers = dumps(value)
    assert len(buffers) == 1
    assert repr(loads(buffers)) == repr(value)
    assert repr(loads([memoryview(bytearray(buffers[0]))])) == repr(value)


def test_small_builtin_values_are_encoded_and_others_pickled():
    assert dumps([1])[0][0] == Encoding.ENCODED
    assert dumps(Model(1))[0][0] == Encoding.PICKLED
    assert dumps(numpy.ones(100_000))[0][0] == Encoding.BUFFERS


def test_a_large_array_is_not_copied_on_the_way_out():
    array = numpy.ones(100_000)
    head, piece = dumps([Model(array), 1])
    assert len(head) < 1000
    assert numpy.shares_memory(numpy.frombuffer(piece, "f8"), array)
    assert nbytes([head, piece]) == len(head) + array.nbytes


def test_a_large_array_is_not_copied_on_the_way_in_if_its_memory_can_be_kept():
    array = numpy.arange(100_000, dtype="f8")
    head, piece = dumps(array)
    received = bytearray(piece)
    loaded = loads([head, received])
    assert (loaded == array).all()
    assert numpy.shares_memory(loaded, numpy.frombuffer(received, "f8"))


@pytest.mark.parametrize("receive", [bytes, bytearray, lambda piece: memoryview(bytes(piece)), memoryview])
def test_arrays_are_writable_however_they_came(receive):
    array = numpy.arange(100_000, dtype="f8").reshape(100, 1000)
    loaded = loads([receive(buffer) for buffer in dumps({"a": array, "b": array.T})])
    assert (loaded["a"] == array).all()
    assert loaded["a"].flags.writeable
    assert (loaded["b"] == array.T).all()
    assert loads([b"".join(dumps(array))]).flags.writeable


def test_read_only_arrays_stay_read_only():
    array = numpy.ones(100_000)
    array.flags.writeable = False
    assert not loads(dumps(array)).flags.writeable
    assert not loads([b"".join(dumps(array))]).flags.writeable


def test_a_joined_payload_can_be_decoded_by_the_core():
    array = numpy.arange(100_000)
    assert (decode_value(b"".join(dumps([array, "x"])))[0] == array).all()


def test_pandas_frames_come_back():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": numpy.arange(100_000), "b": ["x"] * 100_000})
    buffers = dumps(frame)
    assert len(buffers) > 1
    loaded = loads([bytearray(buffer) for buffer in buffers])
    assert loaded.equals(frame)
    loaded.loc[0, "a"] = 5


def test_an_unpicklable_value_is_refused_with_the_path():
    with pytest.raises(SerializationError, match=r"value\['model'\]\.weights \(a _thread.lock\)"):
        dumps({"model": Model(threading.Lock())})


def test_pieces_that_do_not_fit_together_are_refused():
    head, piece = dumps(numpy.ones(100_000))
    for buffers in (
        [],
        [b""],
        [head, piece, piece],
        [head, piece[:-8]],
        [head[:-1], piece],
        [head[:20], piece],
        [head[:3], piece],
        [head],
        [dumps(5)[0], piece],
        [b"\x03\x01" + head[2:], piece],
    ):
        with pytest.raises(FrameError):
            loads(buffers)
