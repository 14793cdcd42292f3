"""Memory limits and deaths of workers, through client, scheduler, nanny and worker."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator

import pytest

from fastdist.client import Client
from fastdist.errors import KilledWorker

MEGABYTE = 1_000_000


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(
        n_workers=2, threads_per_worker=1, memory_limit=300 * MEGABYTE, silence_logs=logging.CRITICAL
    ) as client:
        yield client


def pids(client: Client) -> list[int]:
    return [nanny.pid for nanny in client.cluster.workers.values()]


def block(number: int) -> bytes:
    return bytes([number]) * (4 * MEGABYTE)


def join(*blocks: bytes) -> bytes:
    return bytes(sum(block[0] for block in blocks) % 256 for _ in range(1)) * (4 * MEGABYTE)


def test_a_reduction_over_three_times_the_memory_limit_completes_without_a_kill(client: Client) -> None:
    before = pids(client)
    blocks = client.map(block, [number % 256 for number in range(450)], pure=False)
    level = blocks
    while len(level) > 1:
        level = [client.submit(join, *level[first : first + 4]) for first in range(0, len(level), 4)]
    assert level[0].result(timeout=60)[0] == sum(number % 256 for number in range(450)) % 256
    assert pids(client) == before


def test_a_task_that_kills_its_worker_fails_and_others_do_not(client: Client) -> None:
    deadly = client.submit(os._exit, 3, pure=False)
    others = client.map(abs, range(-50, 0))
    with pytest.raises(KilledWorker, match="exit code 3"):
        deadly.result(timeout=30)
    assert client.gather(others) == list(range(50, 0, -1))


def test_a_task_that_takes_too_much_memory_is_named_with_the_reason(client: Client) -> None:
    def hog() -> None:
        content = b"x" * (600 * MEGABYTE)
        time.sleep(20)
        del content

    with pytest.raises(KilledWorker, match="memory limit"):
        client.submit(hog).result(timeout=30)


def test_a_graph_survives_the_death_of_a_worker(client: Client) -> None:
    def slow(number: int) -> int:
        time.sleep(0.005)
        return number

    futures = client.map(slow, range(200))
    total = client.submit(sum, futures)
    os.kill(pids(client)[0], signal.SIGKILL)
    assert total.result(timeout=30) == sum(range(200))
