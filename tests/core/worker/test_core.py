"""The worker core without threads or event loop: frames in, rows out, invariants after every step."""

from __future__ import annotations

import json
import random

import pytest

from fastdist._core.worker import inspect, manual
from fastdist._core.worker.model import TaskState
from fastdist.errors import FrameError
from tests.core.worker.driver import (
    ERRED,
    FINISHED,
    ME,
    MISSING,
    REFUSED,
    RESCHEDULE,
    RETRACTED,
    STARTED,
    Driver,
)
from tests.core.worker.frames import (
    EPOCH,
    Row,
    free_frame,
    read_done,
    read_type_names,
    retract_frame,
    run_frame,
)


@pytest.fixture
def driver() -> Driver:
    return Driver()


# ----------------------------------------------------------------------------------------------------------
# One task


def test_a_task_without_inputs_is_ready_at_once_and_its_result_is_reported(driver: Driver) -> None:
    driver.run(Row(5, attempt=3, key=b"k5", arguments=b"args", function=9, flags=1))
    assert manual.pop(driver.core) == {
        "task_id": 5, "attempt": 3, "function": 9, "key": b"k5", "arguments": b"args", "inputs": [],
        "flags": 1,
    }  # fmt: skip
    manual.finished(driver.core, 5, nbytes=28, type_number=0, seconds=0.5, payload=b"inline", now=2.0)
    (row,) = read_done(driver.core.take_done())
    assert row == (5, 3, FINISHED, 28, 0.5, 0, b"inline")
    assert driver.core.take_done() is None
    assert driver.state(5) == "MEMORY"
    assert inspect.held(driver.core) == [(5, b"k5", 28)]


def test_tasks_start_by_user_priority_then_order_then_arrival(driver: Driver) -> None:
    driver.run(
        Row(1, priority=0, order=5),
        Row(2, priority=0, order=3),
        Row(3, priority=-1, order=9),
        Row(4, order=3),
    )
    assert [driver.pop() for _ in range(5)] == [3, 2, 4, 1, None]


def test_a_task_of_higher_priority_overtakes_those_that_came_before(driver: Driver) -> None:
    driver.run(*(Row(i, order=i) for i in range(10, 20)))
    driver.run(Row(1, priority=-1.0))
    assert driver.pop() == 1


def test_an_exception_is_reported_and_the_record_goes(driver: Driver) -> None:
    driver.run(Row(1))
    driver.pop()
    driver.fail(1, b"failure")
    (row,) = read_done(driver.core.take_done())
    assert (row.status, row.payload) == (ERRED, b"failure")
    assert driver.states() == {}


def test_a_task_that_asks_to_be_placed_again_is_reported_and_forgotten(driver: Driver) -> None:
    driver.run(Row(1), Row(2, inputs={1: (0, [])}, flags=2))
    assert driver.pop() == 1
    manual.rescheduled(driver.core, 1)
    driver.check()
    assert driver.rows() == [(1, 1, RESCHEDULE), (2, 1, RETRACTED)]
    assert driver.states() == {}


def test_a_long_task_is_reported_as_started(driver: Driver) -> None:
    driver.run(Row(1, attempt=4))
    driver.pop()
    manual.started(driver.core, 1)
    assert driver.rows() == [(1, 4, STARTED)]


def test_type_names_travel_once_and_number_zero_is_object(driver: Driver) -> None:
    assert driver.core.add_type(b"numpy.ndarray") == 1
    driver.run(Row(1), Row(2))
    driver.pop()
    driver.finish(1, type_number=1)
    assert read_type_names(driver.core.take_done()) == ["object", "numpy.ndarray"]
    driver.pop()
    driver.finish(2, type_number=1)
    assert read_type_names(driver.core.take_done()) == []


def test_no_more_tasks_execute_than_there_are_slots() -> None:
    driver = Driver(slots=2)
    driver.run(Row(1), Row(2), Row(3))
    assert [driver.pop(), driver.pop(), driver.pop()] == [1, 2, None]
    driver.finish(1)
    assert driver.pop() == 3


def test_a_paused_worker_starts_and_fetches_nothing(driver: Driver) -> None:
    driver.core.on_paused()
    driver.run(Row(1), Row(2, inputs={9: (10, [2])}))
    assert driver.pop() is None
    assert driver.core.next_fetch() is None
    driver.core.on_resumed()
    assert driver.pop() == 1
    assert driver.core.next_fetch() == (2, [9], 10)


# ----------------------------------------------------------------------------------------------------------
# Inputs that are computed here


