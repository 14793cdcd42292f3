"""What hurt when the product was used as by somebody new to it.

May import: the public names of fastdist, the standard library, pytest.
"""

from __future__ import annotations

import random
import threading

import pytest

from fastdist import Client, LocalCluster
from fastdist.client.submission import LARGE_ARGUMENT, bind_large, is_data


def test_a_large_argument_of_a_map_travels_once_and_is_the_argument_of_all(client: Client) -> None:
    table = {number: [number] * 3 for number in range(5_000)}
    futures = client.map(lambda x, table, y: len(table) + x + y, range(20), table=table, y=1)
    assert client.gather(futures) == [len(table) + x + 1 for x in range(20)]


def test_only_large_data_is_bound_to_the_function(client: Client) -> None:
    large, small = bytes(LARGE_ARGUMENT + 1), bytes(10)
    future = client.submit(abs, -1)
    kwargs = {"a": large, "b": small, "c": [future, large], "d": random.Random(1), "e": large.decode()}
    function, others = bind_large(dict, kwargs)
    assert set(others) == {"b", "c", "d"}
    assert function(**others) == kwargs


@pytest.mark.parametrize("value", [threading.Lock(), [object()] * 9, {"a": random.Random(1)}, len])
def test_what_tasks_may_want_to_change_is_no_data(value: object) -> None:
    assert not is_data(value)


def test_arrays_are_data_unless_they_hold_objects() -> None:
    numpy = pytest.importorskip("numpy")
    assert is_data([numpy.zeros(3)])
    assert not is_data(numpy.array([object()]))


def test_a_cluster_that_is_scaled_after_a_worker_was_retired_gets_all_of_its_workers() -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False) as cluster, Client(cluster) as client:
        client.retire_workers(list(client.scheduler_info()["workers"])[:1])
        cluster.scale(3)
        client.wait_for_workers(3, timeout=10)
        assert len(client.nthreads()) == 3


def test_workers_that_come_while_executions_are_recorded_record_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False) as cluster, Client(cluster) as client:
        client.get_task_stream()
        cluster.scale(2)
        client.wait_for_workers(2, timeout=10)
        name = sorted(worker["name"] for worker in client.scheduler_info()["workers"].values())[-1]
        client.submit(abs, -1, workers=[name], key="late").result(timeout=10)
        assert "late" in [record["key"] for record in client.get_task_stream()]
    assert not [record for record in caplog.records if "record-tasks" in record.getMessage()]
