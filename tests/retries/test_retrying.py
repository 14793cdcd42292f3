"""Tasks that are tried again: how often, after which errors, after which wait, where."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest

from fastdist import Client, LocalCluster, Reschedule, Retry, exponential, get_worker

PATIENCE = 10.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers with one thread each, in this process."""
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of its own for each test."""
    with Client(cluster) as client:
        yield client


@pytest.fixture
def calls() -> Iterator[list[Any]]:
    """What tasks note of themselves; they find it by its module, since closures are copied for each worker."""
    module = SimpleNamespace(calls=[], error=OSError("not yet"), fails=10**6)
    sys.modules["calls_of_tasks"] = module  # type: ignore[assignment]
    yield module.calls
    del sys.modules["calls_of_tasks"]


def flaky(fails: int, kind: type[Exception] = OSError) -> int:
    """Raise so many times, then give the number of the call."""
    calls = sys.modules["calls_of_tasks"].calls
    calls.append((time.monotonic(), get_worker().address))
    if len(calls) <= fails:
        raise kind(f"failure {len(calls)}")
    return len(calls)


def eventually(condition: Callable[[], Any]) -> Any:
    """Look until a condition holds; what it gave last."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.002)


def test_it_is_tried_until_it_succeeds(client: Client, calls: list[Any]) -> None:
    future = client.submit(flaky, 3, retries=Retry(5))
    assert future.result() == 4
    assert future.attempts == 4


def test_it_is_tried_so_often_and_then_failed(client: Client, calls: list[Any]) -> None:
    future = client.submit(flaky, 100, retries=Retry(2))
    with pytest.raises(OSError, match="failure 3"):
        future.result()
    assert len(calls) == future.attempts == 3


def test_another_error_is_final_at_once(client: Client, calls: list[Any]) -> None:
    future = client.submit(flaky, 1, KeyError, retries=Retry(5, on=(OSError, ValueError)))
    assert isinstance(future.exception(), KeyError)
    assert len(calls) == future.attempts == 1


def test_it_waits_before_each_attempt(client: Client, calls: list[Any]) -> None:
    client.submit(flaky, 3, retries=Retry(5, wait=exponential(0.02, 1), jitter=False)).result()
    waits = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(calls)]
    assert [wait >= least for wait, least in zip(waits, (0.02, 0.04, 0.08), strict=True)] == [True] * 3


def test_a_wait_can_be_a_function_of_the_failures(client: Client, calls: list[Any]) -> None:
    seen = []

    def wait(failures: int) -> float:
        sys.modules["calls_of_tasks"].calls.append(failures)
        return 0.0

    def fail() -> None:
        raise OSError

    assert isinstance(client.submit(fail, retries=Retry(4, wait=wait)).exception(), OSError)
    seen += calls
    assert seen == [1, 2, 3, 4]


def test_a_task_that_waits_takes_no_slot(client: Client, calls: list[Any]) -> None:
    waiting = [client.submit(flaky, 10**6, key=f"waits-{n}", retries=Retry(1, wait=600)) for n in range(10)]
    assert eventually(lambda: len(calls) == 10)
    assert client.gather(client.map(abs, range(-20, 0))) == list(range(20, 0, -1))
    assert [future.status for future in waiting] == ["pending"] * 10
    assert [future.attempts for future in waiting] == [1] * 10
    client.cancel(waiting)
    assert eventually(lambda: client.cluster.scheduler.core.n_tasks() <= 20)


def test_the_next_attempt_is_on_another_worker(client: Client, calls: list[Any]) -> None:
    client.submit(flaky, 5, retries=Retry(5, not_on_worker=True)).result()
    addresses = [address for _, address in calls]
    assert len(set(addresses)) == 2
    assert all(one != next for one, next in itertools.pairwise(addresses))


