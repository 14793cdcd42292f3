"""When a nanny starts its worker again. May import: fastdist.nanny.restarts, pytest."""

from __future__ import annotations

from fastdist.nanny.restarts import MAX_RAPID_DEATHS, MAX_RAPID_KILLS, RESTART_DELAYS, Restarts

EARLY, LATE = 0.5, 60.0


def delays(restarts: Restarts, count: int, **how: bool) -> list[float | None]:
    return [restarts.delay(EARLY, **how) for _ in range(count)]


def test_pauses_grow_while_a_worker_ends_early_and_then_it_is_given_up() -> None:
    found = delays(Restarts(), MAX_RAPID_DEATHS, blameless=False, killed=False)
    assert found == [*RESTART_DELAYS[: MAX_RAPID_DEATHS - 1], None]


def test_a_worker_that_lived_starts_at_once_and_from_the_beginning() -> None:
    restarts = Restarts()
    delays(restarts, MAX_RAPID_DEATHS - 1, blameless=False, killed=False)
    assert restarts.delay(LATE, blameless=False, killed=False) == 0.0
    assert restarts.early == 0
    assert restarts.delay(EARLY, blameless=False, killed=False) == RESTART_DELAYS[0]


def test_tasks_that_end_workers_slow_the_restarts_down_but_never_end_them() -> None:
    found = delays(Restarts(), 100, blameless=True, killed=True)
    assert found[:5] == list(RESTART_DELAYS)
    assert set(found[5:]) == {RESTART_DELAYS[-1]}


def test_a_worker_that_is_killed_at_each_start_is_given_up_later() -> None:
    found = delays(Restarts(), MAX_RAPID_KILLS, blameless=False, killed=True)
    assert found.index(None) == MAX_RAPID_KILLS - 1
