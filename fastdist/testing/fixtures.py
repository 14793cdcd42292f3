"""Fixtures of pytest; a suite gets them with `from fastdist.utils_test import client, loop, ...  # noqa`.

May import: every layer below, pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fastdist.client import Client
from fastdist.compat.loops import io_loop
from fastdist.testing.cleaning import clean, held_loop
from fastdist.testing.clusters import cluster

Members = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture
def cleanup() -> Iterator[None]:
    """Threads, processes and default clients that a test starts are gone after it."""
    with clean():
        yield


@pytest.fixture
def loop_in_thread(cleanup: None) -> Iterator[Any]:
    """An event loop that runs on another thread, as tornado's IOLoop."""
    with held_loop() as thread:
        yield io_loop(thread.loop)


@pytest.fixture
def loop(loop_in_thread: Any) -> Any:
    """As `loop_in_thread`."""
    return loop_in_thread


@pytest.fixture
def cluster_fixture(loop: Any) -> Iterator[Members]:
    """A scheduler and two workers, as `cluster` gives them."""
    with cluster() as members:
        yield members


@pytest.fixture
def s(cluster_fixture: Members) -> dict[str, Any]:
    """The scheduler of `cluster_fixture`, with its address."""
    return cluster_fixture[0]


@pytest.fixture
def a(cluster_fixture: Members) -> dict[str, Any]:
    """The first worker of `cluster_fixture`, with its address."""
    return cluster_fixture[1][0]


@pytest.fixture
def b(cluster_fixture: Members) -> dict[str, Any]:
    """The second worker of `cluster_fixture`, with its address."""
    return cluster_fixture[1][1]


@pytest.fixture
def client(loop: Any, cluster_fixture: Members) -> Iterator[Client]:
    """A client of `cluster_fixture`."""
    with Client(cluster_fixture[0]["address"], loop=loop) as made:
        yield made


@pytest.fixture
def c(client: Client) -> Client:
    """As `client`."""
    return client


@pytest.fixture
def name_of_test(request: pytest.FixtureRequest) -> str:
    """The test's full name."""
    return str(request.node.nodeid)