def test_if_there_is_no_other_worker_it_is_the_same(client: Client, calls: list[Any]) -> None:
    only = list(client.scheduler_info()["workers"])[:1]
    assert client.submit(flaky, 2, workers=only, retries=Retry(3, not_on_worker=True, wait=0.01)).result() == 3
    assert {address for _, address in calls} == set(only)


def test_dependents_wait_with_it(client: Client, calls: list[Any]) -> None:
    number = client.submit(flaky, 2, retries=Retry(3, wait=0.01))
    assert client.submit(pow, number, 2).result() == 9


def test_a_policy_counts_for_all_tasks_of_a_map(client: Client) -> None:
    seen: set[int] = set()
    lock = threading.Lock()
    sys.modules["seen_by_tasks"] = SimpleNamespace(seen=seen, lock=lock)  # type: ignore[assignment]

    def once(number: int) -> int:
        module = sys.modules["seen_by_tasks"]
        with module.lock:
            new = number not in module.seen
            module.seen.add(number)
        if new:
            raise OSError
        return number

    futures = client.map(once, range(50), retries=Retry(1, on=OSError, wait=0.01))
    assert client.gather(futures) == list(range(50))
    assert {future.attempts for future in futures} == {2}
    del sys.modules["seen_by_tasks"]


def test_a_number_of_retries_means_at_once(client: Client, calls: list[Any]) -> None:
    future = client.submit(flaky, 2, retries=2)
    assert (future.result(), future.attempts) == (3, 3)


def test_a_coroutine_is_tried_again(client: Client, calls: list[Any]) -> None:
    async def work() -> int:
        return flaky(2)

    assert client.submit(work, retries=Retry(3, wait=0.01)).result() == 3


def test_rescheduling_is_no_failure(client: Client, calls: list[Any]) -> None:
    assert client.submit(flaky, 2, Reschedule, retries=Retry(1)).result() == 3


def test_a_policy_that_raises_says_so(client: Client, calls: list[Any]) -> None:
    future = client.submit(flaky, 1, retries=Retry(3, on=lambda error: error.missing))
    error = future.exception()
    assert isinstance(error, AttributeError)
    assert isinstance(error.__cause__, OSError)
    assert future.attempts == 1
    negative = client.submit(flaky, 10, retries=Retry(3, wait=lambda failures: -1.0))
    assert "wait= of a Retry gave -1.0 after failure 1" in str(negative.exception())


def test_a_user_can_try_again_by_hand(client: Client, calls: list[Any]) -> None:
    future = client.submit(flaky, 3, retries=Retry(1))
    assert isinstance(future.exception(), OSError)
    future.retry()
    assert isinstance(future.exception(), OSError)
    future.retry()
    assert future.result() == 4


def test_a_wrong_count_is_refused_at_the_call(client: Client) -> None:
    for wrong in (-1, 1.5, "3", True):
        with pytest.raises((TypeError, ValueError), match="retries="):
            client.submit(abs, 1, retries=wrong)  # type: ignore[arg-type]


def test_a_policy_that_cannot_be_pickled_is_refused_at_the_call(client: Client) -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match="retries"):
        client.submit(abs, -1, retries=Retry(1, on=lambda error: bool(lock)))


def test_a_future_that_was_not_run_has_no_attempts(client: Client) -> None:
    future = client.submit(abs, -2, workers="nobody")
    assert future.attempts == 0
    assert client.submit(abs, -3).attempts in (0, 1)


def test_in_processes(tmp_path: Any) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def once(number: int) -> int:
        path = tmp_path / str(number)
        if not path.exists():
            path.touch()
            raise ConnectionError(number)
        return number

    with Client(n_workers=2, threads_per_worker=1) as client:
        policy = Retry(2, on=(OSError,), wait=exponential("10 ms", 1), not_on_worker=True)
        futures = client.map(once, range(20), retries=policy)
        assert client.gather(futures) == list(range(20))
        assert {future.attempts for future in futures} == {2}
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
