"""The worker core and the inputs that it fetches from others."""

from __future__ import annotations

import pytest

from fastdist._core.worker import inspect
from tests.core.worker.driver import ERRED, FINISHED, ME, MISSING, REPLICA, RETRACTED, Driver
from tests.core.worker.frames import Row, read_done


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_inputs_are_asked_for_once_and_in_batches(driver: Driver) -> None:
    driver.run(
        Row(1, inputs={11: (10, [2]), 12: (20, [2]), 13: (30, [3])}),
        Row(2, inputs={11: (10, [2])}),
        addresses={2: b"tcp://b:2", 3: b"tcp://c:3"},
    )
    assert driver.core.addresses == {2: "tcp://b:2", 3: "tcp://c:3"}
    assert driver.core.next_fetch() == (2, [11, 12], 30)
    assert driver.core.next_fetch() == (3, [13], 30)
    assert driver.core.next_fetch() is None
    driver.fetched(2, [11, 12], {11: (10, 0), 12: (20, 0)})
    assert driver.pop() == 2
    driver.fetched(3, [13], {13: (31, 0)})
    assert driver.pop() == 1
    rows = read_done(driver.core.take_done())
    assert [(r.task_id, r.attempt, r.status, r.size) for r in rows] == [
        (11, 0, REPLICA, 10), (12, 0, REPLICA, 20), (13, 0, REPLICA, 31),
    ]  # fmt: skip


def test_one_request_to_a_worker_at_a_time(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [2])}))
    driver.core.next_fetch()
    driver.run(Row(2, inputs={12: (10, [2])}))
    assert driver.core.next_fetch() is None
    driver.fetched(2, [11], {11: (1, 0)})
    assert driver.core.next_fetch() == (2, [12], 10)


def test_requests_are_bounded_in_number_and_bytes() -> None:
    driver = Driver(max_peers=1, max_bytes=100)
    driver.run(Row(1, inputs={11: (60, [2]), 12: (60, [2]), 13: (500, [3])}))
    assert driver.core.next_fetch() == (2, [11], 60)
    assert driver.core.next_fetch() is None
    driver.fetched(2, [11], {11: (60, 0)})
    assert driver.core.next_fetch() == (2, [12], 60)
    driver.fetched(2, [12], {12: (60, 0)})
    assert driver.core.next_fetch() == (3, [13], 500)


def test_an_input_is_asked_from_another_holder_when_one_fails(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [2, 3])}))
    peer, asked, _ = driver.core.next_fetch()
    driver.core.on_fetched(peer, asked, None, 1.0)
    driver.check()
    other, asked, _ = driver.core.next_fetch()
    assert {peer, other} == {2, 3}
    driver.fetched(other, asked, {11: (10, 0)})
    assert driver.pop() == 1


def test_when_no_holder_has_the_input_each_is_reported_and_the_tasks_go_back(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [2, 3])}), Row(2, inputs={1: (0, [])}), Row(3, inputs={11: (10, [])}))
    for _ in range(2):
        peer, asked, _ = driver.core.next_fetch()
        driver.fetched(peer, asked, {})
    rows = read_done(driver.core.take_done())
    assert {(r.task_id, r.size) for r in rows if r.status == MISSING} == {(11, 2), (11, 3)}
    assert {r.task_id for r in rows if r.status == RETRACTED} == {1, 2, 3}
    assert driver.states() == {}
    assert driver.core.next_fetch() is None


def test_a_holder_that_was_not_reached_is_told_apart_from_one_that_has_not_the_input(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [2, 3])}), Row(2, inputs={1: (0, [])}))
    peer, asked, _ = driver.core.next_fetch()
    driver.fetched(peer, asked, {})
    other, asked, _ = driver.core.next_fetch()
    driver.core.on_fetched(other, asked, None, 1.0)
    rows = read_done(driver.core.take_done())
    assert {(r.size, r.attempt) for r in rows if r.status == MISSING} == {(peer, 0), (other, 1)}
    # The first is tried again after 0.1 s, on another worker; what is behind it goes wherever it likes.
    assert {(r.task_id, r.size) for r in rows if r.status == RETRACTED} == {(1, 3 << 62 | 100_000), (2, 0)}
    assert driver.states() == {}


def test_holders_learnt_later_are_asked_too(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [2])}))
    peer, asked, _ = driver.core.next_fetch()
    driver.run(Row(2, inputs={11: (10, [2, 4])}))
    driver.fetched(peer, asked, {})
    assert driver.core.next_fetch() == (4, [11], 10)


def test_this_worker_is_never_asked_by_itself(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [ME])}))
    assert driver.core.next_fetch() is None
    assert [(r.task_id, r.status) for r in read_done(driver.core.take_done())] == [
        (11, MISSING),
        (1, RETRACTED),
    ]


def test_an_input_that_nobody_needs_any_more_is_not_kept(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [2])}))
    driver.core.next_fetch()
    driver.free(1)
    assert inspect.awaits(driver.core, 11) is False
    driver.fetched(2, [11], {})
    assert driver.states() == {}
    assert driver.rows() == []


def test_a_late_answer_serves_a_renewed_wish(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [2])}))
    _, asked, _ = driver.core.next_fetch()
    driver.free(1)
    driver.run(Row(2, inputs={11: (10, [2])}))
    assert inspect.awaits(driver.core, 11) is True
    driver.fetched(2, asked, {11: (10, 0)})
    assert driver.pop() == 2


def test_an_input_that_cannot_be_serialised_fails_the_tasks_that_need_it(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [2])}), Row(2, inputs={1: (0, [])}))
    driver.core.next_fetch()
    driver.core.on_fetch_refused(11, b"cannot", driver.now)
    driver.fetched(2, [11], {})
    rows = read_done(driver.core.take_done())
    assert [(r.task_id, r.status, r.payload) for r in rows] == [(1, ERRED, b"cannot"), (2, RETRACTED, b"")]
    assert driver.states() == {}


def test_an_input_that_is_fetched_can_be_computed_here_instead(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [2])}))
    driver.core.next_fetch()
    driver.run(Row(11, attempt=1))
    assert driver.pop() == 11
    driver.finish(11)
    assert driver.pop() == 1


def test_a_replica_that_is_asked_for_as_a_task_is_finished_already(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [2])}))
    driver.core.next_fetch()
    driver.fetched(2, [11], {11: (10, 0)})
    driver.rows()
    driver.run(Row(11, attempt=0))
    assert driver.rows() == [(11, 0, FINISHED)]


def test_data_put_here_serves_those_that_wait_for_it(driver: Driver) -> None:
    driver.run(Row(1, inputs={11: (10, [2])}))
    assert driver.core.on_put(11, b"eleven", 10, 0, 1.0) is True
    driver.check()
    assert driver.core.on_put(11, b"eleven", 10, 0, 1.0) is False
    assert driver.core.on_put(12, b"twelve", 10, 0, 1.0) is True
    driver.check()
    assert driver.rows() == [(11, 0, REPLICA), (12, 0, REPLICA)]
    assert inspect.key_of(driver.core, 11) == b"eleven"
    assert driver.pop() == 1
    assert driver.free(11, 12) == [11, 12]