def test_a_chain_that_was_sent_ahead_runs_without_the_scheduler(driver: Driver) -> None:
    driver.run(Row(1), *(Row(i, inputs={i - 1: (0, [])}, flags=2) for i in range(2, 6)))
    assert driver.states() == {"waiting": 4, "ready": 1}
    for task_id in range(1, 6):
        assert driver.pop() == task_id
        assert driver.pop() is None
        driver.finish(task_id)
    assert driver.rows() == [(i, 1, FINISHED) for i in range(1, 6)]


def test_a_task_with_several_inputs_waits_for_the_last(driver: Driver) -> None:
    driver.run(Row(1), Row(2), Row(3, inputs={1: (0, []), 2: (0, [])}))
    assert [driver.pop(), driver.pop(), driver.pop()] == [1, 2, None]
    driver.finish(2)
    assert driver.pop() is None
    driver.finish(1)
    assert manual.pop(driver.core)["inputs"] == [1, 2]


def test_dependents_of_a_failed_task_wait_until_they_are_withdrawn(driver: Driver) -> None:
    driver.run(Row(1), Row(2, inputs={1: (0, [])}))
    driver.pop()
    driver.fail(1)
    assert driver.states() == {"erred": 1, "waiting": 1}
    driver.rows()
    driver.retract((2, 1))
    assert driver.rows() == [(2, 1, RETRACTED)]
    assert driver.states() == {}


def test_a_retry_of_a_failed_task_lets_its_dependents_run(driver: Driver) -> None:
    driver.run(Row(1), Row(2, inputs={1: (0, [])}))
    driver.pop()
    driver.fail(1)
    driver.run(Row(1, attempt=2))
    assert driver.pop() == 1
    driver.finish(1)
    assert driver.pop() == 2
    assert driver.rows() == [(1, 1, ERRED), (1, 2, FINISHED)]


def test_an_input_that_is_neither_here_nor_elsewhere_sends_the_task_back(driver: Driver) -> None:
    driver.run(Row(2, inputs={1: (0, [])}))
    rows = read_done(driver.core.take_done())
    assert [(r.task_id, r.status, r.size) for r in rows] == [(1, MISSING, ME), (2, RETRACTED, 0)]
    assert driver.states() == {}


def test_freeing_an_input_gives_back_all_that_waits_for_it(driver: Driver) -> None:
    driver.run(Row(1), Row(2, inputs={1: (0, [])}), Row(3, inputs={2: (0, []), 1: (0, [])}))
    driver.pop()
    driver.finish(1)
    driver.rows()
    assert driver.free(1) == [1]
    assert sorted(driver.rows()) == [(2, 1, RETRACTED), (3, 1, RETRACTED)]
    assert driver.states() == {}


def test_giving_back_a_deep_chain_does_not_recurse(driver: Driver) -> None:
    n = 20_000
    driver.core.on_run(
        run_frame([Row(1), *(Row(i, inputs={i - 1: (0, [])}) for i in range(2, n))]), driver.now
    )
    driver.free(1)
    assert len(driver.rows()) == n - 2
    assert driver.states() == {}


# ----------------------------------------------------------------------------------------------------------
# Fencing and repetition


def test_a_repeated_frame_changes_nothing(driver: Driver) -> None:
    frame = [Row(1, key=b"a"), Row(2, inputs={1: (0, [])})]
    driver.run(*frame)
    driver.run(*frame)
    assert driver.states() == {"ready": 1, "waiting": 1}
    assert [driver.pop(), driver.pop()] == [1, None]


def test_a_finished_task_that_comes_with_a_new_attempt_is_answered_at_once(driver: Driver) -> None:
    driver.run(Row(1))
    driver.pop()
    driver.finish(1, nbytes=77)
    driver.rows()
    driver.run(Row(1, attempt=2))
    (row,) = read_done(driver.core.take_done())
    assert (row.attempt, row.status, row.size) == (2, FINISHED, 77)
    assert driver.pop() is None


def test_an_executing_task_takes_over_a_newer_attempt(driver: Driver) -> None:
    driver.run(Row(1))
    driver.pop()
    driver.run(Row(1, attempt=2))
    driver.finish(1)
    assert driver.rows() == [(1, 2, FINISHED)]


def test_an_older_attempt_is_ignored_and_counted(driver: Driver) -> None:
    driver.run(Row(1, attempt=5))
    driver.run(Row(1, attempt=4, arguments=b"old"))
    assert driver.core.stale == 1
    assert manual.pop(driver.core)["attempt"] == 5


