"""When the scheduler gives memory back. May import: fastdist.scheduler.trimming."""

from __future__ import annotations

from typing import Any

import pytest

from fastdist.scheduler import trimming
from fastdist.scheduler.trimming import MANY_TASKS, Trimmer


class Loop:
    """Keeps what is planned, and does it when told."""

    def __init__(self) -> None:
        self.planned: list[tuple[Any, tuple[Any, ...]]] = []

    def call_later(self, delay: float, function: Any, *arguments: Any) -> Loop:
        self.planned.append((function, arguments))
        return self

    def cancel(self) -> None:
        self.planned.clear()

    def run(self) -> None:
        function, arguments = self.planned.pop()
        function(*arguments)


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    monkeypatch.setattr(trimming, "give_back_memory", lambda: calls.append("trim"))
    return calls


def test_memory_is_given_back_once_most_tasks_are_gone(trims: list[str]) -> None:
    loop, trimmer = Loop(), Trimmer()
    trimmer.watch(10 * MANY_TASKS, loop)  # type: ignore[arg-type]
    trimmer.watch(6 * MANY_TASKS, loop)  # type: ignore[arg-type]
    assert not loop.planned
    trimmer.watch(MANY_TASKS, loop)  # type: ignore[arg-type]
    loop.run()
    assert trims == ["trim"]
    trimmer.watch(MANY_TASKS, loop)  # type: ignore[arg-type]
    assert not loop.planned


def test_it_waits_while_the_number_of_tasks_changes(trims: list[str]) -> None:
    loop, trimmer = Loop(), Trimmer()
    trimmer.watch(10 * MANY_TASKS, loop)  # type: ignore[arg-type]
    trimmer.watch(MANY_TASKS, loop)  # type: ignore[arg-type]
    trimmer.watch(MANY_TASKS // 2, loop)  # type: ignore[arg-type]
    loop.run()
    assert not trims and loop.planned
    loop.run()
    assert trims == ["trim"]


def test_few_tasks_are_not_worth_it(trims: list[str]) -> None:
    loop, trimmer = Loop(), Trimmer()
    trimmer.watch(MANY_TASKS, loop)  # type: ignore[arg-type]
    trimmer.watch(0, loop)  # type: ignore[arg-type]
    assert not loop.planned


def test_a_closed_scheduler_plans_nothing(trims: list[str]) -> None:
    loop, trimmer = Loop(), Trimmer()
    trimmer.watch(10 * MANY_TASKS, loop)  # type: ignore[arg-type]
    trimmer.watch(0, loop)  # type: ignore[arg-type]
    trimmer.cancel()
    assert not loop.planned
