"""`LocalCluster(journal=)`: the scheduler is a process that is started again when it dies."""

from __future__ import annotations

import os
import signal
from operator import add
from pathlib import Path
from typing import Any

import numpy
import pytest

from fastdist import Client, LocalCluster, Lock, MultiLock, Queue
from tests.faults.waiting import Gate, until


def after(gate: Gate, value: int) -> int:
    gate.pass_through(value)
    return value


def kill_scheduler(cluster: LocalCluster) -> None:
    """kill -9, and wait until there is another process."""
    supervised = cluster.scheduler
    number = supervised.n_restarts
    os.kill(supervised.process.pid, signal.SIGKILL)
    until(lambda: supervised.n_restarts > number, "another process")


def keys_of(dask_scheduler: Any = None) -> list[Any]:
    return [view["key"] for view in dask_scheduler.core.tasks()]


def fail(gate: Gate, text: str) -> None:
    gate.arrive("failing")
    raise ValueError(text)


def test_a_local_cluster_survives_the_death_of_its_scheduler(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, journal=tmp_path / "journal", silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        pids = set(client.run(os.getpid).values())
        data = client.scatter(numpy.arange(10_000))
        failed = client.submit(fail, gate, "as asked")
        assert isinstance(failed.exception(timeout=30), ValueError)
        queue, lock = Queue("queue"), Lock("lock")
        queue.put(5)
        assert lock.acquire(timeout=10)
        client.publish_dataset(published=client.submit(add, 20, 22, key="published"))
        waiting = client.map(after, [gate] * 5, range(5))
        gate.wait_for(1, 0)
        for _ in range(2):
            kill_scheduler(cluster)
        gate.open()
        assert client.submit(numpy.sum, data).result(timeout=30) == 49_995_000
        assert client.gather(waiting) == list(range(5))
        assert [gate.arrivals(number) for number in range(5)] == [1] * 5
        with pytest.raises(ValueError, match="as asked"):
            failed.result(timeout=30)
        assert gate.arrivals("failing") == 1
        assert queue.get(timeout=10) == 5
        assert not Lock("lock").acquire(timeout=0.05)
        lock.release()
        assert client.get_dataset("published").result(timeout=30) == 42
        assert set(client.run(os.getpid).values()) == pids


def test_a_cluster_goes_on_from_the_journal_of_one_that_ended(tmp_path: Path) -> None:
    options = {"n_workers": 0, "processes": False, "journal": tmp_path / "journal", "silence_logs": 50}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        client.set_metadata("answer", 42)
        client.publish_dataset(kept=client.submit(add, 1, 2, key="kept"))
        future = client.submit(add, 3, 4, key="not-kept")
        locks = MultiLock(["a", "b"])
        assert locks.acquire()
        cluster.close()
        del future
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        assert client.get_metadata("answer") == 42
        assert client.run_on_scheduler(keys_of) == ["kept"]
        again = MultiLock(["a", "b"])
        assert again.acquire(timeout=5)
        again.release()


def test_a_journal_needs_a_scheduler_that_is_a_process(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="journal"):
        LocalCluster(n_workers=0, processes=False, protocol="inproc", journal=tmp_path)
