"""A scheduler, workers and a client inside of this process, which the tests of reasons can look into.

May import: the public names of fastdist, the standard library, pytest, tests.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest

from fastdist import Client, LocalCluster, config
from tests.faults.waiting import Gate

#: Seconds until the warning about tasks that cannot run.
SOON = 0.2


@pytest.fixture(scope="module", autouse=True)
def workers_get_the_functions_of_the_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Worker processes cannot import a test module, so its functions travel by value."""
    module = sys.modules[request.module.__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """One worker with one thread and the resource FOO, in this process."""
    with (
        config.set({"scheduler.unrunnable-warning": SOON, "scheduler.prefill": 0.0}),
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, resources={"FOO": 1}) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def processes() -> Iterator[Client]:
    """Two workers with one thread each, as processes with nannies."""
    with Client(n_workers=2, threads_per_worker=1, silence_logs=logging.CRITICAL) as client:
        yield client


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """Opened at the end, so that no task hangs in it."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> str:
    """All times of sentences are this one."""
    monkeypatch.setattr("fastdist.scheduler.sentences.moment", lambda when: "12:00:00")
    assert time.time() > 0
    return "12:00:00"