def test_a_newer_attempt_replaces_a_task_that_has_not_started(driver: Driver) -> None:
    driver.run(Row(1, arguments=b"first"), Row(3, inputs={1: (0, [])}), Row(4, inputs={3: (0, [])}))
    driver.run(Row(1, attempt=2, arguments=b"second"), Row(4, attempt=2, inputs={1: (0, [])}))
    task = manual.pop(driver.core)
    assert (task["attempt"], task["arguments"]) == (2, b"second")
    assert driver.pop() is None
    driver.finish(1)
    assert {driver.pop(), driver.pop()} == {3, 4}


def test_a_task_freed_while_it_executes_leaves_nothing(driver: Driver) -> None:
    driver.run(Row(1), Row(2, inputs={1: (0, [])}))
    driver.pop()
    assert driver.free(1) == []
    assert driver.rows() == [(1, 1, STARTED), (2, 1, RETRACTED)]
    assert driver.finish(1) is False
    assert driver.rows() == [(1, 1, RESCHEDULE)], "its thread is free"
    assert driver.states() == {}


def test_a_task_freed_while_it_executes_and_wanted_again_is_finished(driver: Driver) -> None:
    driver.run(Row(1))
    driver.pop()
    driver.free(1)
    driver.run(Row(1, attempt=2))
    assert driver.finish(1) is True
    assert driver.rows() == [(1, 1, STARTED), (1, 2, FINISHED)]


def test_retract_gives_back_what_has_not_started_and_refuses_the_rest(driver: Driver) -> None:
    driver.run(Row(1), Row(2), Row(3), Row(4, inputs={3: (0, [])}))
    driver.pop()
    driver.pop()
    driver.finish(2)
    driver.rows()
    driver.retract((1, 1), (2, 1), (3, 1), (99, 1))
    assert driver.rows() == [
        (1, 1, REFUSED), (2, 1, REFUSED), (3, 1, RETRACTED), (4, 1, RETRACTED), (99, 1, RETRACTED),
    ]  # fmt: skip
    assert driver.states() == {"executing": 1, "memory": 1}


def test_retract_of_another_attempt_is_refused(driver: Driver) -> None:
    driver.run(Row(1, attempt=2))
    driver.retract((1, 1))
    assert driver.rows() == [(1, 1, REFUSED)]
    assert driver.pop() == 1


def test_free_is_idempotent_and_forgets_functions(driver: Driver) -> None:
    driver.run(Row(1), functions={1: b"pickle", 2: b"other"})
    driver.pop()
    driver.finish(1)
    assert driver.free(1, functions=[2]) == [1]
    assert driver.free(1, 1, functions=[2]) == []
    assert driver.core.functions == {1: b"pickle"}


def test_an_input_freed_under_a_starting_task_gives_the_task_back(driver: Driver) -> None:
    driver.run(Row(1))
    driver.pop()
    manual.input_gone(driver.core, 1)
    driver.check()
    assert driver.rows() == [(1, 1, RETRACTED)]
    assert driver.states() == {}


# ----------------------------------------------------------------------------------------------------------
# Resources


def test_a_task_waits_for_its_resources_and_others_pass_it() -> None:
    driver = Driver(resources={"GPU": 1.0})
    gpu = {5: json.dumps({"GPU": 1}).encode()}
    driver.run(Row(1, option=5), Row(2, option=5), Row(3, order=9), options=gpu)
    assert [driver.pop(), driver.pop(), driver.pop()] == [1, 3, None]
    driver.finish(1)
    assert driver.pop() == 2
    driver.fail(2)
    assert inspect.resources(driver.core) == {"GPU": (1.0, 1.0)}


def test_fractions_of_a_resource_add_up() -> None:
    driver = Driver(resources={"GPU": 1.0})
    tenth = {5: json.dumps({"GPU": 0.1}).encode(), 6: json.dumps({"GPU": 0.1}).encode()}
    driver.run(*(Row(i, option=5 + i % 2) for i in range(1, 12)), options=tenth)
    assert sum(driver.pop() is not None for _ in range(11)) == 10


def test_a_resource_that_this_worker_lacks_holds_the_task_until_it_comes(driver: Driver) -> None:
    driver.run(Row(1, option=5), options={5: json.dumps({"FPGA": 2}).encode()})
    assert driver.pop() is None
    driver.core.set_resources({"FPGA": 2})
    assert driver.pop() == 1


