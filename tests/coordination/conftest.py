"""One cluster inside of this process for each module of tests, and a client for each test.

May import: the public names of fastdist, the standard library, pytest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastdist import Client, LocalCluster, config
from fastdist._core.keys.canonical import encode_key

PATIENCE = 10.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers with four threads each, in this process, and a scheduler that looks often for ended leases."""
    often = config.set({"scheduler.locks.lease-validation-interval": "10ms"})
    with often, LocalCluster(n_workers=2, threads_per_worker=4, processes=False) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    """A client of its own for each test."""
    with Client(cluster) as client:
        yield client


@pytest.fixture
def other(cluster: LocalCluster, client: Client) -> Iterator[Client]:
    """A second client, which is not the default one."""
    with Client(cluster, set_as_default=False) as other:
        client.as_current()
        yield other


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for calls that block."""
    pool = ThreadPoolExecutor(8)
    yield pool
    # A failed test may have left calls behind; they end when the client closes.
    pool.shutdown(wait=False)


@pytest.fixture
def extensions(cluster: LocalCluster) -> Any:
    """The parts of the scheduler by name."""
    return cluster.scheduler.extensions


@pytest.fixture
def record_of(extensions: Any) -> Callable[[str, str], Any]:
    """What the scheduler knows of an object, by its kind and name."""

    def find(kind: str, name: str) -> Any:
        return getattr(extensions[kind], kind)[encode_key(name)]

    return find


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Look until a condition holds; what it gave last."""

    def look(condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE
        while True:
            found = condition()
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.002)

    return look
