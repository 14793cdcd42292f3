"""Records of executions: only while somebody asks. May import: fastdist, pytest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from fastdist import Client, LocalCluster, get_task_metadata, get_task_stream, wait


def test_the_stream_tells_when_and_where_tasks_executed(client: Client) -> None:
    before = time.time()
    with get_task_stream() as stream:
        futures = client.map(pow, range(5), [4] * 5)
        failed = client.submit(divmod, 1, 0)
        wait([*futures, failed])
    by_key = {record["key"]: record for record in stream.data}
    assert by_key.keys() == {future.key for future in [*futures, failed]}
    record = by_key[futures[0].key]
    assert [record["worker"]] == client.who_has(futures[:1])[futures[0].key]
    assert (record["status"], record["typename"], record["nbytes"] > 0) == ("OK", "int", True)
    (compute,) = record["startstops"]
    assert compute["action"] == "compute"
    assert before <= compute["start"] <= compute["stop"] <= time.time()
    assert by_key[failed.key]["status"] == "error"


def test_records_are_selected_by_time_and_count(client: Client) -> None:
    assert client.get_task_stream() == []
    wait(client.submit(pow, 5, 2))
    middle = time.time()
    futures = [client.submit(pow, 5, n) for n in (3, 4)]
    wait(futures[0])
    wait(futures[1])
    assert len(client.get_task_stream()) == 3
    assert len(client.get_task_stream(stop=middle)) == 1
    assert {each["key"] for each in client.get_task_stream(start=middle)} == {each.key for each in futures}
    assert len(client.get_task_stream(count=1)) == 1
    assert len(client.get_task_stream(start="1 hour")) == 3
    with pytest.raises(ValueError, match="plot"):
        client.get_task_stream(filename="x.html")


def test_nothing_is_written_down_when_nobody_asks(
    cluster: LocalCluster, client: Client, eventually: Callable[..., Any]
) -> None:
    workers = list(cluster.workers.values())
    assert eventually(lambda: all(worker.execution.recorder is None for worker in workers))
    with Client(cluster, set_as_default=False) as curious:
        curious.get_task_stream()
        assert all(worker.execution.recorder is not None for worker in workers)
    assert eventually(lambda: all(worker.execution.recorder is None for worker in workers))


def test_metadata_of_tasks_that_ran_inside(client: Client) -> None:
    outside = client.submit(pow, 6, 2)
    wait(outside)
    with get_task_metadata() as tasks:
        inside = client.submit(pow, 6, 3)
        failed = client.submit(divmod, 6, 0)
        wait([inside, failed])
    assert tasks.state == {inside.key: "memory", failed.key: "erred"}
    assert tasks.metadata == {inside.key: None, failed.key: None}


def test_an_asynchronous_client_collects_too(cluster: LocalCluster) -> None:
    async def main() -> None:
        async with Client(cluster.scheduler_address, asynchronous=True) as client:
            async with get_task_stream(client) as stream:
                future = client.submit(pow, 7, 2)
                await future
            assert [record["key"] for record in stream.data] == [future.key]

    asyncio.run(main())