def test_an_option_number_that_is_given_again_means_what_came_last() -> None:
    driver = Driver(resources={"GPU": 1.0, "DISK": 1.0})
    driver.run(Row(1, option=5), options={5: b'{"GPU": 1}'})
    assert driver.pop() == 1
    driver.run(Row(2, option=5), Row(3, option=5), options={5: b'{"DISK": 1}'})
    assert [driver.pop(), driver.pop()] == [2, None]
    driver.finish(1)
    assert inspect.resources(driver.core) == {"GPU": (1.0, 1.0), "DISK": (1.0, 0.0)}
    driver.finish(2)
    assert driver.pop() == 3


def test_a_withdrawn_task_never_takes_resources() -> None:
    driver = Driver(resources={"GPU": 1.0})
    driver.run(Row(1, option=5), Row(2, option=5), options={5: b'{"GPU": 1}'})
    driver.free(1)
    assert driver.pop() == 2


# ----------------------------------------------------------------------------------------------------------
# Bad input


@pytest.mark.parametrize("cut", [0, 4, 100, 250])
def test_a_malformed_frame_is_refused_and_changes_nothing(driver: Driver, cut: int) -> None:
    body = run_frame([Row(1, key=b"key")])
    with pytest.raises(FrameError):
        driver.core.on_run(body[:cut], 1.0)
    assert driver.states() == {}


def test_a_frame_of_another_epoch_is_refused(driver: Driver) -> None:
    for call, frame in [
        (driver.core.on_run, run_frame([Row(1)], epoch=EPOCH + 1)),
        (driver.core.on_free, free_frame([1], epoch=EPOCH + 1)),
        (driver.core.on_retract, retract_frame([(1, 1)], epoch=EPOCH + 1)),
    ]:
        with pytest.raises(FrameError, match="epoch"):
            call(frame, 1.0)


def test_a_task_that_needs_itself_never_starts_and_can_be_freed(driver: Driver) -> None:
    driver.run(Row(1, inputs={1: (0, [])}))
    assert driver.pop() is None
    driver.free(1)
    assert driver.states() == {}


def test_the_table_of_transitions_and_the_functions_agree() -> None:
    from fastdist._core.worker.transitions import TRANSITIONS

    assert set(TRANSITIONS) == set(TaskState)
    assert TaskState.EXECUTING not in TRANSITIONS[TaskState.WAITING]


@pytest.mark.parametrize("seed", range(400))
def test_random_events_keep_all_invariants(seed: int) -> None:
    choose = random.Random(seed)
    driver = Driver(slots=4, resources={"GPU": 2}, max_peers=2, max_bytes=50)
    attempts: dict[int, int] = {}
    executing: list[int] = []
    flying: list[tuple[int, list[int], int]] = []

    def run() -> None:
        rows = []
        for _ in range(choose.randrange(1, 6)):
            task_id = choose.randrange(1, 25)
            attempts[task_id] = attempts.get(task_id, 0) + choose.choice([0, 1, 1])
            inputs = {
                dependency: (choose.randrange(40), choose.sample([ME, 2, 3, 4], choose.randrange(0, 3)))
                for dependency in choose.sample(range(1, 30), choose.randrange(0, 3))
            }
            rows.append(
                Row(
                    task_id,
                    attempts[task_id],
                    inputs=inputs,
                    order=choose.randrange(9),
                    option=choose.choice([0, 5]),
                )
            )
        driver.run(*rows, options={5: b'{"GPU": 1}'})

    def pop() -> None:
        task_id = driver.pop()
        if task_id is not None:
            executing.append(task_id)

    def end() -> None:
        if executing:
            task_id = executing.pop(choose.randrange(len(executing)))
            choose.choice([driver.finish, driver.finish, driver.fail])(task_id)

    def fetch() -> None:
        request = driver.core.next_fetch()
        if request is not None:
            flying.append(request)

    def answer() -> None:
        if flying:
            peer, asked, _ = flying.pop(choose.randrange(len(flying)))
            if choose.random() < 0.2:
                driver.core.on_fetch_refused(asked[0], b"cannot", driver.now)
                driver.check()
            driver.fetched(peer, asked, {i: (5, 0) for i in asked if choose.random() < 0.6})

    def free() -> None:
        driver.free(*(choose.randrange(1, 30) for _ in range(3)))

    def retract() -> None:
        driver.retract(*((i, attempts.get(i, 1)) for i in choose.sample(range(1, 25), 2)))

    for _ in range(400):
        choose.choice([run, pop, pop, end, end, fetch, answer, free, retract])()
    while executing:
        driver.finish(executing.pop())
    driver.free(*range(1, 31))
    assert driver.states() == {}
    assert inspect.resources(driver.core) == {"GPU": (2.0, 2.0)}
