"""Checks of message fields: each wrong value is named, each right one comes back."""

from __future__ import annotations

from typing import Any

import pytest

from fastdist.errors import MessageError
from fastdist.rpc import fields

GOOD = [
    (fields.text, "x", "x"),
    (fields.whole, 5, 5),
    (fields.number, 5, 5.0),
    (fields.number, 0.5, 0.5),
    (fields.flag, False, False),
    (fields.mapping, {"a": 1}, {"a": 1}),
    (fields.items, [1, "a"], [1, "a"]),
    (fields.items, (1,), [1]),
    (fields.ids, [0, 2**64 - 1], [0, 2**64 - 1]),
]
BAD = [
    (fields.text, b"x"),
    (fields.text, 5),
    (fields.text, "x" * 4097),
    (fields.whole, True),
    (fields.whole, 1.0),
    (fields.whole, -1),
    (fields.whole, 2**64),
    (fields.number, float("nan")),
    (fields.number, "1"),
    (fields.number, True),
    (fields.flag, 1),
    (fields.flag, None),
    (fields.mapping, [("a", 1)]),
    (fields.mapping, {1: 2}),
    (fields.items, "abc"),
    (fields.items, {"a": 1}),
    (fields.ids, [-1]),
    (fields.ids, [2**64]),
    (fields.ids, [True]),
    (fields.ids, [1, "2"]),
]


@pytest.mark.parametrize(("check", "value", "expected"), GOOD)
def test_a_right_value_comes_back(check: Any, value: Any, expected: Any) -> None:
    assert check({"f": value}, "f") == expected


@pytest.mark.parametrize(("check", "value"), BAD)
def test_a_wrong_value_is_named(check: Any, value: Any) -> None:
    with pytest.raises(MessageError, match="'f'"):
        check({"f": value}, "f")


CHECKS = [fields.text, fields.whole, fields.number, fields.flag, fields.mapping, fields.items, fields.ids]


@pytest.mark.parametrize("check", CHECKS)
def test_an_absent_field_is_an_error_or_its_default(check: Any) -> None:
    with pytest.raises(MessageError, match="the field 'f' is missing"):
        check({}, "f")
    assert check({}, "f", default=None) is None
    assert check({"f": None}, "f", default=None) is None


def test_bounds_are_stated_in_the_error() -> None:
    with pytest.raises(MessageError, match="is 9; it must lie between 1 and 8"):
        fields.whole({"n": 9}, "n", 1, 8)
    with pytest.raises(MessageError, match="3 items; the limit is 2"):
        fields.items({"n": [1, 2, 3]}, "n", max_items=2)
    with pytest.raises(MessageError, match="2 entries; the limit is 1"):
        fields.mapping({"n": {"a": 1, "b": 2}}, "n", 1)
    with pytest.raises(MessageError, match="an item of the field 'n' must be bytes or str, not int"):
        fields.items({"n": ["a", 1]}, "n", (str, bytes))


def test_a_long_wrong_value_is_cut_in_the_error() -> None:
    with pytest.raises(MessageError) as caught:
        fields.whole({"n": "x" * 10_000}, "n")
    assert len(str(caught.value)) < 200
