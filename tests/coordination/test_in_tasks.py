"""Used inside of tasks in worker processes: the objects travel to them, and what a dead worker held is free."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import pytest

from fastdist import Client, Event, LocalCluster, Lock, MultiLock, Queue, Semaphore, Variable, get_client

N_THREADS = 8


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two worker processes with two threads each."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with LocalCluster(n_workers=2, threads_per_worker=2) as cluster:
        yield cluster
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def count_up(lock: Lock, variable: Variable) -> int:
    """Read, add one, write: right only if nobody comes in between."""
    with lock:
        number = variable.get() + 1
        variable.set(number)
        return int(number)


def test_a_lock_that_travels_protects(client: Client) -> None:
    lock, variable = Lock("counter"), Variable("counter")
    variable.set(0)
    futures = client.map(lambda _: count_up(lock, variable), range(30), pure=False)
    assert sorted(client.gather(futures)) == list(range(1, 31))
    assert variable.get() == 30


def put_square(queue: Queue, number: int) -> None:
    queue.put((number, get_client().submit(pow, number, 2)))


def test_tasks_put_futures_of_tasks_into_a_queue(client: Client) -> None:
    queue = Queue("squares")
    client.gather(client.map(lambda n: put_square(queue, n), range(5)))
    assert {number: future.result() for number, future in queue.get(batch=5)} == {n: n * n for n in range(5)}


def hold_and_die(held: Event) -> None:
    Lock("of the dead").acquire()
    MultiLock(["of", "the dead"]).acquire()
    held.set()
    Event("die").wait()
    os._exit(1)


def test_what_a_dead_worker_held_is_free(client: Client) -> None:
    held = Event("held")
    future = client.submit(hold_and_die, held)
    assert held.wait(20)
    assert not Lock("of the dead").acquire(timeout=0)
    assert not MultiLock(["the dead"]).acquire(timeout=0)
    Event("die").set()
    assert Lock("of the dead").acquire(timeout=20)
    assert MultiLock(["the dead"]).acquire(timeout=20)
    future.cancel()


def use(semaphore: Semaphore, inside: Variable, queue: Queue, number: int) -> int:
    """Note how many are inside at once."""
    with semaphore:
        with Lock("inside"):
            now = inside.get() + 1
            inside.set(now)
        with Lock("inside"):
            inside.set(inside.get() - 1)
    # Not before: those who make room in the queue wait for the semaphore, too.
    queue.put(number)
    return int(now)


def test_stress(client: Client) -> None:
    """Tasks on two workers and threads of the client use the same objects at once."""
    semaphore, inside, queue = Semaphore(3, "stress"), Variable("inside"), Queue("stress", maxsize=5)
    inside.set(0)
    n_tasks, n_each = 40, 15
    futures = client.map(lambda n: use(semaphore, inside, queue, n), range(n_tasks), pure=False)
    seen: Counter[int] = Counter()
    most: list[int] = []
    guard = threading.Lock()

    def work(thread: int) -> None:
        for number in range(n_each):
            found = queue.get(timeout=30)
            with guard:
                seen[found] += 1
            if thread % 2:
                most.append(use(semaphore, inside, Queue("unbounded"), number))

    with ThreadPoolExecutor(N_THREADS) as pool:
        workers = [pool.submit(work, thread) for thread in range(N_THREADS)]
        for number in range(N_THREADS * n_each - n_tasks):
            queue.put(1_000 + number, timeout=30)
        for each in workers:
            each.result(60)
    most += client.gather(futures)
    assert max(most) <= 3
    assert seen == Counter([*range(n_tasks), *range(1_000, 1_000 + N_THREADS * n_each - n_tasks)])
    assert (inside.get(), semaphore.get_value(), queue.qsize()) == (0, 0, 0)
    assert Queue("unbounded").qsize() == n_each * N_THREADS // 2


def get_all(queue: Queue, number: int) -> int:
    return int(queue.get())


def test_tasks_that_wait_leave_their_slots_to_those_who_help_them(client: Client) -> None:
    queue = Queue("slots")
    one = list(client.scheduler_info()["workers"])[:1]
    waiting = client.map(lambda n: get_all(queue, n), range(6), workers=one, pure=False)
    helping = client.map(queue.put, range(6), workers=one, pure=False)
    client.gather(helping)
    assert sorted(client.gather(waiting)) == list(range(6))
