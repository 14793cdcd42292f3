"""One cluster of worker processes for each module of tests. May import: the public names of fastdist, pytest."""

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


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two worker processes with one thread each."""
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of its own for each test."""
    with Client(cluster) as client:
        yield client


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Look until a condition holds; what it gave last."""

    def look(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
        deadline = time.monotonic() + patience
        while True:
            found = condition()
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.002)

    return look
