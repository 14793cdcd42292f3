"""Retry and exponential: what they say of a failure, and what they refuse."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from fastdist import Retry, exponential
from fastdist.retries import AGAIN, ELSEWHERE, FINAL
from fastdist.worker.retrying import verdict_on


def seconds(verdict: int) -> float:
    """The wait in a verdict."""
    assert verdict & AGAIN
    return (verdict & (ELSEWHERE - 1)) * 1e-6


def test_any_exception_is_tried_again_at_once_by_default() -> None:
    assert Retry(1).verdict(OSError(), 1) == AGAIN
    assert Retry(1).verdict(KeyboardInterrupt(), 1) == FINAL


def test_only_chosen_errors_are_tried_again() -> None:
    policy = Retry(3, on=(OSError, KeyError))
    assert policy.verdict(ConnectionError(), 1) == AGAIN
    assert policy.verdict(KeyError(), 3) == AGAIN
    assert policy.verdict(ValueError(), 1) == FINAL
    assert Retry(3, on=lambda error: "again" in str(error)).verdict(ValueError("again"), 1) == AGAIN


def test_after_the_last_attempt_it_is_final() -> None:
    assert Retry(2).verdict(OSError(), 2) == AGAIN
    assert Retry(2).verdict(OSError(), 3) == FINAL


def test_the_wait_grows_up_to_its_limit() -> None:
    assert [exponential(1, "1 minute")(failures) for failures in (1, 2, 3, 7, 5000)] == [1, 2, 4, 60, 60]
    policy = Retry(9, wait=exponential(0.5, 60, factor=3), jitter=False)
    assert [seconds(policy.verdict(OSError(), failures)) for failures in (1, 2, 3)] == [0.5, 1.5, 4.5]


def test_a_wait_can_be_a_number_a_text_or_a_function() -> None:
    for wait, expected in ((0.25, 0.25), ("250 ms", 0.25), (lambda failures: failures * 2.0, 8.0)):
        assert seconds(Retry(9, wait=wait, jitter=False).verdict(OSError(), 4)) == expected


def test_jitter_shortens_a_wait_to_not_less_than_half() -> None:
    waits = {seconds(Retry(9, wait=10).verdict(OSError(), 1)) for _ in range(50)}
    assert len(waits) > 10
    assert min(waits) >= 5.0
    assert max(waits) <= 10.0


def test_another_worker_can_be_asked_for() -> None:
    assert Retry(1, not_on_worker=True).verdict(OSError(), 1) == AGAIN | ELSEWHERE


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"n": -1}, ValueError, "between 0 and 65535"),
        ({"n": 70_000}, ValueError, "between 0 and 65535"),
        ({"n": 1.5}, TypeError, "whole number"),
        ({"n": True}, TypeError, "whole number"),
        ({"n": 1, "on": ()}, ValueError, "no error at all"),
        ({"n": 1, "on": "OSError"}, TypeError, "classes of exceptions"),
        ({"n": 1, "on": int}, TypeError, "classes of exceptions"),
        ({"n": 1, "wait": -1}, ValueError, "wait="),
        ({"n": 1, "wait": math.inf}, ValueError, "wait="),
        ({"n": 1, "wait": "soon"}, ValueError, "wait="),
        ({"n": 1, "jitter": 3}, TypeError, "jitter="),
        ({"n": 1, "not_on_worker": None}, TypeError, "not_on_worker="),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Retry(**arguments)


@pytest.mark.parametrize(
    ("arguments", "text"), [((5, 1), "longer than"), ((1, 2, 0.5), "factor="), ((-1, 2), "first=")]
)
def test_an_exponential_wait_that_makes_no_sense_is_refused(arguments: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        exponential(*arguments)


def test_policies_travel() -> None:
    policy = Retry(3, on=(OSError,), wait=exponential(1, 8), jitter=False, not_on_worker=True)
    assert repr(pickle.loads(pickle.dumps(policy))) == repr(policy)
    assert repr(policy) == "Retry(3, on=(OSError), wait=exponential(1, 8, 2), jitter=False, not_on_worker=True)"


def test_without_options_there_is_no_verdict() -> None:
    error = OSError()
    assert verdict_on(None, error, 1) == (0, error)
