"""What a task raises reaches those that need it, once; retries and Reschedule. May import: fastdist, tests."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from operator import add
from pathlib import Path

import pytest

from fastdist import Client, wait
from fastdist.errors import Reschedule
from tests.faults.waiting import Gate


class Refused(ValueError):
    """An error of the user's own."""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=2, threads_per_worker=1, processes=False) as client:
        yield client


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def refuse(*inputs: object) -> None:
    raise Refused("not today")


def fail_until(gate: Gate, count: int) -> int:
    before = gate.arrive("try")
    if before < count:
        raise Refused(f"try {before}")
    return before


def reschedule_until(gate: Gate, count: int) -> int:
    before = gate.arrive("try")
    if before < count:
        raise Reschedule
    return before


def test_dependents_fail_with_the_exception_of_their_cause(client: Client) -> None:
    root = client.submit(refuse, pure=False)
    near = client.submit(add, root, 1)
    far = client.submit(add, near, 1)
    for future in (root, near, far):
        with pytest.raises(Refused, match="not today") as caught:
            future.result(timeout=20)
        assert "refuse" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert future.status == "error"
    assert isinstance(far.exception(), Refused)
    assert client.submit(add, 1, 1, pure=False).result(timeout=20) == 2


def test_a_task_submitted_after_the_failure_of_its_input_fails_as_well(client: Client) -> None:
    root = client.submit(refuse, pure=False)
    wait(root, timeout=20)
    with pytest.raises(Refused):
        client.submit(add, root, 1).result(timeout=20)


def test_a_failure_takes_a_hundred_thousand_dependents_along_and_travels_once(
    client: Client, gate: Gate
) -> None:
    scheduler = client.cluster.scheduler
    (entry,) = scheduler.members.clients.values()
    frames: list[int] = []
    send = entry.peer.send_frame

    def count(kind: int, body: bytes) -> None:
        frames.append(len(body))
        send(kind, body)

    def refuse_at_length(gate: Gate) -> None:
        gate.pass_through()
        raise Refused("x" * 50_000)

    root = client.submit(refuse_at_length, gate, pure=False)
    dependents = client.map(add, [root] * 100_000, range(100_000))
    entry.peer.send_frame = count
    gate.open()
    try:
        wait(dependents, timeout=60)
    finally:
        entry.peer.send_frame = send
    assert {future.status for future in dependents} == {"error"}
    with pytest.raises(Refused, match="xxx"):
        dependents[99_999].result()
    # A row of STATE is 29 bytes; had the failure travelled with each, this would be gigabytes.
    assert sum(frames) < 100_000 * 32 + 10 * 60_000


def test_gather_skips_what_failed_when_asked_to(client: Client) -> None:
    good, bad = client.submit(add, 1, 2, pure=False), client.submit(refuse, pure=False)
    assert client.gather([good, bad, good], errors="skip") == [3, 3]


@pytest.mark.parametrize(("failures", "retries"), [(1, 1), (3, 3), (2, 5)])
def test_a_task_with_retries_is_tried_again(client: Client, gate: Gate, failures: int, retries: int) -> None:
    future = client.submit(fail_until, gate, failures, retries=retries, pure=False)
    dependent = client.submit(add, future, 10)
    assert dependent.result(timeout=20) == failures + 10
    assert gate.arrivals("try") == failures + 1


def test_retries_end_with_the_last_exception(client: Client, gate: Gate) -> None:
    future = client.submit(fail_until, gate, 5, retries=2, pure=False)
    with pytest.raises(Refused, match="try 2"):
        future.result(timeout=20)
    assert gate.arrivals("try") == 3


def test_reschedule_is_no_failure(client: Client, gate: Gate) -> None:
    future = client.submit(reschedule_until, gate, 20, pure=False)
    assert future.result(timeout=20) == 20


def test_an_exception_that_cannot_be_pickled_still_tells_its_story(client: Client) -> None:
    class Stuck(Exception):
        def __reduce__(self) -> str:
            raise TypeError("this does not travel")

    def raise_stuck() -> None:
        raise Stuck("in here")

    with pytest.raises(Exception, match="in here"):
        client.submit(raise_stuck, pure=False).result(timeout=20)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_exceptions_that_end_programs_end_only_the_task(client: Client, error: BaseException) -> None:
    def leave() -> None:
        raise error

    future = client.submit(leave, pure=False)
    with pytest.raises(BaseException) as caught:
        future.result(timeout=20)
    assert type(error).__name__ in repr(caught.value)
    assert client.submit(add, 2, 2, pure=False).result(timeout=20) == 4
