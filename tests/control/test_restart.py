"""Restarting workers through their nannies, functions on nannies, waiting for workers; with processes.

May import: fastdist, pytest, the standard library.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from fastdist import Client, LocalCluster
from fastdist.errors import FutureCancelledError, WorkerStartTimeoutError


def pids(client: Client) -> dict[str, int]:
    return client.run(os.getpid)


def test_functions_run_in_the_nannies_by_the_addresses_of_their_workers(process_client: Client) -> None:
    in_workers, in_nannies = pids(process_client), process_client.run(os.getpid, nanny=True)
    assert set(in_nannies) == set(in_workers)
    # Those of a LocalCluster live where it does.
    assert set(in_nannies.values()) == {os.getpid()}
    types = process_client.run(lambda dask_worker: type(dask_worker).__name__, nanny=True)
    assert set(types.values()) == {"Nanny"}


def test_errors_of_functions_are_raised_returned_or_ignored(process_client: Client) -> None:
    address = next(iter(pids(process_client)))

    def fails_on_one(dask_worker: Any) -> str:
        if dask_worker.address == address:
            raise KeyError("this one")
        return "fine"

    with pytest.raises(KeyError, match="this one"):
        process_client.run(fails_on_one)
    returned = process_client.run(fails_on_one, on_error="return")
    assert isinstance(returned[address], KeyError)
    assert sorted(map(str, returned.values())) == ["'this one'", "fine"]
    assert list(process_client.run(fails_on_one, on_error="ignore").values()) == ["fine"]
    with pytest.raises(ValueError, match="on_error"):
        process_client.run(fails_on_one, on_error="nonsense")


def test_restarted_workers_are_other_processes_and_lost_data_is_computed_again(process_client: Client) -> None:
    before = pids(process_client)
    name = next(iter(process_client.scheduler_info()["workers"].values()))["name"]
    futures = process_client.map(str, range(10))
    process_client.gather(futures)
    assert process_client.restart_workers([name]) == {name: "OK"}
    after = pids(process_client)
    assert len(after) == 2
    assert len(set(after.values()) & set(before.values())) == 1
    assert process_client.gather(futures) == [str(number) for number in range(10)]


def test_only_workers_that_exist_can_be_restarted(process_client: Client) -> None:
    with pytest.raises(ValueError, match="there are no workers"):
        process_client.restart_workers(["nobody"])


def test_restart_cancels_everything_and_all_processes_are_new(process_cluster: LocalCluster) -> None:
    with Client(process_cluster) as one, Client(process_cluster) as two:
        before = pids(one)
        finished, scattered = one.submit(str, 1), one.scatter([2])
        endless = two.submit(time.sleep, 60)
        assert finished.result() == "1"
        start = time.monotonic()
        assert one.restart() is None
        assert time.monotonic() - start < 15
        assert not set(pids(one).values()) & set(before.values())
        for future in (finished, *scattered, endless):
            assert future.status == "cancelled"
            with pytest.raises(FutureCancelledError, match="scheduler-restart"):
                future.result()
        assert one.submit(str, 1).result() == "1"
        assert two.submit(str, 3).result() == "3"


def test_restart_reports_workers_that_are_not_back_in_time(process_cluster: LocalCluster) -> None:
    with Client(process_cluster) as client:
        with pytest.raises(TimeoutError):
            client.restart(timeout=0.01)
        client.wait_for_workers(2, timeout=20)
        assert client.submit(str, 4).result() == "4"


def test_without_nannies_restart_removes_the_workers_and_restart_workers_is_an_error() -> None:
    with LocalCluster(n_workers=2, processes=False) as cluster, Client(cluster) as client:
        address = next(iter(client.scheduler_info()["workers"]))
        with pytest.raises(ValueError, match="have no nanny"):
            client.restart_workers([address])
        future = client.submit(str, 1)
        client.restart(timeout=5)
        assert future.status == "cancelled"
        with pytest.raises(WorkerStartTimeoutError):
            client.wait_for_workers(1, timeout=0.1)


def test_waiting_for_workers_ends_when_they_are_there_or_the_time_is_over(client: Client) -> None:
    client.wait_for_workers(3)
    with pytest.raises(WorkerStartTimeoutError, match="Only 3 of 4"):
        client.wait_for_workers(4, timeout="20ms")
    with pytest.raises(ValueError, match="at least 1"):
        client.wait_for_workers(0)


def test_a_scheduler_file_is_written_once(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    client.write_scheduler_file(str(path))
    assert json.loads(path.read_text())["address"] == client.scheduler_address
    assert client.scheduler_file == str(path)
    with pytest.raises(ValueError, match="already set"):
        client.write_scheduler_file(str(path))
