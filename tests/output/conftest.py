"""A cluster of two processes for the tests of output. May import: fastdist, pytest, the standard library."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest

from fastdist import Client, LocalCluster

PATIENCE = 20.0


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Two worker processes with one thread each; the functions of the test module travel by value."""
    module = sys.modules[request.module.__name__]
    cloudpickle.register_pickle_by_value(module)
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster:
        yield cluster
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of its own for each test."""
    with Client(cluster) as client:
        client.wait_for_workers(2)
        yield client


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Look until a condition holds; what it gave last."""

    def look(condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()) and time.monotonic() < deadline:
            time.sleep(0.002)
        return found

    return look
