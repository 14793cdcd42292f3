"""Sizes of values: near the truth for what is common, never an error."""

from __future__ import annotations

import array
import collections
import subprocess
import sys

import numpy
import pytest

from fastdist._core.codec.sizeof import DEFAULT_SIZE, sizeof


@pytest.mark.parametrize(
    "value",
    [
        None, True, 5, -(10**30), 10**1000, 1.5, 2j, "", "ascii" * 50, "é" * 50, "\U0001f600" * 50, b"",
        b"x" * 999,
        bytearray(999), array.array("d", [1.0] * 99), (), [], object(), range(5),
    ],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_small_values_are_sized_as_python_sizes_them(value):
    assert abs(sizeof(value) - sys.getsizeof(value)) <= 32


def test_containers_count_what_they_hold():
    block = "x" * 10_000
    for value in ([block], (block,), {"k": block}, {block: 1}, {block}, frozenset({block}), [[[block]]]):
        assert 10_000 <= sizeof(value) < 11_000


def test_subclasses_of_containers_count_what_they_hold():
    point = collections.namedtuple("point", "x y")
    for value in (
        point("x" * 10_000, 1),
        collections.OrderedDict(a="x" * 10_000),
        collections.defaultdict(list, a=["x" * 10_000]),
    ):
        assert 10_000 <= sizeof(value) < 11_000


def test_long_containers_are_estimated():
    exact = sum(sys.getsizeof(str(i)) for i in range(100_000)) + 8 * 100_000
    for value in ([str(i) for i in range(100_000)], tuple(str(i) for i in range(100_000))):
        assert exact * 0.8 < sizeof(value) < exact * 1.2
    assert sizeof(dict.fromkeys(range(10000), "x" * 1000)) > 10_000_000
    assert sizeof({str(i) * 100 for i in range(10_000)}) > 2_000_000


def test_what_is_met_twice_is_counted_once():
    block = numpy.ones(10_000)
    assert sizeof([block, block, block]) < 81_000
    endless: list = []
    endless.append(endless)
    assert sizeof(endless) < 200


def test_deep_and_wide_values_are_bounded():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert sizeof(deep) > 0
    wide = [[[[0] * 50 for _ in range(50)] for _ in range(50)] for _ in range(50)]
    assert sizeof(wide) > 0


def test_arrays_count_their_own_elements():
    base = numpy.ones(100_000)
    assert 800_000 <= sizeof(base) < 801_000
    assert 80_000 <= sizeof(base[:10_000]) < 81_000
    assert sizeof(numpy.broadcast_to(numpy.ones(1), (1_000_000,))) < 1000
    assert sizeof(numpy.zeros((0, 5))) < 1000
    assert 400 <= sizeof(memoryview(base)[:50]) < 1000


def test_arrays_of_objects_count_the_objects():
    texts = numpy.array(["x" * 1000 + str(i) for i in range(1000)], dtype=object)
    assert 900_000 < sizeof(texts) < 1_200_000


def test_plain_objects_count_their_attributes():
    class Model:
        def __init__(self) -> None:
            self.weights = numpy.ones(1000)

    assert sizeof(Model()) > 8000


def test_a_broken_size_gives_the_default_and_is_asked_once():
    calls = []

    class Broken:
        def __sizeof__(self) -> int:
            calls.append(1)
            raise OSError("no size")

    assert sizeof(Broken()) == DEFAULT_SIZE
    assert sizeof([Broken()]) >= DEFAULT_SIZE
    assert len(calls) == 1


@pytest.mark.parametrize("size", ["text", -5, None])
def test_a_nonsense_size_gives_the_default(size):
    class Nonsense:
        def __sizeof__(self):
            return size

    assert sizeof(Nonsense()) == DEFAULT_SIZE


def test_a_list_that_changes_while_it_is_sized():
    values: list = []

    class Clears:
        def __sizeof__(self) -> int:
            values.clear()
            return 10

    values.extend([Clears(), 1, 2, 3])
    assert sizeof(values) > 0
    mapping: dict = {}

    class Grows:
        def __sizeof__(self) -> int:
            mapping.update({i: i for i in range(1000)})
            return 10

    mapping[Grows()] = 1
    assert sizeof(mapping) > 0


def test_dask_is_asked_only_if_it_is_loaded_or_knows_the_library():
    program = """
import sys, fractions
from fastdist._core.codec.sizeof import sizeof
import numpy
sizeof([1, "a", fractions.Fraction(1), numpy.ones(3)])
assert "dask" not in sys.modules
class Table: pass
Table.__module__ = "pandas.core.frame"
sizeof(Table())
assert "dask" in sys.modules
"""
    pytest.importorskip("dask")
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_size_that_dask_registers_is_used():
    dask_sizeof = pytest.importorskip("dask.sizeof")

    class Registered:
        pass

    @dask_sizeof.sizeof.register(Registered)
    def size_of_registered(value):
        return 12_345

    assert sizeof(Registered()) == 12_345
