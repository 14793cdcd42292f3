"""Workers that are stopped or hold the GIL. May import: fastdist, tests."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator

import pytest

from fastdist import Client, LocalCluster, config
from tests.faults.waiting import until

TIMEOUT = 0.4


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        config.set({"scheduler.frozen-timeout": TIMEOUT, "scheduler.worker-grace": TIMEOUT}),
        LocalCluster(n_workers=2, threads_per_worker=1, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster) as client,
    ):
        yield client


def pid() -> int:
    return os.getpid()


def hold_the_gil(seconds: float) -> int:
    """Call into C code that lets go of the GIL at no time."""
    import ctypes

    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return os.getpid()


def test_a_stopped_worker_is_given_up_and_its_tasks_run_elsewhere(client: Client) -> None:
    victim, other = list(client.run(pid).values())
    where = next(address for address, number in client.run(pid).items() if number == victim)
    os.kill(victim, signal.SIGSTOP)
    try:
        futures = client.map(abs, range(-20, 0), pure=False)
        anywhere = client.submit(pid, workers=[where], allow_other_workers=True, pure=False)
        assert client.gather(futures) == list(range(20, 0, -1))
        assert anywhere.result(timeout=30) == other
        until(lambda: where not in client.cluster.scheduler.members.by_address, "its removal")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGCONT)
    until(lambda: len(client.cluster.scheduler.members.workers) == 2, "the return of a worker")


def test_a_worker_whose_task_holds_the_gil_stays(client: Client) -> None:
    before = set(client.run(pid).values())
    assert client.submit(hold_the_gil, 4 * TIMEOUT, pure=False).result(timeout=30) in before
    assert set(client.run(pid).values()) == before


def test_a_pause_of_the_scheduler_itself_removes_nobody(client: Client) -> None:
    before = set(client.run(pid).values())
    # The scheduler lives on the event loop of this process.
    client.cluster.loop.add_callback(time.sleep, 3 * TIMEOUT)
    assert client.submit(abs, -1, pure=False).result(timeout=30) == 1
    assert set(client.run(pid).values()) == before
