"""The warning about a large object that is an argument again and again. May import: fastdist, the standard library."""

from __future__ import annotations

import warnings
from array import array

import pytest

from fastdist import config
from fastdist._core.codec.sizeof import sizeof
from fastdist.client.large_arguments import ArgumentPickler
from fastdist.client.large_graph import bytes_in_words

LARGE = 20_000


@pytest.fixture
def pickler() -> ArgumentPickler:
    with config.set({"admin.large-graph-warning-threshold": 10_000}):
        return ArgumentPickler()


def test_an_object_that_is_sent_twice_is_named_once(pickler: ArgumentPickler) -> None:
    data = array("B", bytes(LARGE))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickler((1, data))
    with pytest.warns(UserWarning) as caught:
        pickler((2, data))
        pickler((3, data))
    assert [str(each.message) for each in caught] == [
        f"One array.array of {bytes_in_words(sizeof(data))} is sent again with each task (args[1]). "
        "Send it once, future = "
        "client.scatter(value), and give the tasks the future."
    ]
    assert caught[0].filename == __file__


def test_a_keyword_counts_as_well(pickler: ArgumentPickler) -> None:
    data = array("B", bytes(LARGE))
    pickler((), {"table": data})
    with pytest.warns(UserWarning, match=r"\(table=\)"):
        pickler((), {"table": data})


def test_other_objects_of_the_same_size_are_no_reason(pickler: ArgumentPickler) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            pickler((array("B", bytes(LARGE)),))
            pickler((bytes(LARGE),))
            pickler((array("B", bytes(100)),))
