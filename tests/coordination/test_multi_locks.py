"""MultiLock: all or enough of its names at once."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastdist import Client, LocalCluster, MultiLock


def test_names_that_overlap_exclude_each_other(client: Client) -> None:
    one, two, three = MultiLock(["a", "b"]), MultiLock(["b", "c"]), MultiLock(["d"])
    assert one.acquire() is True
    assert one.locked() is True
    assert two.acquire(timeout="10 ms") is False
    assert two.locked() is False
    assert three.acquire(blocking=False) is True
    one.release()
    assert two.acquire(blocking=False) is True
    two.release()
    three.release()


def test_some_of_the_names_can_be_enough(client: Client) -> None:
    locks = [MultiLock(["a", "b", "c"]) for _ in range(3)]
    assert locks[0].acquire(num_locks=1)
    assert locks[1].acquire(num_locks=2)
    assert not locks[2].acquire(timeout=0, num_locks=1)
    locks[0].release()
    assert locks[2].acquire(timeout=0, num_locks=1)
    locks[1].release()
    locks[2].release()


def test_an_older_request_is_not_overtaken_for_ever(
    client: Client, threads: ThreadPoolExecutor, extensions: Any, eventually: Any
) -> None:
    holder, wide, narrow = MultiLock(["a"]), MultiLock(["a", "b"]), MultiLock(["b"])
    holder.acquire()
    waiting = threads.submit(wide.acquire)
    assert eventually(lambda: extensions["multi-locks"].line)
    assert not narrow.acquire(timeout=0)
    holder.release()
    assert waiting.result(10)
    wide.release()
    assert narrow.acquire(timeout=0)
    narrow.release()


def test_who_gives_up_lets_the_next_go(
    client: Client, threads: ThreadPoolExecutor, extensions: Any, eventually: Any
) -> None:
    holder = MultiLock(["a"])
    holder.acquire()
    impatient = threads.submit(MultiLock(["a", "b"]).acquire, True, 0.1)
    assert eventually(lambda: extensions["multi-locks"].line)
    patient = threads.submit(MultiLock(["b"]).acquire)
    assert impatient.result(10) is False
    assert patient.result(10) is True
    holder.release()


def test_wrong_uses(client: Client) -> None:
    lock = MultiLock(["a"])
    with pytest.raises(ValueError, match="not yet acquired"):
        lock.release()
    with pytest.raises(ValueError, match="non-blocking"):
        lock.acquire(blocking=False, timeout=1)
    with pytest.raises(ValueError, match="num_locks=2 cannot be had of 1 names"):
        lock.acquire(num_locks=2)
    with pytest.raises(TypeError, match="list of names"):
        MultiLock("ab")  # type: ignore[arg-type]
    with lock, pytest.raises(RuntimeError, match="holds its locks already"):
        lock.acquire()


def test_pickles_have_the_names(client: Client) -> None:
    lock = MultiLock(["x", "y"])
    copy = pickle.loads(pickle.dumps(lock))
    assert (copy.names, copy.locked()) == (["x", "y"], False)
    assert copy.id != lock.id
    assert repr(lock) == "<MultiLock: x, y>"


def test_what_a_closed_client_held_is_free(cluster: LocalCluster, client: Client) -> None:
    with Client(cluster, set_as_default=False) as other:
        assert MultiLock(["p", "q"], client=other).acquire()
        assert not MultiLock(["q"]).acquire(timeout=0)
    assert MultiLock(["q"]).acquire(timeout=10)
