"""Queue: order, room, batches, futures that stay alive, values that are not lost."""

from __future__ import annotations

import pickle
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fastdist import Client, Future, LocalCluster, Queue, config


def square(x: int) -> int:
    return x * x


def test_first_in_first_out(client: Client) -> None:
    queue = Queue("order")
    for value in (1, "two", [3], {"four": 4.0}, None, deque([5])):
        queue.put(value)
    assert queue.qsize() == 6
    assert [queue.get() for _ in range(6)] == [1, "two", [3], {"four": 4.0}, None, deque([5])]
    assert queue.qsize() == 0


def test_handles_of_one_name_share_the_values(client: Client, other: Client) -> None:
    Queue("shared").put(1)
    assert Queue("shared", client=other).get() == 1


def test_getting_waits(client: Client, threads: ThreadPoolExecutor, record_of: Any, eventually: Any) -> None:
    queue = Queue("waits")
    with pytest.raises(TimeoutError, match="'waits' had no value within"):
        queue.get(timeout="10 ms")
    waiting = threads.submit(queue.get)
    record = record_of("queues", "waits")
    assert eventually(lambda: record.getting)
    Queue("waits").put(7)
    assert waiting.result(10) == 7
    queue.close()


def test_putting_waits_for_room(
    client: Client, threads: ThreadPoolExecutor, record_of: Any, eventually: Any
) -> None:
    queue = Queue("room", maxsize=2)
    queue.put(1)
    queue.put(2)
    with pytest.raises(TimeoutError, match="'room' had no room within"):
        queue.put(3, timeout=0.01)
    waiting = threads.submit(queue.put, 4)
    record = record_of("queues", "room")
    assert eventually(lambda: record.putting)
    assert queue.qsize() == 2
    assert [queue.get() for _ in range(3)] == [1, 2, 4]
    waiting.result(10)


def test_batches(client: Client, threads: ThreadPoolExecutor) -> None:
    queue = Queue("batches")
    assert queue.get(batch=True) == []
    for value in range(10):
        queue.put(value)
    assert queue.get(batch=3) == [0, 1, 2]
    assert queue.get(batch=True) == [3, 4, 5, 6, 7, 8, 9]
    waiting = threads.submit(queue.get, batch=2)
    queue.put("a")
    queue.put("b")
    assert waiting.result(10) == ["a", "b"]
    with pytest.raises(NotImplementedError, match="timeout="):
        queue.get(batch=2, timeout=1)


def test_more_values_than_fit_into_an_answer(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "fastdist.scheduler.extensions.coordination.queues"
    monkeypatch.setattr(f"{module}.ANSWER_VALUES", 7)
    monkeypatch.setattr(f"{module}.ANSWER_BYTES", 3_000)
    queue = Queue("many")
    for value in range(30):
        queue.put((value, "x" * 1_000))
    assert [value for value, _ in queue.get(batch=True)] == list(range(30))


def test_futures_in_a_queue_stay_alive(client: Client, other: Client, extensions: Any, eventually: Any) -> None:
    queue = Queue("futures")
    future = client.submit(square, 11)
    nested = {"all": client.map(square, range(3)), "rest": [1]}
    key = future.key
    queue.put(future)
    queue.put(nested)
    del future, nested
    scheduler = client.cluster.scheduler
    theirs = Queue("futures", client=other)
    found = theirs.get()
    assert type(found) is Future and found.key == key and found.client is other
    assert found.result() == 121
    assert other.gather(theirs.get()) == {"all": [0, 1, 4], "rest": [1]}
    assert eventually(lambda: not extensions["queues"].given)
    del found
    assert eventually(lambda: scheduler.core.n_tasks() == 0)


def test_a_value_that_nobody_takes_is_dropped_with_its_queue(client: Client, eventually: Any) -> None:
    scheduler = client.cluster.scheduler
    first, second = Queue("dropped"), Queue("dropped")
    first.put(client.submit(square, 12))
    first.close()
    first.close()
    assert second.qsize() == 1
    second.close()
    assert eventually(lambda: scheduler.core.n_tasks() == 0)
    with pytest.raises(RuntimeError, match="'dropped' does not exist"):
        second.qsize()


def test_arrays_travel(client: Client) -> None:
    queue = Queue("arrays")
    values = np.arange(100_000.0)
    queue.put({"values": values})
    values[:] = 0
    assert queue.get()["values"].sum() == sum(range(100_000))


def test_a_value_that_is_too_large_is_refused(client: Client) -> None:
    queue = Queue("large")
    with config.set({"scheduler.max-coordination-bytes": 1000}), pytest.raises(MemoryError, match="coordination-bytes"):
        queue.put("x" * 2000)
    queue.put("y")
    assert queue.get() == "y"


def test_a_value_that_cannot_be_pickled_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="generator"):
        Queue("pickles").put({"a": (x for x in [])})


def test_what_was_given_to_a_client_that_is_gone_is_first_again(
    client: Client, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, extensions: Any, eventually: Any
) -> None:
    queue = Queue("again")
    for value in (1, 2, 3):
        queue.put(value)
    with Client(cluster, set_as_default=False) as other:
        theirs = Queue("again", client=other)
        monkeypatch.setattr(theirs, "_confirm", lambda request: _nothing())
        assert theirs.get(batch=2) == [1, 2]
    assert eventually(lambda: queue.qsize() == 3)
    assert queue.get(batch=True) == [1, 2, 3]


async def _nothing() -> None:
    pass


def test_bytes_are_counted(client: Client, extensions: Any, eventually: Any) -> None:
    queue = Queue("counted")
    before = extensions["queues"]._values.n_bytes
    for value in range(5):
        queue.put("z" * value)
    queue.get(batch=True)
    assert eventually(lambda: extensions["queues"]._values.n_bytes == before)


def test_pickles(client: Client) -> None:
    queue = Queue("pickled", maxsize=3)
    copy = pickle.loads(pickle.dumps(queue))
    assert (copy.name, copy.maxsize) == ("pickled", 3)
    with pytest.raises(TypeError, match="maxsize="):
        Queue("x", maxsize=1.5)  # type: ignore[arg-type]
