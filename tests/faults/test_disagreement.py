"""A worker and the scheduler that do not agree on what the worker has: that is found and healed.

May import: fastdist, tests.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdist import Client, LocalCluster, config
from fastdist.scheduler import worker_handlers
from tests.faults.waiting import Gate, tasks_of, until


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        pytest.MonkeyPatch.context() as patch,
        config.set({"scheduler.heartbeat": "50ms"}),
        LocalCluster(n_workers=1, threads_per_worker=1, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster) as client,
    ):
        # What `forget` sends is not counted by the scheduler, so that digests are not compared after it.
        patch.setattr(worker_handlers, "PATIENCE", 0.3)
        yield client


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


def wait_at(gate: Gate, name: str) -> str:
    gate.pass_through(name)
    return name


def forget(task_id: int, dask_worker: Any) -> None:
    """As if the scheduler had sent FREE."""
    pieces = [struct.pack("<Q", dask_worker.core.epoch), struct.pack("<Q", task_id), b"", b""]
    table = struct.pack("<II", len(pieces), 1) + b"".join(struct.pack("<Q", len(piece)) for piece in pieces)
    body = table + b"".join(piece.ljust(-(-len(piece) // 8) * 8, b"\0") for piece in pieces)
    dask_worker.execution.drop_values(dask_worker.core.on_free(body, 0.0))


def keep_stray(task_id: int, dask_worker: Any) -> None:
    """Data of a task that nobody knows, and nobody is told of it."""
    dask_worker.store.put(task_id, "stray", 8)
    dask_worker.core.on_put(task_id, b"sstray", 8, 0, 0.0)
    dask_worker.core.take_done()


def holds(task_id: int, dask_worker: Any) -> bool:
    return task_id in dask_worker.store


def id_of(client: Client, key: str) -> int:
    # The submission may still be on its way.
    (found,) = until(lambda: [view["id"] for view in tasks_of(client) if view["key"] == key], "the task")
    return int(found)


def test_data_that_nobody_knows_is_freed(client: Client) -> None:
    stray = 12345 << 32 | 7
    client.run(keep_stray, stray)
    until(lambda: not any(client.run(holds, stray).values()), "the end of the stray data")


def test_data_that_a_worker_lost_is_computed_again(client: Client, gate: Gate) -> None:
    gate.open()
    future = client.submit(wait_at, gate, "data", pure=False)
    assert future.result(timeout=20) == "data"
    client.run(forget, id_of(client, future.key))
    until(lambda: gate.arrivals("data") == 2, "the second execution")
    assert client.submit(str.upper, future).result(timeout=20) == "DATA"


def test_a_task_that_a_worker_forgot_is_executed(client: Client, gate: Gate) -> None:
    first, second = (client.submit(wait_at, gate, name, pure=False) for name in ("first", "second"))
    gate.wait_for(1, "first")
    client.run(forget, id_of(client, second.key))
    gate.open()
    assert client.gather([first, second]) == ["first", "second"]
