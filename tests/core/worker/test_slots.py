"""Executing tasks that give their slots back, and who may have them."""

from __future__ import annotations

import pytest

from fastdist._core.codec.frames import DoneStatus
from fastdist._core.worker import manual
from tests.core.worker.driver import FINISHED, Driver
from tests.core.worker.frames import Row

WAITS, SECEDED, RETURNED = DoneStatus.DONE_WAITS, DoneStatus.DONE_SECEDED, DoneStatus.DONE_RETURNED


@pytest.fixture
def driver() -> Driver:
    driver = Driver(slots=1)
    driver.run(Row(5, order=50), Row(6, order=60), Row(7, order=70))
    assert driver.pop() == 5
    return driver


def leave(driver: Driver, task_id: int, seceded: bool = False, now: float = 0.0) -> None:
    manual.left_slot(driver.core, task_id, seceded, now)
    driver.check()


def take(driver: Driver, task_id: int) -> None:
    manual.took_slot(driver.core, task_id)
    driver.check()


def test_a_task_that_waits_gives_its_slot_to_those_that_go_before_it(driver: Driver) -> None:
    leave(driver, 5)
    assert driver.pop() is None
    driver.run(Row(4, order=40))
    assert driver.pop() == 4
    assert driver.pop() is None


def test_of_those_that_wait_the_first_in_order_sets_the_limit(driver: Driver) -> None:
    leave(driver, 5)
    driver.run(Row(4, order=40))
    assert driver.pop() == 4
    leave(driver, 4)
    driver.run(Row(3, order=45))
    assert driver.pop() is None
    take(driver, 4)
    driver.finish(4)
    assert driver.pop() == 3


def test_a_better_user_priority_goes_before_any_order(driver: Driver) -> None:
    leave(driver, 5)
    driver.run(Row(8, order=90, priority=-1.0))
    assert driver.pop() == 8


def test_a_task_that_waited_for_long_lets_any_task_have_its_slot(driver: Driver) -> None:
    leave(driver, 5, now=10.0)
    manual.relaxed(driver.core, 9.0)
    driver.check()
    assert driver.pop() is None
    manual.relaxed(driver.core, 10.0)
    driver.check()
    assert driver.pop() == 6
    assert driver.pop() is None


def test_slots_that_nobody_gave_back_are_for_any_task() -> None:
    driver = Driver(slots=2)
    driver.run(Row(5, order=50), Row(6, order=60), Row(7, order=70), Row(8, order=80))
    assert (driver.pop(), driver.pop()) == (5, 6)
    leave(driver, 5)
    assert driver.pop() is None
    driver.finish(6)
    assert driver.pop() == 7
    assert driver.pop() is None


def test_a_task_that_seceded_leaves_its_slot_to_any_task(driver: Driver) -> None:
    leave(driver, 5, seceded=True)
    assert driver.pop() == 6
    assert driver.pop() is None
    driver.finish(5)
    assert driver.pop() is None
    driver.finish(6)
    assert driver.pop() == 7


def test_a_task_that_waits_may_secede(driver: Driver) -> None:
    leave(driver, 5)
    leave(driver, 5, seceded=True)
    assert driver.pop() == 6
    assert driver.rows() == [(5, 1, WAITS), (5, 1, SECEDED)]


def test_the_scheduler_hears_who_has_a_slot(driver: Driver) -> None:
    leave(driver, 5)
    take(driver, 5)
    leave(driver, 5, seceded=True)
    driver.finish(5)
    assert driver.rows() == [(5, 1, WAITS), (5, 1, RETURNED), (5, 1, SECEDED), (5, 1, FINISHED)]


def test_a_new_attempt_of_a_task_that_waits_is_told_that_it_waits(driver: Driver) -> None:
    leave(driver, 5)
    driver.rows()
    driver.run(Row(5, attempt=3, order=50))
    assert driver.rows() == [(5, 3, WAITS)]


@pytest.mark.parametrize("seceded", [False, True], ids=["waits", "seceded"])
@pytest.mark.parametrize("end", ["finish", "fail", "forgotten", "rescheduled"])
def test_a_task_may_end_without_a_slot(driver: Driver, end: str, seceded: bool) -> None:
    leave(driver, 5, seceded)
    if end == "finish":
        driver.finish(5)
    elif end == "fail":
        driver.fail(5)
    elif end == "rescheduled":
        manual.rescheduled(driver.core, 5)
        driver.check()
    else:
        driver.free(5)
        driver.finish(5)
    assert driver.pop() == 6
    assert driver.pop() is None


def test_resources_stay_taken_while_a_task_waits() -> None:
    driver = Driver(slots=1, resources={"GPU": 1.0})
    driver.run(Row(5, order=50, option=1), Row(4, order=40, option=1), Row(3, order=45), options={1: b'{"GPU": 1}'})
    assert driver.pop() == 4
    leave(driver, 4)
    manual.relaxed(driver.core, 10.0)
    assert driver.pop() == 3
    driver.finish(3)
    assert driver.pop() is None
    driver.finish(4)
    assert driver.pop() == 5
