"""Exceptions as text and back."""

from __future__ import annotations

import pytest

from fastdist.errors import CommClosedError, FrameError, RemoteError
from fastdist.rpc.remote_errors import describe_error, rebuild_error


@pytest.mark.parametrize(
    "error", [ValueError("a"), KeyError("k"), FrameError("f"), CommClosedError("c"), TypeError("")]
)
def test_a_known_class_survives(error: Exception) -> None:
    again = rebuild_error(*describe_error(error))
    assert type(again) is type(error)
    assert str(again) == str(error) or not str(error)


@pytest.mark.parametrize(
    "name", ["SystemExit", "KeyboardInterrupt", "print", "annotations", "StopIteration", "", "__doc__"]
)
def test_no_other_name_is_ever_raised_or_called(name: str) -> None:
    assert type(rebuild_error("text", name)) is RemoteError


def test_an_empty_text_is_replaced_and_a_long_one_cut() -> None:
    assert describe_error(ValueError()) == ("ValueError()", "ValueError")
    assert len(describe_error(ValueError("x" * 10**6))[0]) == 64 * 1024
