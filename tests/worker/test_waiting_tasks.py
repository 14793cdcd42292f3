"""Tasks that wait, on execution threads: their threads are replaced, and there are never too many."""

from __future__ import annotations

# ruff: noqa: F811 (a fixture is imported)
import threading
import time
from typing import ClassVar

import pytest

from fastdist._core.codec.frames import DoneStatus
from fastdist._core.codec.values import decode_value
from fastdist.context import blocking, current_task
from fastdist.errors import TooManyThreadsError
from fastdist.protocol.failures import load_failure
from fastdist.tasks.slots import rejoin, secede
from fastdist.worker.executing import ExecutingPage, read_page
from tests.worker.test_execution import ERRED, FINISHED, INLINE, make  # noqa: F401

WAITS, SECEDED, RETURNED = DoneStatus.DONE_WAITS, DoneStatus.DONE_SECEDED, DoneStatus.DONE_RETURNED
PATIENCE = 20


class Gate:
    """An event that tasks find by its name: functions travel as pickles, even here."""

    gates: ClassVar[dict[str, Gate]] = {}

    def __init__(self, name: str) -> None:
        self.event = threading.Event()
        self.entered = threading.Event()
        self.gates[name] = self


def wait_at(name: str) -> str:
    gate = Gate.gates[name]
    with blocking():
        gate.entered.set()
        assert gate.event.wait(PATIENCE)
    return threading.current_thread().name


def open_gate(name: str) -> str:
    Gate.gates[name].event.set()
    return threading.current_thread().name


def wait_inside_of_each_other(name: str) -> str:
    with blocking(), blocking():
        return wait_at(name)


def secede_and_wait(name: str) -> str:
    secede()
    Gate.gates[name].entered.set()
    assert Gate.gates[name].event.wait(PATIENCE)
    rejoin()
    return threading.current_thread().name


@pytest.mark.parametrize("task", [wait_at, wait_inside_of_each_other, secede_and_wait])
def test_another_thread_executes_while_a_task_waits(make, task) -> None:
    harness = make()
    Gate("one")
    harness.submit(2, task, "one", flags=INLINE)
    assert Gate.gates["one"].entered.wait(PATIENCE)
    harness.submit(1, open_gate, "one", flags=INLINE)
    second, first = harness.wait(2, FINISHED)
    assert (first.task_id, second.task_id) == (2, 1)
    assert decode_value(first.payload) != decode_value(second.payload)
    assert [row.status for row in harness.rows if row.task_id == 2][-2:] == [RETURNED, FINISHED]


def test_the_slot_of_a_task_that_waits_is_for_any_task_after_a_while(make) -> None:
    harness = make()
    Gate("two")
    harness.submit(1, wait_at, "two")
    assert Gate.gates["two"].entered.wait(PATIENCE)
    # It goes after the one that waits, and is what that one waits for.
    harness.submit(2, open_gate, "two")
    assert [row.task_id for row in harness.wait(2, FINISHED)] == [2, 1]


def test_a_task_goes_on_when_there_is_a_slot_for_it(make) -> None:
    harness = make()
    Gate("three"), Gate("other")
    harness.submit(2, wait_at, "three", flags=INLINE)
    assert Gate.gates["three"].entered.wait(PATIENCE)
    harness.submit(1, busy_until_open, "three", "other")
    assert Gate.gates["other"].entered.wait(PATIENCE)
    # The wait is over; the slot is taken.
    assert not harness.wait(0, FINISHED)
    Gate.gates["other"].event.set()
    assert [row.task_id for row in harness.wait(2, FINISHED)] == [1, 2]


def busy_until_open(first: str, second: str) -> None:
    Gate.gates[first].event.set()
    Gate.gates[second].entered.set()
    assert Gate.gates[second].event.wait(PATIENCE)


def test_threads_that_were_needed_for_waits_end_afterwards(make) -> None:
    harness = make()
    Gate("many")
    for task_id in range(40, 0, -1):
        harness.submit(task_id, wait_at, "many")
        harness.wait(41 - task_id, WAITS)
    assert len(harness.execution.threads) == 41
    Gate.gates["many"].event.set()
    harness.wait(40, FINISHED)
    deadline = time.monotonic() + PATIENCE
    while len(harness.execution.threads) > 10 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(harness.execution.threads) <= 10
    harness.submit(50, open_gate, "many")
    harness.wait(41, FINISHED)


def test_too_many_waiting_tasks_are_an_error_that_says_what_to_do(make) -> None:
    harness = make(max_threads=3)
    Gate("few")
    for task_id in (9, 8):
        harness.submit(task_id, wait_at, "few")
        harness.wait(10 - task_id, WAITS)
    harness.submit(7, wait_at, "few")
    (failed,) = harness.wait(1, ERRED)
    error = load_failure(failed.payload)
    assert isinstance(error, TooManyThreadsError)
    assert "all 3 threads" in str(error)
    assert "worker.max-threads" in str(error)
    Gate.gates["few"].event.set()
    harness.wait(2, FINISHED)


def test_the_time_of_waiting_is_no_time_of_execution(make) -> None:
    harness = make()
    Gate("timed")
    harness.submit(2, wait_at, "timed")
    assert Gate.gates["timed"].entered.wait(PATIENCE)
    began = time.monotonic()
    while time.monotonic() - began < 0.05:
        time.sleep(0.001)
    Gate.gates["timed"].event.set()
    (row,) = harness.wait(1, FINISHED)
    assert row.seconds < 0.05


def test_a_task_that_waits_is_not_to_blame_for_a_death(make, tmp_path) -> None:
    page = ExecutingPage(tmp_path / "page")
    harness = make(page=page)
    Gate("page")
    harness.submit(2, wait_at, "page")
    harness.wait(1, WAITS)
    assert read_page(page.path) == []
    harness.submit(1, page_while_open, "page", page.path, flags=INLINE)
    rows = {row.task_id: row for row in harness.wait(2, FINISHED)}
    assert decode_value(rows[1].payload) == [(1, 1)]
    harness.execution.release_page()
    page.close()


def page_while_open(name: str, path: str) -> list:
    seen = read_page(path)
    Gate.gates[name].event.set()
    return seen


def test_only_the_thread_of_a_task_gives_its_slot_back(make) -> None:
    harness = make()
    harness.submit(1, gives_back_elsewhere, flags=INLINE)
    (row,) = harness.wait(1, FINISHED)
    assert decode_value(row.payload) is False


def gives_back_elsewhere() -> bool:
    task, given = current_task.get(), []
    thread = threading.Thread(target=lambda: given.append(task.give_slot_back()))
    thread.start()
    thread.join()
    return given[0]
