"""Lock and Semaphore: who gets a lease, who waits, and how leases end."""

from __future__ import annotations

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastdist import Client, LocalCluster, Lock, Semaphore, config


def test_a_lock_has_one_holder(client: Client) -> None:
    lock, same = Lock("one holder"), Lock("one holder")
    assert lock.acquire() is True
    assert lock.locked() is True
    assert same.acquire(blocking=False) is False
    assert same.acquire(timeout="10 ms") is False
    assert lock.release() is True
    assert lock.locked() is False
    assert same.acquire(timeout=0) is True
    same.release()


def test_a_lock_is_a_context_manager(client: Client) -> None:
    with Lock("with") as lock:
        assert lock.locked()
    assert not lock.locked()


def test_a_lock_that_is_released_goes_to_the_one_who_waits_longest(
    client: Client, threads: ThreadPoolExecutor, record_of: Any, eventually: Any
) -> None:
    lock = Lock("line")
    lock.acquire()
    line = record_of("semaphores", "line").line
    order = []

    def take(number: int) -> None:
        with Lock("line"):
            order.append(number)

    waiting = []
    for number in range(4):
        waiting.append(threads.submit(take, number))
        assert eventually(lambda: len(line) == len(waiting))
    lock.release()
    for each in waiting:
        each.result(10)
    assert order == [0, 1, 2, 3]


def test_a_lock_does_not_wait_with_a_timeout(client: Client) -> None:
    with pytest.raises(ValueError, match="timeout for a non-blocking call"):
        Lock("x").acquire(blocking=False, timeout=1)


def test_only_the_holder_releases(client: Client) -> None:
    lock = Lock("holder")
    lock.acquire()
    with pytest.raises(RuntimeError, match="Released too often"):
        Lock("holder").release()
    lock.release()
    with pytest.raises(RuntimeError, match="Released too often"):
        lock.release()


def test_a_lock_that_nobody_uses_is_forgotten(client: Client, extensions: Any) -> None:
    for number in range(10):
        with Lock(f"short-{number}"):
            pass
    assert not extensions["semaphores"].semaphores


def test_names(client: Client) -> None:
    assert Lock().name != Lock().name
    assert Lock(("a", 1)).acquire()
    assert not Lock(["a", 1]).acquire(timeout=0)
    assert repr(Lock("x")) == "<Lock: x>"


def test_pickles_have_the_name_only(client: Client) -> None:
    lock = Lock("pickled")
    lock.acquire()
    copy = pickle.loads(pickle.dumps(lock))
    assert copy.name == "pickled"
    assert not copy.acquire(timeout=0)
    semaphore = pickle.loads(pickle.dumps(Semaphore(3, "three")))
    assert (semaphore.name, semaphore.max_leases) == ("three", 3)
    lock.release()


def test_a_semaphore_has_so_many_leases(client: Client) -> None:
    semaphore = Semaphore(2, "two")
    assert [semaphore.acquire(timeout=0) for _ in range(3)] == [True, True, False]
    assert semaphore.get_value() == 2
    semaphore.release()
    assert semaphore.get_value() == 1
    with semaphore:
        assert semaphore.get_value() == 2
    semaphore.release()
    semaphore.close()


def test_the_number_of_leases_cannot_differ(client: Client) -> None:
    Semaphore(2, "differs").register()
    with pytest.raises(ValueError, match="Inconsistent max leases: 3, expected: 2"):
        Semaphore(3, "differs").register()
    with pytest.raises(ValueError, match="Inconsistent max leases"):
        Semaphore(3, "differs").acquire()


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_of_leases_is_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="max_leases="):
        Semaphore(wrong)


@pytest.mark.parametrize("what", ["scheduler_rpc", "loop"])
def test_what_is_not_available_is_named(what: str) -> None:
    with pytest.raises(NotImplementedError, match=f"{what}="):
        Lock("x", **{what: object()})


def test_a_closed_semaphore_is_not_known(
    client: Client, threads: ThreadPoolExecutor, record_of: Any, eventually: Any
) -> None:
    semaphore = Semaphore(1, "closed")
    semaphore.acquire()
    waiting = threads.submit(Semaphore(1, "closed").acquire)
    record = record_of("semaphores", "closed")
    assert eventually(lambda: record.line)
    semaphore.close()
    with pytest.raises(RuntimeError, match="was closed"):
        waiting.result(10)
    with pytest.raises(RuntimeError, match="not known"):
        semaphore.acquire()
    assert Semaphore(5, "closed").acquire()


def test_a_lease_that_is_not_refreshed_ends(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with config.set({"scheduler.locks.lease-timeout": "20ms"}):
        stuck, lock = Lock("stuck"), Lock("stuck")
    stuck.refresh_leases = False
    stuck.acquire()
    assert lock.acquire(timeout=10)
    assert "did not refresh it in time" in caplog.text
    lock.release()


def test_a_lease_that_is_refreshed_lasts(client: Client) -> None:
    with config.set({"scheduler.locks.lease-timeout": "100ms"}):
        lock = Lock("lasting")
    lock.acquire()
    assert not Lock("lasting").acquire(timeout=0.5)
    lock.release()


def test_who_lost_a_lease_is_told(client: Client, caplog: pytest.LogCaptureFixture, eventually: Any) -> None:
    with config.set({"scheduler.locks.lease-timeout": "50ms"}):
        semaphore = Semaphore(1, "lost")
    semaphore.acquire()
    Semaphore(1, "lost").close()
    assert eventually(lambda: "ended although it is still held" in caplog.text)
    with caplog.at_level(logging.ERROR):
        assert semaphore.release() is False


def test_leases_without_end(client: Client, record_of: Any) -> None:
    with config.set({"scheduler.locks.lease-timeout": "inf"}):
        lock = Lock("endless")
    lock.acquire()
    (lease,) = record_of("semaphores", "endless").leases.values()
    assert lease.expires == float("inf")
    lock.release()


def test_what_a_closed_client_held_is_free(cluster: LocalCluster, client: Client) -> None:
    with Client(cluster, set_as_default=False) as other:
        with other.as_current():
            lock = Lock("of a client")
        lock.acquire()
        assert not Lock("of a client").acquire(timeout=0)
    assert Lock("of a client").acquire(timeout=10)


def test_a_closed_client_leaves_the_line(
    cluster: LocalCluster, client: Client, threads: ThreadPoolExecutor, record_of: Any, eventually: Any
) -> None:
    lock = Lock("left")
    lock.acquire()
    with Client(cluster, set_as_default=False) as other:
        with other.as_current():
            waiting = threads.submit(Lock("left").acquire)
        record = record_of("semaphores", "left")
        assert eventually(lambda: record.line)
    with pytest.raises(Exception, match="closed"):
        waiting.result(10)
    assert eventually(lambda: not record.line)
    lock.release()
    assert Lock("left").acquire(timeout=0)


def test_without_a_client_there_is_an_error_that_says_so() -> None:
    with pytest.raises(RuntimeError, match="has no client: make a"):
        Lock("nowhere").acquire()
