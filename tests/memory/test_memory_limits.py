"""Memory limits of real workers: spill, pause, and the end by the nanny. May import: fastdist, tests."""

from __future__ import annotations

import errno
import logging
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdist import Client, wait
from fastdist.errors import KilledWorker
from fastdist.system.memory import process_memory
from tests.faults.waiting import Gate, until

MIB = 1 << 20
LIMIT = 256 * MIB


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(
        n_workers=2, threads_per_worker=1, memory_limit=LIMIT, silence_logs=logging.CRITICAL
    ) as client:
        yield client


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def pids(client: Client) -> list[int | None]:
    return [nanny.pid for nanny in client.cluster.workers.values()]


def metric(client: Client, name: str) -> list[Any]:
    """A figure of the last heartbeat of each worker."""
    return [entry.metrics.get(name) for entry in client.cluster.scheduler.members.workers.values()]


def bytes_block(number: int, nbytes: int) -> bytes:
    return bytes([number % 256]) * nbytes


def array_block(number: int, nbytes: int) -> np.ndarray:
    return np.full(nbytes // 8, float(number))


def add_bytes(first: bytes, second: bytes) -> bytes:
    return bytes([(first[0] + second[0]) % 256]) * max(len(first), len(second))


def reduce(client: Client, level: list[Any], function: Any) -> Any:
    while len(level) > 1:
        rest = level[len(level) // 2 * 2 :]
        level = client.map(function, level[: len(level) // 2 * 2 : 2], level[1::2], pure=False) + rest
    return level[0]


@pytest.mark.parametrize(
    ("block", "function", "size"),
    [(bytes_block, add_bytes, MIB), (array_block, operator.add, 4 * MIB)],
    ids=["bytes of 1 MiB", "arrays of 4 MiB"],
)
def test_a_reduction_over_three_times_the_limit_completes_without_a_kill(
    client: Client, block: Any, function: Any, size: int
) -> None:
    before = pids(client)
    count = 2 * 3 * LIMIT // size
    blocks = client.map(block, range(count), [size] * count, pure=False)
    # All blocks are wanted to the end: nothing may be freed on the way.
    wait(blocks, timeout=60)
    result = reduce(client, blocks, function).result(timeout=60)
    if block is bytes_block:
        assert result == bytes_block(count * (count - 1) // 2, size)
    else:
        assert result.shape == (size // 8,) and set(result) == {count * (count - 1) / 2}
    assert pids(client) == before
    until(lambda: sum(figure or 0 for figure in metric(client, "spilled_bytes")) > 2 * LIMIT, "a report of spilling")
    for position in range(0, count, count // 10):
        value = blocks[position].result(timeout=20)
        assert value[0] == (position % 256 if block is bytes_block else position)
        assert len(value) == (size if block is bytes_block else size // 8)


def test_the_files_of_spilled_values_go_with_the_values(client: Client) -> None:
    blocks = client.map(bytes_block, range(500), [MIB] * 500, pure=False)
    wait(blocks, timeout=60)
    folders = [nanny.worker_dir for nanny in client.cluster.workers.values()]
    count_files = lambda: sum(len(files) for folder in folders for _, _, files in os.walk(folder))  # noqa: E731
    assert count_files() > 100
    del blocks
    until(lambda: count_files() <= 4, "the end of the files")


def hog(nbytes: int, gate: Gate) -> int:
    content = bytearray(nbytes)
    for position in range(0, nbytes, 4096):
        content[position] = 1
    gate.pass_through()
    return len(content)


def fill_to(fraction: float, gate: Gate) -> int:
    """Take memory until the process uses this fraction of the limit."""
    content = bytearray()
    while process_memory() < fraction * LIMIT:
        content += b"x" * MIB
    gate.pass_through()
    return len(content)


def test_a_task_that_needs_more_than_the_limit_is_killed_and_told_why(client: Client, gate: Gate) -> None:
    before = pids(client)
    bystanders = client.map(bytes_block, range(20), [MIB] * 20, pure=False)
    future = client.submit(hog, 2 * LIMIT, gate, pure=False)
    with pytest.raises(KilledWorker, match="memory limit") as caught:
        future.result(timeout=60)
    assert f"of {LIMIT} bytes" in str(caught.value)
    assert [value[0] for value in client.gather(bystanders)] == list(range(20))
    until(lambda: None not in pids(client), "the return of the workers")
    assert pids(client) != before


def test_a_worker_that_pauses_gives_back_what_it_has_not_started_and_resumes(client: Client, gate: Gate) -> None:
    members = client.cluster.scheduler.members
    until(lambda: len(members.workers) == 2, "both workers")
    first, second = members.workers.values()
    before = pids(client)
    hungry = client.submit(fill_to, 0.87, gate, workers=[first.address], pure=False)
    # Sent to the first, which cannot take them while the hungry task executes.
    small = client.map(
        bytes_block, range(50), [10_000] * 50, workers=[first.address], allow_other_workers=True, pure=False
    )
    until(lambda: first.status == "paused", "the pause")
    assert [value[0] for value in client.gather(small)] == list(range(50))
    assert not client.cluster.scheduler.core.processing(first.number)[1:]
    late = client.submit(bytes_block, 1, 10_000, pure=False)
    assert late.result(timeout=20) == bytes_block(1, 10_000)
    gate.open()
    assert hungry.result(timeout=20) > 0
    until(lambda: first.status == "running", "the end of the pause")
    assert client.submit(bytes_block, 2, 10, workers=[first.address], pure=False).result(timeout=20) == b"\2" * 10
    assert pids(client) == before and second.status == "running"


def fill_the_disk() -> None:
    """Make every write of a spilled value fail, as on a full disk."""
    from fastdist.worker import spill

    def write_nothing(descriptor: int, view: memoryview) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spill._kept_write_all = spill._write_all  # type: ignore[attr-defined]
    spill._write_all = write_nothing


def empty_the_disk() -> None:
    """Undo `fill_the_disk`."""
    from fastdist.worker import spill

    spill._write_all = spill._kept_write_all  # type: ignore[attr-defined]


def test_a_full_disk_loses_nothing(client: Client) -> None:
    until(lambda: len(client.cluster.scheduler.members.workers) == 2, "both workers")
    before = pids(client)
    client.run(fill_the_disk)
    try:
        # More than the target of 60 %, and less than what makes the worker stop.
        blocks = client.map(bytes_block, range(240), [MIB] * 240, pure=False)
        wait(blocks, timeout=60)
        assert [value[0] for value in client.gather(blocks)] == [number % 256 for number in range(240)]
        assert client.submit(len, b"four", pure=False).result(timeout=20) == 4
    finally:
        client.run(empty_the_disk)
    assert pids(client) == before
