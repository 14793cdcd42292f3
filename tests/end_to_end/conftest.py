"""One cluster for each module of tests, as worker processes and inside of this process.

May import: the public names of fastdist, the standard library, pytest.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest

from fastdist import Client, LocalCluster

PATIENCE = 10.0


@pytest.fixture(scope="module", autouse=True)
def workers_get_the_functions_of_the_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Worker processes cannot import a test module, so its functions travel by value."""
    module = sys.modules[request.module.__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module", params=["processes", "threads"])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Two workers with one thread each."""
    in_processes = request.param == "processes"
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=in_processes)
    with cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of its own for each test."""
    with Client(cluster) as client:
        yield client


def _eventually(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.002)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Look until a condition holds; what it gave last."""
    return _eventually
