"""The search for leaks, in short, and that it finds one; `make leaks` is the whole."""

from __future__ import annotations

import psutil
import pytest

from tests.leaks.__main__ import GROUP, Sample, Watch, judge, main


def watched(samples: list[Sample]) -> Watch:
    """As if one process had been looked at."""
    return Watch(client=None, processes={"it": psutil.Process()}, samples={"it": samples})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("last", "sound"),
    [
        (Sample(50.0, 9, 3), True),
        (Sample(50.1, 9, 3), True),
        (Sample(53.0, 9, 3), False),
        (Sample(50.0, 10, 3), False),
        (Sample(50.0, 9, 4), False),
    ],
)
def test_growth_and_what_is_left_are_found(last: Sample, sound: bool) -> None:
    samples = [Sample(50.0, 9, 3)] * (2 * GROUP) + [last] * GROUP
    assert judge(watched(samples), "tasks", per_round=0.02) is sound


def test_tables_that_grow_and_are_cut_are_no_leak() -> None:
    samples = [Sample(50.0 + number % 7, 9 + number % 2, 3) for number in range(5 * GROUP)]
    assert judge(watched(samples), "tasks", per_round=0.02)


@pytest.mark.slow
def test_a_million_tasks_and_a_thousand_clients_leave_nothing() -> None:
    assert main([]) == 0
