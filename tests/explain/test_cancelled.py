"""Every cancelled or lost future says why, when and by whom. May import: fastdist, tests."""

from __future__ import annotations

import ast
import pickle
import re
import time
from pathlib import Path

import pytest

import fastdist
from fastdist import Client
from fastdist.errors import FutureCancelledError, FuturesCancelledError, Reason, TaskLostError
from tests.faults.waiting import Gate, until

PACKAGE = Path(fastdist.__file__).parent
#: The only places that make such errors.
MAKERS = {"client/outcomes.py": "FutureCancelledError", "client/waiting.py": "FuturesCancelledError"}


def hold(gate: Gate) -> None:
    gate.pass_through()


def add(*numbers: object) -> int:
    return len(numbers)


def error_of(future: fastdist.Future) -> FutureCancelledError:
    with pytest.raises(FutureCancelledError) as caught:
        future.result(timeout=20)
    error = caught.value
    assert isinstance(error.kind, Reason)
    again = pickle.loads(pickle.dumps(error))
    assert (again.kind, again.when, again.by, str(again)) == (error.kind, error.when, error.by, str(error))
    return error


def clock(error: FutureCancelledError) -> str:
    assert error.when is not None and abs(error.when - time.time()) < 30
    return time.strftime("%H:%M:%S", time.localtime(error.when))


def test_by_this_client_with_and_without_a_reason(client: Client, gate: Gate) -> None:
    first, second = client.submit(hold, gate, key="first"), client.submit(add, key="second", workers=["x"])
    first.cancel(reason="budget", msg="too expensive")
    second.cancel()
    error = error_of(first)
    assert (error.kind, error.reason, error.msg, error.by) == (
        Reason.CANCELLED,
        "budget",
        "too expensive",
        client.id,
    )
    assert error.sentence == f"'first' was cancelled by {client.id} at {clock(error)}: budget (too expensive)"
    other = error_of(second)
    assert other.sentence == f"'second' was cancelled by {client.id} at {clock(other)}: cancelled"
    assert first.why() == str(error)
    assert str(error) == "first cancelled for reason: budget.\ntoo expensive"
    assert (other.reason, str(other)) == ("cancelled", f"second was cancelled by {client.id}.")


def test_by_another_client_and_what_depends_on_it(client: Client, gate: Gate) -> None:
    first = client.submit(hold, gate, key="shared")
    after = client.submit(add, first, key="after")
    with Client(client.cluster, set_as_default=False) as other:
        mine = fastdist.Future("shared", other)
        other.cancel([mine], force=True, reason="clean-up")
        for future in (first, after):
            until(future.done, "the news")
            error = error_of(future)
            assert (error.kind, error.reason, error.by) == (Reason.CANCELLED, "clean-up", other.id)
            assert error.sentence.startswith(
                f"{future.key!r} was cancelled by {other.id} at {clock(error)}: clean-up"
            )


def test_when_the_client_closes(client: Client, gate: Gate) -> None:
    with Client(client.cluster, set_as_default=False) as other:
        future = other.submit(hold, gate, key="closed")
    error = other._outcomes.cancelled_error(future)
    assert (error.kind, error.by) == (Reason.CLIENT_CLOSED, other.id)
    assert error.sentence == f"'closed' was cancelled by {other.id} at {clock(error)}: client-closed"


def test_a_released_future(client: Client) -> None:
    future = client.submit(add, key="gone")
    future.result(timeout=20)
    future.release()
    error = client._outcomes.cancelled_error(future)
    assert error.kind is Reason.RELEASED and "released before" in str(error)


def test_a_restart(processes: Client, gate: Gate) -> None:
    future = processes.submit(hold, gate, key="restarted")
    processes.restart()
    error = error_of(future)
    assert (error.kind, error.by) == (Reason.SCHEDULER_RESTART, processes.id)
    assert clock(error) in error.sentence


def test_lost_data(processes: Client) -> None:
    future = processes.scatter(1)
    (holder,) = processes.who_has(future).values()
    assert processes.restart_workers(holder) == {holder[0]: "OK"}
    error = future.exception(timeout=20)
    assert isinstance(error, TaskLostError) and error.kind is Reason.LOST_DATA
    assert error.by == "scheduler" and error.when is not None
    assert "was lost by scheduler at" in error.sentence


def test_a_pure_task_whose_inputs_are_lost_is_computed_again(processes: Client) -> None:
    first = processes.submit(add, 1, key="input")
    first.result(timeout=20)
    (holder,) = processes.who_has(first).values()
    processes.restart_workers(holder)
    assert processes.submit(add, first, key="output").result(timeout=30) == 1


def test_groups_have_the_reasons_of_their_members(client: Client) -> None:
    futures = [client.submit(add, i, key=f"g{i}", workers=["nobody"]) for i in range(2)]
    client.cancel(futures, reason="enough")
    with pytest.raises(FuturesCancelledError) as caught:
        fastdist.wait(futures)
    (group,) = caught.value.error_groups
    assert {error.kind for error in group.errors} == {Reason.CANCELLED}


def test_no_reason_is_unknown() -> None:
    """A search of the sources: no text for users gives "unknown" as a reason."""
    for path in PACKAGE.rglob("*.py*"):
        if path.suffix in (".py", ".pyx"):
            source = path.read_text()
            assert "reason or \"unknown\"" not in source and "reason: str = \"unknown\"" not in source, path.name
    assert FutureCancelledError("x").reason == "cancelled"
    assert FutureCancelledError("x", kind=Reason.RELEASED).reason == "released"


def test_nothing_else_raises_such_an_error() -> None:
    """A search of the sources: cancelled futures get their error in one place, which always gives a reason."""
    for path in PACKAGE.rglob("*.py*"):
        if path.suffix not in (".py", ".pyx") or path.name == "errors.py":
            continue
        name = path.relative_to(PACKAGE).as_posix()
        source = path.read_text()
        if path.suffix == ".pyx":
            assert not re.search(r"CancelledError\(|raise\s+[\w.]*CancelledError", source), name
            continue
        for node in ast.walk(ast.parse(source)):
            called = node.func if isinstance(node, ast.Call) else node.exc if isinstance(node, ast.Raise) else None
            text = ast.unparse(called) if called is not None else ""
            if text.rpartition(".")[2].partition("(")[0].endswith("CancelledError"):
                assert MAKERS.get(name) == text.rpartition(".")[2].partition("(")[0], (name, node.lineno)
