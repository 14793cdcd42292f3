"""Futures: states, waiting, callbacks, as_completed, pickling, interruption."""

from __future__ import annotations

import operator
import pickle
import signal
import threading
import time
from typing import Any

import pytest

from fastdist import Client, Future, as_completed, wait
from fastdist.errors import FutureCancelledError, FuturesCancelledError


def inc(x: int) -> int:
    return x + 1


def pause(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def never() -> None:
    """Ends soon enough for a cluster to close; tests do not wait for it."""
    time.sleep(0.6)


def test_the_life_of_a_future(client: Client) -> None:
    future = client.submit(pause, 0.05, pure=False)
    assert (future.status, future.done(), future.cancelled()) == ("pending", False, False)
    assert future.type is None
    assert future.result() == 0.05
    assert (future.status, future.done(), future.cancelled()) == ("finished", True, False)
    assert future.type is float
    assert future.exception() is None
    assert future.traceback() is None
    assert future.client is future.executor is client


def test_the_life_of_a_failed_future(client: Client) -> None:
    future = client.submit(operator.truediv, 1, 0)
    assert isinstance(future.exception(), ZeroDivisionError)
    assert (future.status, future.done(), future.cancelled()) == ("error", True, False)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            future.result()
    assert "error" in repr(future)


def test_errors_reach_dependents(client: Client) -> None:
    first = client.submit(operator.truediv, 1, 0)
    last = first
    for _ in range(20):
        last = client.submit(inc, last)
    many = client.map(operator.add, [last] * 500, range(500))
    for future in (last, many[0], many[-1]):
        with pytest.raises(ZeroDivisionError):
            future.result(timeout=10)
    assert {future.status for future in wait(many).done} == {"error"}


def test_results_can_be_waited_for_in_time(client: Client) -> None:
    future = client.submit(never, pure=False)
    for timeout in (0.01, "10 ms"):
        with pytest.raises(TimeoutError, match=r"timed out after 0\.01 s"):
            future.result(timeout=timeout)
        with pytest.raises(TimeoutError):
            future.exception(timeout=timeout)
        with pytest.raises(TimeoutError):
            wait(future, timeout=timeout)
    assert future.status == "pending"
    assert future.result(timeout=10) is None


def test_wait(client: Client) -> None:
    futures = client.map(inc, range(5))
    done, not_done = wait(futures)
    assert (done, not_done) == (set(futures), set())
    slow = client.submit(never, pure=False)
    first = wait([slow, *futures], return_when="FIRST_COMPLETED")
    assert first.done == set(futures)
    assert first.not_done == {slow}
    nested = wait({"a": [futures[0], (futures[1],)]})
    assert nested.done == set(futures[:2])
    assert wait([]) == (set(), set())
    # Released or not, it would keep its slot from the next test.
    assert slow.result(timeout=10) is None


def test_waiting_for_what_is_cancelled(client: Client) -> None:
    # It never starts: what executes keeps its slot until it ends, cancelled or not.
    future = client.submit(never, pure=False, workers=["nobody"])
    client.cancel(future, reason="enough")
    with pytest.raises(FuturesCancelledError, match="enough"):
        wait([future])
    with pytest.raises(FutureCancelledError):
        future.result()
    assert isinstance(future.exception(), FutureCancelledError)


def test_callbacks_are_called_once_each(client: Client) -> None:
    called: list[Any] = []
    seen = threading.Event()

    def note(future: Future) -> None:
        called.append(future)
        if len(called) == 3:
            seen.set()

    slow = client.submit(pause, 0.02, pure=False)
    slow.add_done_callback(note)
    failed = client.submit(operator.truediv, 1, 0)
    failed.add_done_callback(note)
    done = client.submit(inc, 1)
    done.result()
    done.add_done_callback(note)
    assert seen.wait(10)
    assert {future.key for future in called} == {slow.key, failed.key, done.key}


def test_as_completed_gives_each_future_once(client: Client) -> None:
    futures = client.map(inc, range(50))
    assert {future.key for future in as_completed(futures)} == {future.key for future in futures}
    assert sum(result for _, result in as_completed(futures, with_results=True)) == sum(range(1, 51))
    assert sum(len(batch) for batch in as_completed(futures).batches()) == 50
    assert list(as_completed([])) == []
    twice = as_completed([futures[0], futures[0]])
    assert [future.key for future in twice] == [futures[0].key] * 2


def test_as_completed_gives_the_fast_ones_first(client: Client) -> None:
    slow = client.submit(pause, 0.1, pure=False)
    fast = client.submit(inc, 0)
    assert list(as_completed([slow, fast])) == [fast, slow]


def test_as_completed_grows_and_counts(client: Client) -> None:
    sequence = as_completed(client.map(inc, [0]))
    numbers = []
    for future in sequence:
        numbers.append(future.result())
        if numbers[-1] < 5:
            sequence.add(client.submit(inc, numbers[-1]))
    assert numbers == [1, 2, 3, 4, 5]
    assert sequence.is_empty()
    assert sequence.count() == 0
    with pytest.raises(TypeError, match="takes futures"):
        sequence.update([1])  # type: ignore[list-item]


def test_as_completed_with_errors(client: Client) -> None:
    futures = client.map(operator.truediv, [4, 4], [2, 0])
    with pytest.raises(ZeroDivisionError):
        list(as_completed(futures, with_results=True))
    results = dict(as_completed(futures, with_results=True, raise_errors=False))
    assert results[futures[0]] == 2
    kind, error, _ = results[futures[1]]
    assert kind is ZeroDivisionError
    assert isinstance(error, ZeroDivisionError)
    assert {future.status for future in as_completed(futures)} == {"finished", "error"}


def test_as_completed_with_results_that_have_to_be_fetched(client: Client) -> None:
    futures = client.map(bytes, [100_000, 200_000])
    assert sorted(len(result) for _, result in as_completed(futures, with_results=True)) == [100_000, 200_000]


def test_as_completed_in_time(client: Client) -> None:
    slow = client.submit(never, pure=False)
    with pytest.raises(TimeoutError, match="as_completed timed out"):
        list(as_completed([slow], timeout=0.02))


def test_a_future_travels_as_its_key(client: Client) -> None:
    future = client.submit(inc, 41)
    copy = pickle.loads(pickle.dumps(future))
    assert copy.key == future.key
    assert copy.result() == 42
    assert Future(future.key, client).result() == 42


def test_the_data_lives_as_long_as_the_last_future_of_it(client: Client, eventually: Any) -> None:
    future = client.submit(inc, 4_000)
    again = client.submit(inc, 4_000)
    key = future.key
    assert future.result() == 4_001
    future.release()
    future.release()
    del future
    assert client.submit(operator.neg, again).result() == -4_001
    assert key in client.who_has()
    del again
    assert eventually(lambda: key not in client.who_has())


def test_a_released_future_says_so(client: Client) -> None:
    future = client.submit(inc, 1)
    future.release()
    assert future.status == "cancelled"
    assert future.key.startswith("inc-")
    with pytest.raises(FutureCancelledError):
        future.result(timeout=1)


def test_the_same_result_object_is_not_shared(client: Client) -> None:
    if not client.cluster.processes:
        pytest.skip("inside one process results travel by reference")
    future = client.submit(list, [1, 2])
    first, second = future.result(), future.result()
    first.append(3)
    assert second == [1, 2]


@pytest.mark.parametrize("how", ["result", "gather", "wait", "as_completed"])
def test_ctrl_c_ends_the_wait(client: Client, how: str) -> None:
    future = client.submit(never, pure=False)
    waits = {
        "result": future.result,
        "gather": lambda: client.gather([future]),
        "wait": lambda: wait([future]),
        "as_completed": lambda: list(as_completed([future])),
    }
    timer = threading.Timer(0.03, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        waits[how]()
    assert time.monotonic() - start < 0.5
    timer.join()
    assert client.submit(inc, 1).result() == 2
