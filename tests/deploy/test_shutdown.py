"""However a program ends, nothing of its cluster is left, and nothing is said about it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import fastdist

ROOT = os.path.dirname(os.path.dirname(fastdist.__file__))

#: Scripts have no `__main__` guard, as people write them.
START = """
import os, signal, sys, time
from fastdist.client import Client
client = Client(n_workers=2, threads_per_worker=1)
print(*[nanny.pid for nanny in client.cluster.workers.values()], flush=True)
assert client.submit(lambda x: x + 1, 1).result() == 2
"""
WAIT = """
print("ready", flush=True)
time.sleep(60)
"""
BUSY_IN_PYTHON = """
def spin():
    while True:
        pass
futures = [client.submit(spin, key=f"spin-{i}") for i in range(2)]
time.sleep(0.2)
"""
HOLDING_THE_GIL = """
def hold():
    import sys
    sys.setswitchinterval(1e6)
    while True:
        pass
futures = [client.submit(hold, key=f"hold-{i}") for i in range(2)]
time.sleep(0.2)
"""


class Program:
    """A script in a process of its own, with a temporary folder of its own."""

    def __init__(self, folder: Path, text: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        script = folder / "script.py"
        script.write_text(textwrap.dedent(text))
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            env={
                **os.environ,
                "TMPDIR": str(self.temporary),
                "PYTHONPATH": ROOT,
                "XDG_CONFIG_HOME": str(folder),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.workers: list[psutil.Process] = []

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def learn_workers(self) -> None:
        """Read the process ids that the script prints first."""
        for pid in self.line().split():
            # A worker that ended before this look is what the tests want anyway.
            try:
                self.workers.append(psutil.Process(int(pid)))
            except psutil.NoSuchProcess:
                continue

    def wait_until_ready(self) -> None:
        assert self.line() == "ready\n"

    def end(self, within: float = 10.0) -> str:
        """Wait for the end and check that nothing is left; returns what was written to stderr."""
        _, errors = self.process.communicate(timeout=within)
        self.assert_nothing_left(0.0)
        return errors

    def assert_nothing_left(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        for worker in self.workers:
            wait_for_end(worker, deadline - time.monotonic())
        assert [worker for worker in self.workers if runs(worker)] == []
        assert [str(path) for path in self.temporary.rglob("*")] == []


Start = Callable[[str], Program]


def runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def wait_for_end(process: psutil.Process, seconds: float) -> None:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [], max(0.0, seconds))
    finally:
        os.close(descriptor)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program; it is killed, with all it started, when the test ends."""
    programs: list[Program] = []

    def start_one(text: str) -> Program:
        program = Program(tmp_path, text)
        programs.append(program)
        program.learn_workers()
        return program

    yield start_one
    for program in programs:
        program.process.kill()
        program.process.communicate()
        for worker in program.workers:
            if runs(worker):
                worker.kill()


def test_after_close(start: Start) -> None:
    program = start(START + "client.close()\nassert not client.cluster.workers\n")
    assert program.end() == ""
    assert program.process.returncode == 0


def test_at_the_end_of_the_interpreter_without_close(start: Start) -> None:
    program = start(START)
    assert program.end() == ""
    assert program.process.returncode == 0


def test_with_a_cluster_and_no_client(start: Start) -> None:
    program = start(
        """
        from fastdist.deploy import LocalCluster
        cluster = LocalCluster(n_workers=2, threads_per_worker=1)
        print(*[nanny.pid for nanny in cluster.workers.values()], flush=True)
        """
    )
    assert program.end() == ""
    assert program.process.returncode == 0


def test_while_tasks_are_executing(start: Start) -> None:
    program = start(START + BUSY_IN_PYTHON + "client.close()\n")
    assert program.end() == ""
    assert program.process.returncode == 0


def test_after_sys_exit(start: Start) -> None:
    program = start(START + "sys.exit(3)\n")
    assert program.end() == ""
    assert program.process.returncode == 3


def test_after_an_exception_in_the_with_block(start: Start) -> None:
    program = start(START + "with client:\n    raise KeyError('of the user')\n")
    errors = program.end()
    assert errors.startswith("Traceback (most recent call last):")
    assert errors.endswith("KeyError: 'of the user'\n")
    assert errors.count("Traceback") == 1
    assert program.process.returncode == 1


