"""Many threads with one client: of those that submit at once, one sends for all. May import: fastdist, pytest."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastdist import Client, LocalCluster

THREADS = 16
EACH = 60


@pytest.fixture(scope="module", params=["processes", "threads"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    options: dict[str, Any] = {"processes": request.param == "processes", "dashboard_address": None}
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=[number]) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == [] and not any(thread.is_alive() for thread in threads)


def test_every_task_of_every_thread_arrives(client: Client) -> None:
    results: dict[int, list[int]] = {}

    def work(number: int) -> None:
        futures = [client.submit(abs, -(number * EACH + i), pure=False) for i in range(EACH)]
        futures += client.map(abs, range(EACH), pure=False)
        results[number] = client.gather(futures)

    in_threads(work)
    for number in range(THREADS):
        assert results[number] == [*range(number * EACH, (number + 1) * EACH), *range(EACH)]
    assert not client._connection._outbox.incoming


def test_what_a_thread_asks_comes_after_what_it_submitted(client: Client) -> None:
    unknown: list[Any] = []

    def work(number: int) -> None:
        for _ in range(EACH):
            future = client.submit(abs, -number, pure=False)
            reply = client.sync(client._connection.call, "who-has", ids=[future.id])
            if reply["tasks"][0] is None:
                unknown.append(future)

    in_threads(work)
    assert unknown == []


def test_a_thread_that_waits_gets_its_result_while_others_submit(client: Client) -> None:
    def work(number: int) -> None:
        for i in range(EACH):
            assert client.submit(abs, -i, pure=False).result(30) == i

    in_threads(work)
