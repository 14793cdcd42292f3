"""`cancel(stop=...)` and `timeout=`, as users see them. May import: fastdist, pytest, the standard library."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from fastdist import Client, LocalCluster
from fastdist.errors import FutureCancelledError, TaskInterrupted, TaskTimeout


def spins(folder: str, name: str = "spins") -> None:
    """Leaves a file when it begins, and one that says what ended it."""
    Path(folder, name + "-began").touch()
    try:
        while True:
            time.sleep(0.001)
    except BaseException as error:
        Path(folder, name + "-ended").write_text(type(error).__name__)
        raise


def sleeps(folder: str) -> None:
    Path(folder, "sleeps-began").touch()
    time.sleep(60)


def pid_of_worker(x: int = 0) -> int:
    return os.getpid()


def waits_for(path: str, seconds: float = 20) -> int:
    Path(path + "-began").write_text(str(os.getpid()))
    deadline = time.monotonic() + seconds
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.002)
    return os.getpid()


def test_an_interrupt_ends_the_task_and_frees_its_thread(client: Client, tmp_path: Path, eventually: Any) -> None:
    future = client.submit(spins, str(tmp_path))
    assert eventually((tmp_path / "spins-began").exists)
    future.cancel(stop="interrupt")
    assert eventually((tmp_path / "spins-ended").exists)
    assert eventually((tmp_path / "spins-ended").read_text) == "TaskInterrupted"
    with pytest.raises(FutureCancelledError):
        future.result()
    assert len(set(client.gather(client.map(pid_of_worker, range(20))))) <= 2


def test_what_only_the_cancelled_task_needed_is_interrupted_too(
    client: Client, tmp_path: Path, eventually: Any
) -> None:
    upstream = client.submit(spins, str(tmp_path))
    future = client.submit(lambda x: x, upstream)
    upstream.release()
    del upstream
    assert eventually((tmp_path / "spins-began").exists)
    future.cancel(stop="interrupt")
    assert eventually((tmp_path / "spins-ended").exists)


def test_work_that_another_client_wants_is_not_stopped(
    client: Client, cluster: LocalCluster, tmp_path: Path, eventually: Any
) -> None:
    path = str(tmp_path / "go")
    with Client(cluster, set_as_default=False) as other:
        mine = client.submit(waits_for, path, key="shared-work")
        assert eventually(Path(path + "-began").exists)
        theirs = other.submit(waits_for, path, key="shared-work")
        assert eventually(lambda: "shared-work" in str(other.who_has([theirs])))
        for stop in ("interrupt", "kill"):
            client.cancel(mine, stop=stop)
        Path(path).touch()
        assert theirs.result(timeout=20) == int(Path(path + "-began").read_text())


def test_a_task_that_was_cancelled_before_can_be_stopped_later(
    client: Client, tmp_path: Path, eventually: Any
) -> None:
    future = client.submit(spins, str(tmp_path))
    assert eventually((tmp_path / "spins-began").exists)
    future.cancel()
    assert not (tmp_path / "spins-ended").exists()
    future.cancel(stop="interrupt")
    assert eventually((tmp_path / "spins-ended").exists)


def test_a_task_that_does_not_listen_is_killed_with_its_process(
    client: Client, tmp_path: Path, eventually: Any
) -> None:
    before = client.run(os.getpid)
    future = client.submit(sleeps, str(tmp_path))
    assert eventually((tmp_path / "sleeps-began").exists)
    (address,) = [address for address, keys in client.processing().items() if keys]
    bystander = client.submit(waits_for, str(tmp_path / "go"), workers=[address])
    future.cancel(stop="kill")
    assert eventually(lambda: address not in client.ncores())
    # It was to run in the process that is gone, and is free to run elsewhere only if nobody insists.
    bystander.cancel()
    client.wait_for_workers(2)
    after = client.run(os.getpid)
    assert len(set(after.values()) - set(before.values())) == 1


def test_tasks_beside_a_killed_one_start_over_without_blame(tmp_path: Path, eventually: Any) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=2) as cluster, Client(cluster) as client:
        cluster.scheduler.allowed_failures = 0
        bystander = client.submit(waits_for, str(tmp_path / "go"))
        future = client.submit(sleeps, str(tmp_path))
        assert eventually((tmp_path / "sleeps-began").exists)
        assert eventually(lambda: (tmp_path / "go-began").exists() and (tmp_path / "go-began").read_text() != "")
        first = (tmp_path / "go-began").read_text()
        future.cancel(stop="kill")
        assert eventually(lambda: (tmp_path / "go-began").read_text() not in ("", first))
        (tmp_path / "go").touch()
        assert bystander.result(timeout=20) != int(first)


def test_without_a_nanny_kill_says_that_it_cannot(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, eventually: Any
) -> None:
    path = str(tmp_path / "go")
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False) as cluster, Client(cluster) as client:
        future = client.submit(waits_for, path)
        assert eventually(Path(path + "-began").exists)
        with caplog.at_level(logging.WARNING, "fastdist.client"):
            future.cancel(stop="kill")
        Path(path).touch()
    assert "have no nanny, so their processes cannot be killed" in caplog.text


def test_a_timeout_gives_an_error_that_says_where_the_task_was(client: Client, tmp_path: Path) -> None:
    future = client.submit(spins, str(tmp_path), timeout="50 ms")
    with pytest.raises(TaskTimeout, match=r"executed for longer than its timeout of 0\.05 s; it was here:") as caught:
        future.result(timeout=20)
    assert "in spins" in caught.value.stack
    assert (tmp_path / "spins-ended").read_text() == "TaskInterrupted"
    assert caught.value.key == future.key


def test_a_timeout_counts_for_each_task_of_a_map_and_not_while_they_wait(client: Client) -> None:
    def dozes(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    futures = client.map(dozes, [0.0501 + i * 1e-6 for i in range(8)], timeout=5)
    assert len(client.gather(futures)) == 8


def test_a_timeout_is_a_failure_that_can_be_tried_again(client: Client, tmp_path: Path) -> None:
    def slow_once(folder: str) -> str:
        try:
            Path(folder, "was-here").touch(exist_ok=False)
        except FileExistsError:
            return "quick"
        while True:
            time.sleep(0.001)

    assert client.submit(slow_once, str(tmp_path), timeout=0.05, retries=1).result(timeout=20) == "quick"


def test_a_function_that_has_an_argument_timeout_gets_it(client: Client) -> None:
    assert client.submit(lambda timeout: timeout, timeout=0).result() == 0
    assert client.submit(lambda **options: options, timeout=3).result() == {"timeout": 3}


def test_an_annotation_limits_the_tasks_of_a_graph(client: Client, tmp_path: Path) -> None:
    dask = pytest.importorskip("dask")
    with dask.annotate(timeout=0.05):
        task = dask.delayed(spins)(str(tmp_path))
    with pytest.raises(TaskTimeout):
        client.compute(task).result(timeout=20)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "0 s"])
def test_a_timeout_that_is_no_time_is_refused_at_the_call(client: Client, timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout="):
        client.submit(pid_of_worker, 1, timeout=timeout)
    with pytest.raises(ValueError, match="timeout="):
        client.map(pid_of_worker, [1], timeout=timeout)


def test_a_way_to_stop_that_does_not_exist_is_refused_at_the_call(client: Client) -> None:
    future = client.submit(pid_of_worker, -1)
    with pytest.raises(ValueError, match="stop= must be None, 'interrupt' or 'kill', not 'please'"):
        client.cancel(future, stop="please")
    assert future.result() > 0


def test_an_interrupt_is_no_exception() -> None:
    assert not issubclass(TaskInterrupted, Exception)