@pytest.mark.parametrize("block", ["with client:\n    ", ""], ids=["in a with block", "without one"])
def test_after_ctrl_c(start: Start, block: str) -> None:
    program = start(START + f"print('ready', flush=True)\n{block}time.sleep(60)\n")
    program.wait_until_ready()
    # As a terminal does: the whole foreground group of processes.
    os.killpg(program.process.pid, signal.SIGINT)
    errors = program.end()
    assert errors.endswith("KeyboardInterrupt\n")
    assert errors.count("Traceback") == 1
    assert program.process.returncode == -signal.SIGINT


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.06, 0.1, 0.15, 0.2])
def test_after_ctrl_c_while_the_cluster_starts(start: Start, delay: float) -> None:
    program = start(
        """
        from fastdist.deploy import LocalCluster
        print(flush=True)
        print("ready", flush=True)
        cluster = LocalCluster(n_workers=2, threads_per_worker=1)
        import time
        time.sleep(60)
        """
    )
    program.wait_until_ready()
    time.sleep(delay)
    children = psutil.Process(program.process.pid).children()
    os.killpg(program.process.pid, signal.SIGINT)
    errors = program.end()
    assert errors.endswith("KeyboardInterrupt\n")
    assert errors.count("Traceback") == 1
    assert not [child for child in children if runs(child)]


def test_after_ctrl_c_that_the_program_catches(start: Start) -> None:
    waiting = "    try:\n        print('ready', flush=True); time.sleep(60)\n"
    waiting += "    except KeyboardInterrupt:\n        pass\n"
    program = start(START + "with client:\n" + waiting)
    program.wait_until_ready()
    os.killpg(program.process.pid, signal.SIGINT)
    assert program.end() == ""
    assert program.process.returncode == 0


def test_after_ctrl_c_while_waiting_for_a_result(start: Start) -> None:
    program = start(START + BUSY_IN_PYTHON + "print('ready', flush=True)\nfutures[0].result()\n")
    program.wait_until_ready()
    os.killpg(program.process.pid, signal.SIGINT)
    errors = program.end()
    assert errors.endswith("KeyboardInterrupt\n")
    assert errors.count("Traceback") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("work", ["", BUSY_IN_PYTHON, HOLDING_THE_GIL], ids=["idle", "busy", "GIL"])
def test_after_the_program_was_killed(start: Start, number: int, work: str) -> None:
    program = start(START + work + WAIT)
    program.wait_until_ready()
    program.process.send_signal(number)
    # The pipe of stderr ends when the last process that holds it does.
    _, errors = program.process.communicate(timeout=10)
    assert errors == ""
    program.assert_nothing_left(2.0)


def test_tasks_that_use_multiprocessing_leave_nothing(start: Start) -> None:
    program = start(
        START
        + """
def pool(method):
    import multiprocessing
    with multiprocessing.get_context(method).Pool(2) as processes:
        return processes.map(abs, [-1, -2])
assert client.submit(pool, "fork").result() == [1, 2]
assert client.submit(pool, "spawn").result() == [1, 2]
def orphan():
    import subprocess
    return subprocess.Popen(["sleep", "60"]).pid
print(client.submit(orphan).result(), flush=True)
client.close()
"""
    )
    program.learn_workers()
    _, errors = program.process.communicate(timeout=20)
    assert errors == ""
    program.assert_nothing_left(2.0)
    assert program.process.returncode == 0


def test_a_fork_of_the_program_ends_without_disturbing_it(start: Start) -> None:
    program = start(
        START
        + """
child = os.fork()
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert client.submit(lambda x: x + 1, 2).result() == 3
client.close()
"""
    )
    assert program.end() == ""
    assert program.process.returncode == 0


def test_a_client_in_one_process(start: Start) -> None:
    program = start(
        """
        print(flush=True)
        from fastdist.client import Client
        client = Client(processes=False)
        assert client.submit(lambda x: x + 1, 1).result() == 2
        """
    )
    assert program.end() == ""
    assert program.process.returncode == 0
