"""The daemons as a user starts them: addresses, tokens, files, and a good end."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import fastdist
from fastdist.client import Client

ROOT = os.path.dirname(os.path.dirname(fastdist.__file__))


class Daemon:
    """A daemon in a process of its own; its log is read line by line."""

    def __init__(self, module: str, folder: Path, *arguments: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"fastdist.cli.{module}", *arguments],
            env={**os.environ, "PYTHONPATH": ROOT, "TMPDIR": str(self.temporary)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, words: str) -> str:
        """The first line with these words; the text after them."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if words in line:
                return line.partition(words)[2].strip()
        raise AssertionError(f"{words!r} was never logged; the log is:\n{''.join(self.lines)}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait; returns the exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=20)
        return self.process.returncode


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    daemons: list[Daemon] = []

    def start_one(module: str, *arguments: str) -> Daemon:
        daemons.append(Daemon(module, tmp_path, *arguments))
        return daemons[-1]

    yield start_one
    for daemon in daemons:
        daemon.process.kill()
        daemon.process.communicate()
    assert [str(path) for path in (tmp_path / "tmp").rglob("*")] == []


def start_scheduler(start: Callable[..., Daemon], *arguments: str) -> tuple[Daemon, str]:
    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", *arguments)
    return scheduler, scheduler.wait_for("Scheduler at:")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("nanny", ["--nanny", "--no-nanny"])
def test_daemons_serve_a_client_and_end_well_when_told(
    start: Callable[..., Daemon], nanny: str, number: int
) -> None:
    scheduler, address = start_scheduler(start)
    worker = start("worker", address, "--nthreads", "1", nanny)
    assert worker.wait_for("Start worker at:").startswith("tcp://127.0.0.1:")
    assert worker.wait_for("Registered to:") == address
    children = psutil.Process(worker.process.pid).children()
    assert len(children) == (1 if nanny == "--nanny" else 0)
    with Client(address) as client:
        assert client.submit(len, "four").result(timeout=20) == 4
    assert worker.stop(number) == 0
    assert scheduler.stop(number) == 0
    assert not [child for child in children if child.is_running()]


def test_workers_end_with_their_scheduler(start: Callable[..., Daemon]) -> None:
    scheduler, address = start_scheduler(start)
    worker = start("worker", address, "--nthreads", "1", "--nworkers", "2")
    worker.wait_for("Registered to:")
    worker.wait_for("Registered to:")
    assert scheduler.stop() == 0
    worker.process.communicate(timeout=20)
    assert worker.process.returncode == 0


def test_the_scheduler_file_is_private_and_found_by_workers_and_gone_at_the_end(
    start: Callable[..., Daemon], tmp_path: Path
) -> None:
    file, pid_file = tmp_path / "scheduler.json", tmp_path / "pid"
    scheduler, address = start_scheduler(start, "--scheduler-file", str(file), "--pid-file", str(pid_file))
    assert json.loads(file.read_text())["address"] == address
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert int(pid_file.read_text()) == scheduler.process.pid
    worker = start("worker", "--scheduler-file", str(file), "--nthreads", "1", "--name", "7")
    worker.wait_for("Registered to:")
    with Client(scheduler_file=str(file)) as client:
        (info,) = client.scheduler_info()["workers"].values()
        assert info["name"] == 7
    assert worker.stop() == 0
    assert scheduler.stop() == 0
    assert not file.exists()
    assert not pid_file.exists()


def test_a_worker_waits_for_the_scheduler_file(start: Callable[..., Daemon], tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"address": ')  # half written
    worker = start("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny")
    scheduler, _ = start_scheduler(start, "--scheduler-file", str(file))
    worker.wait_for("Registered to:")
    assert worker.stop() == 0
    assert scheduler.stop() == 0


def test_another_token_is_refused_and_the_worker_says_so(
    start: Callable[..., Daemon], tmp_path: Path
) -> None:
    tokens = []
    for name in ("one", "other"):
        tokens.append(tmp_path / name)
        tokens[-1].write_text(os.urandom(32).hex())
        tokens[-1].chmod(0o600)
    scheduler, address = start_scheduler(start, "--token-file", str(tokens[0]))
    worker = start("worker", address, "--nthreads", "1", "--token-file", str(tokens[1]))
    _, log = worker.process.communicate(timeout=20)
    assert worker.process.returncode == 1
    assert "token" in log
    assert tokens[1].read_text() not in log
    assert "Traceback" not in log
    assert scheduler.stop() == 0


def test_insecure_daemons_need_no_token_and_say_so(start: Callable[..., Daemon]) -> None:
    scheduler, address = start_scheduler(start, "--insecure")
    assert any("insecure" in line for line in scheduler.lines)
    worker = start("worker", address, "--nthreads", "1", "--insecure")
    worker.wait_for("Registered to:")
    assert worker.stop() == 0
    assert scheduler.stop() == 0


def test_the_secret_is_never_logged(start: Callable[..., Daemon]) -> None:
    from fastdist.comm.token import find_token

    scheduler, address = start_scheduler(start)
    worker = start("worker", address, "--nthreads", "1")
    worker.wait_for("Registered to:")
    assert find_token().to_hex() not in "".join(scheduler.lines + worker.lines)
    assert worker.stop() == 0


def test_an_idle_scheduler_ends_by_itself(start: Callable[..., Daemon]) -> None:
    scheduler, _ = start_scheduler(start, "--idle-timeout", "50ms")
    scheduler.process.communicate(timeout=20)
    assert scheduler.process.returncode == 0


def test_a_port_in_use_is_an_error_that_names_it(start: Callable[..., Daemon]) -> None:
    _, address = start_scheduler(start)
    port = address.rpartition(":")[2]
    second = start("scheduler", "--host", "127.0.0.1", "--port", port)
    _, log = second.process.communicate(timeout=20)
    assert second.process.returncode == 1
    assert port in log
    assert "Traceback" not in log


def test_a_worker_gives_up_after_the_death_timeout(start: Callable[..., Daemon]) -> None:
    worker = start("worker", "tcp://127.0.0.1:1", "--nthreads", "1", "--death-timeout", "100ms")
    _, log = worker.process.communicate(timeout=20)
    assert worker.process.returncode == 1
    assert "127.0.0.1:1" in log
    assert "Traceback" not in log


def test_a_worker_that_still_looks_for_its_scheduler_ends_when_told(start: Callable[..., Daemon]) -> None:
    worker = start("worker", "tcp://127.0.0.1:1", "--nthreads", "1")
    while not psutil.Process(worker.process.pid).children():
        os.sched_yield()
    assert worker.stop() == 0
