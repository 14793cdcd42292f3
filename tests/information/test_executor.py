"""The cluster as an executor of concurrent.futures, also in CPython's own test cases. May import: fastdist, pytest."""

from __future__ import annotations

import concurrent.futures
import importlib
import threading
import time
import unittest
from collections.abc import Iterator
from typing import Any

import pytest

from fastdist import Client, Future
from fastdist.client.executor import ClientExecutor

started = threading.Event()
released = threading.Event()


def hold(x: int) -> int:
    started.set()
    assert released.wait(10)
    return x


def keywords(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


class Unpicklable:
    """Stays where it is made."""

    def __reduce__(self) -> Any:
        raise TypeError("not this")


@pytest.fixture
def executor(client: Client) -> Iterator[ClientExecutor]:
    started.clear()
    released.clear()
    with client.get_executor() as executor:
        yield executor
        released.set()


def test_calls_become_tasks(executor: ClientExecutor) -> None:
    future = executor.submit(pow, 2, 5)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(10) == 32
    assert isinstance(executor.submit(divmod, 1, 0).exception(10), ZeroDivisionError)
    assert executor.submit(keywords, 1, self=2, fn=3, key=4).result(10) == ((1,), {"self": 2, "fn": 3, "key": 4})


def test_options_are_those_of_tasks(client: Client) -> None:
    address = sorted(client.nthreads())[1]
    with client.get_executor(workers=[address], pure=False) as executor:
        results = [executor.submit(time.time) for _ in range(3)]
        assert len({future.result(10) for future in results}) == 3
        assert executor.submit(time.time, retries=1).result(10)
    with pytest.raises(TypeError, match="priority"):
        client.get_executor(priority=1)


def test_the_same_pure_call_has_many_futures(executor: ClientExecutor) -> None:
    futures = [executor.submit(pow, 2, 6) for _ in range(5)]
    assert {future.result(10) for future in futures} == {64}


def test_many_calls_at_once(executor: ClientExecutor) -> None:
    futures = [executor.submit(abs, -n) for n in range(2_000)]
    assert [future.result(10) for future in futures] == list(range(2_000))


def test_cancelling_cancels_the_task(client: Client, executor: ClientExecutor) -> None:
    running = executor.submit(hold, 1)
    assert started.wait(10)
    waiting = [executor.submit(hold, n) for n in range(2, 6)]
    assert waiting[-1].cancel()
    assert concurrent.futures.wait(waiting[-1:], 10).done == set(waiting[-1:])
    with pytest.raises(concurrent.futures.CancelledError):
        waiting[-1].result(1)
    released.set()
    assert running.result(10) == 1
    assert waiting[0].result(10) == 2


def test_a_task_that_is_cancelled_elsewhere_cancels_its_future(client: Client, executor: ClientExecutor) -> None:
    future = executor.submit(hold, 7)
    (key,) = client.futures
    Future(key, client).cancel()
    assert concurrent.futures.wait([future], 10).done == {future}
    assert future.cancelled()


def test_map_gives_results_in_order(executor: ClientExecutor) -> None:
    assert list(executor.map(pow, iter(range(5)), range(5), chunksize=2)) == [n**n for n in range(5)]
    results = executor.map(divmod, [4, 1, 5], [2, 0, 1])
    assert next(results) == (2, 0)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_ends_in_time(executor: ClientExecutor) -> None:
    results = executor.map(hold, [1], timeout="20 ms")
    with pytest.raises(concurrent.futures.TimeoutError):
        next(results)


def test_shutdown_waits_or_cancels(client: Client) -> None:
    started.clear()
    released.clear()
    executor = client.get_executor()
    future = executor.submit(hold, 1)
    assert started.wait(10)
    executor.shutdown(wait=False)
    assert future.cancelled()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(hold, 2)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.map(hold, [2])
    released.set()
    with client.get_executor() as executor:
        future = executor.submit(abs, -9)
    assert future.done()


def test_results_that_cannot_travel_fail(executor: ClientExecutor) -> None:
    with pytest.raises(TypeError, match="callable"):
        executor.submit(5)  # type: ignore[arg-type]


# -- CPython's own -----------------------------------------------------------------------------------------------------

#: The cases that hold for any executor and do not sleep for seconds.
CPYTHON = {
    "ExecutorTest": (
        "test_submit",
        "test_submit_keyword",
        "test_map",
        "test_map_exception",
        "test_shutdown_race_issue12456",
        "test_swallows_falsey_exceptions",
    ),
    "AsCompletedTests": ("test_no_timeout", "test_future_times_out"),
}
HOMES = ("test.test_concurrent_futures.{}", "test.test_concurrent_futures")
MODULES = {"ExecutorTest": "executor", "AsCompletedTests": "test_as_completed"}


def cpython_case(name: str) -> Any:
    """A class of test cases of this very Python; most installations leave its tests out."""
    for home in HOMES:
        try:
            return getattr(importlib.import_module(home.format(MODULES[name])), name)
        except (ImportError, AttributeError):
            continue
    pytest.skip("this Python has been installed without its own tests")


@pytest.mark.parametrize(("case", "method"), [(case, method) for case in CPYTHON for method in CPYTHON[case]])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cpythons_cases(executor: ClientExecutor, case: str, method: str) -> None:
    base = cpython_case(case)
    if not hasattr(base, method):
        pytest.skip(f"{method} belongs to another version of Python")
    kind = type(case, (base, unittest.TestCase), {"executor": executor, "worker_count": 2})
    outcome = unittest.TestResult()
    kind(method).run(outcome)
    assert not outcome.errors + outcome.failures, (outcome.errors + outcome.failures)[0][1]
