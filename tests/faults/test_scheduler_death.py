"""A scheduler with a journal is killed and started again: nobody notices but by the wait."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from operator import add
from pathlib import Path
from typing import Any

import pytest

from fastdist import Client, wait
from fastdist.errors import TaskLostError
from tests.faults.daemons import start_python
from tests.faults.waiting import Gate, until


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Restartable:
    """Daemons on one address; the scheduler keeps a journal, and may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.token = folder / "token"
        self.token.touch(0o600)
        self.token.write_text("ab" * 32)
        self.scheduler: subprocess.Popen[str] | None = None
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """A daemon."""
        log = (self.folder / f"{module}-{len(self.processes)}.log").open("w")
        with log:
            process = start_python(
                "-m", f"fastdist.cli.{module}", *arguments, "--token-file", str(self.token), stderr=log
            )
        self.processes.append(process)
        return process

    def start_scheduler(self) -> None:
        """The scheduler, on the address that it always has."""
        journal = str(self.folder / "journal")
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--journal", journal)

    def start_worker(self, *options: str) -> subprocess.Popen[str]:
        """A worker without a nanny."""
        return self.start("worker", self.address, "--nthreads", "1", "--no-nanny", *options)

    def kill_scheduler(self) -> None:
        """kill -9."""
        assert self.scheduler is not None
        self.scheduler.send_signal(signal.SIGKILL)
        self.scheduler.wait(20)

    def client(self) -> Client:
        """A client of the scheduler."""
        return Client(self.address, token_file=str(self.token))

    def stop(self) -> None:
        """End all daemons, and show their logs if the test failed."""
        for process in self.processes:
            process.kill()
            process.wait(20)
        for path in sorted(self.folder.glob("*.log")):
            print(f"--- {path.name}\n{path.read_text()}")


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Restartable]:
    daemons = Restartable(tmp_path)
    daemons.start_scheduler()
    yield daemons
    daemons.stop()


def test_what_was_submitted_before_the_scheduler_died_is_computed_after_it(daemons: Restartable) -> None:
    with daemons.client() as client:
        first = client.submit(add, 1, 2)
        futures = client.map(add, range(1000), [first] * 1000)
        total = client.submit(sum, futures)
        del futures
        assert client.ncores() == {}
        daemons.kill_scheduler()
        later = client.submit(add, 10, first)
        daemons.start_scheduler()
        daemons.start_worker()
        assert total.result(timeout=20) == sum(range(1000)) + 3000
        assert later.result(timeout=20) == 13


def test_a_scheduler_dies_twice(daemons: Restartable) -> None:
    with daemons.client() as client:
        futures = client.map(add, range(100), range(100))
        for _ in range(2):
            daemons.kill_scheduler()
            daemons.start_scheduler()
        futures += client.map(add, range(100), [1000] * 100)
        daemons.start_worker()
        assert client.gather(futures) == [2 * i for i in range(100)] + [1000 + i for i in range(100)]


def numbered(ledger: str, gate: Gate, number: int) -> int:
    """Write into the ledger that it begins and ends; wait for the gate if the number is odd."""
    note(ledger, f"begin {number}")
    if number % 2:
        gate.pass_through(number)
    note(ledger, f"end {number}")
    return number


def note(ledger: str, line: str) -> None:
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def test_nothing_that_a_worker_has_or_executes_is_executed_again(daemons: Restartable, tmp_path: Path) -> None:
    ledger, gate = str(tmp_path / "ledger"), Gate(tmp_path / "gate")
    for _ in range(2):
        daemons.start_worker()
    with daemons.client() as client:
        client.wait_for_workers(2)
        numbers = client.map(numbered, [ledger] * 40, [gate] * 40, range(40))
        total = client.submit(sum, numbers)
        until(lambda: len(list(gate.folder.glob("*"))) == 2, "two tasks at the gate")
        daemons.kill_scheduler()
        daemons.start_scheduler()
        later = client.submit(add, 1, total)
        gate.open()
        assert later.result(timeout=30) == sum(range(40)) + 1
        assert client.gather(numbers) == list(range(40))
        lines = Path(ledger).read_text().split("\n")
        assert sorted(lines) == sorted(["", *(f"{word} {n}" for word in ("begin", "end") for n in range(40))])


def boom(ledger: str, number: int) -> int:
    note(ledger, f"fail {number}")
    raise ValueError(f"task {number}")


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_a_scheduler_may_die_at_any_moment(daemons: Restartable, tmp_path: Path, pause: float) -> None:
    ledger, gate = str(tmp_path / "ledger"), Gate(tmp_path / "gate")
    gate.open()
    daemons.start_worker()
    with daemons.client() as client:
        client.wait_for_workers(1)
        layers = [client.map(numbered, [ledger] * 100, [gate] * 100, range(0, 200, 2))]
        for _ in range(5):
            layers.append(client.map(add, layers[-1], layers[-1]))
        failing = client.map(boom, [ledger] * 20, range(20))
        # The moment is what is tested, and any will do.
        time.sleep(pause)
        daemons.kill_scheduler()
        del layers[1:-1]
        daemons.start_scheduler()
        assert client.gather(layers[-1]) == [32 * number for number in range(0, 200, 2)]
        for number, future in enumerate(failing):
            with pytest.raises(ValueError, match=f"task {number}$"):
                future.result(timeout=30)
        begun = [line for line in Path(ledger).read_text().split("\n") if line.startswith("begin")]
        assert len(begun) == len(set(begun)) == 100


def test_what_was_lost_with_a_worker_meanwhile_is_computed_again_or_said_to_be_lost(
    daemons: Restartable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDIST_SCHEDULER__JOURNAL_SETTLE", "200ms")
    worker = daemons.start_worker()
    with daemons.client() as client:
        client.wait_for_workers(1)
        scattered = client.scatter(bytearray(100_000))
        made = client.submit(bytes, 100_000)
        wait([made])
        daemons.kill_scheduler()
        worker.kill()
        worker.wait(20)
        daemons.start_scheduler()
        daemons.start_worker()
        assert client.submit(len, made).result(timeout=30) == 100_000
        with pytest.raises(TaskLostError, match="lost"):
            client.submit(len, scattered).result(timeout=30)


def test_a_client_that_is_gone_with_the_scheduler_is_given_up(
    daemons: Restartable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDIST_SCHEDULER__CLIENT_GRACE", "300ms")
    daemons.kill_scheduler()
    daemons.start_scheduler()
    gone = daemons.client()
    future = gone.submit(add, 1, 2, key="left-behind")
    assert gone.ncores() == {}
    daemons.kill_scheduler()
    gone.close(timeout=0)
    del future
    daemons.start_scheduler()
    with daemons.client() as client:
        until(lambda: client.run_on_scheduler(n_tasks) == 0, "the end of the task that nobody wants")


def n_tasks(dask_scheduler: Any = None) -> int:
    return int(dask_scheduler.core.n_tasks())
