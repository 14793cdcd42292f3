"""The scheduler closes or dies: clients get an error, workers end, nobody hangs. May import: fastdist, tests."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from operator import add
from pathlib import Path

import pytest

from fastdist import Client, LocalCluster, as_completed
from fastdist.errors import ClosedClientError
from tests.faults.daemons import start_python
from tests.faults.waiting import Gate, until


def number_after(gate: Gate, number: int) -> int:
    gate.pass_through()
    return number


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    # Workers try to return for so long before they end.
    monkeypatch.setenv("FASTDIST_SCHEDULER__WORKER_GRACE", "1s")
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("ab" * 32)
    processes: list[subprocess.Popen[str]] = []

    def start_one(module: str, *arguments: str) -> subprocess.Popen[str]:
        processes.append(
            start_python("-m", f"fastdist.cli.{module}", *arguments, "--token-file", str(token))
        )
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.communicate(timeout=20)


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """The rest of the first line of a daemon's log that has these words."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return line.partition(words)[2].strip()
    raise AssertionError(f"{words!r} was never logged")


def started_scheduler(start: Callable[..., subprocess.Popen[str]]) -> tuple[subprocess.Popen[str], str]:
    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0")
    return scheduler, line_with(scheduler, "Scheduler at:")


@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
@pytest.mark.parametrize("way", ["kill", "terminate"])
def test_when_the_scheduler_ends_clients_get_an_error_and_workers_end(
    start: Callable[..., subprocess.Popen[str]], gate: Gate, tmp_path: Path, nanny: str, way: str
) -> None:
    scheduler, address = started_scheduler(start)
    worker = start("worker", address, "--nthreads", "1", nanny)
    line_with(worker, "Start worker at:")
    with Client(address, token_file=str(tmp_path / "token")) as client:
        assert client.submit(add, 1, 2).result(timeout=20) == 3
        pending = client.map(number_after, [gate] * 10, range(10))
        gate.wait_for(1)
        getattr(scheduler, way)()
        with pytest.raises(CancelledError, match="scheduler") as caught:
            pending[0].result(timeout=20)
        assert address in str(caught.value) or "closed" in str(caught.value)
        with pytest.raises(ClosedClientError):
            client.submit(add, 2, 2)
        assert len(list(as_completed(pending, timeout=20))) == 10
    gate.open()
    _, log = worker.communicate(timeout=20)
    assert worker.returncode == 0
    assert "scheduler" in log and "Traceback" not in log
    scheduler.communicate(timeout=20)
    assert scheduler.returncode == (-9 if way == "kill" else 0)


def test_all_who_wait_are_woken_when_the_scheduler_closes(gate: Gate) -> None:
    cluster = LocalCluster(n_workers=1, processes=False, protocol="tcp", silence_logs=logging.CRITICAL)
    client = Client(cluster)
    errors: list[BaseException] = []
    future = client.submit(number_after, gate, 1)

    def wait_for_it() -> None:
        try:
            future.result(timeout=20)
        except BaseException as error:
            errors.append(error)

    waiting = [threading.Thread(target=wait_for_it) for _ in range(4)]
    for thread in waiting:
        thread.start()
    gate.wait_for(1)
    cluster.close(timeout=1)
    for thread in waiting:
        thread.join(20)
    assert [type(error).__mro__[1] for error in errors] == [CancelledError] * 4
    assert future.cancelled()
    with pytest.raises(ClosedClientError):
        client.submit(add, 1, 1)
    client.close()


def test_the_workers_of_a_cluster_whose_scheduler_closed_end_by_themselves() -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, silence_logs=logging.CRITICAL) as cluster:
        pids = [nanny.pid for nanny in cluster.workers.values()]
        cluster._loop_thread.run(cluster.scheduler.close("the end of a test"))
        until(lambda: not any(nanny.is_alive() for nanny in cluster.workers.values()), "the end of the workers")
        assert all(pids)
