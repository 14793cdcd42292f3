"""Clusters for the tests of control: small ones in this process, and one of processes with nannies for a module.

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


@pytest.fixture(scope="module")
def workers_get_the_functions_of_the_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Worker processes cannot import a test module, so its functions travel by value."""
    module = sys.modules[request.module.__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """Three workers in this process."""
    with LocalCluster(n_workers=3, threads_per_worker=1, processes=False) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of the three workers."""
    with Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def process_cluster(workers_get_the_functions_of_the_tests: None) -> Iterator[LocalCluster]:
    """Two workers in processes of their own, with nannies."""
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster:
        yield cluster


@pytest.fixture
def process_client(process_cluster: LocalCluster) -> Iterator[Client]:
    """A client of the two processes."""
    with Client(process_cluster) as client:
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
