"""Workers that die while they execute a task: what the user gets to know of it. May import: fastdist, tests."""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import signal
import sys
import time
from typing import Any

import pytest

from fastdist import Client
from fastdist.errors import KilledWorker, WorkerDeath
from fastdist.nanny.observation import MAX_LINE, MAX_LINES, LastWords
from tests.faults.waiting import Gate, tasks_of, until


def leave(code: int) -> None:
    print(f"leaving with {code}", file=sys.stderr, flush=True)
    os._exit(code)


def crash() -> None:
    ctypes.string_at(0)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def eat(megabytes: int) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1)) * (1 << 20))
        if len(eaten) > megabytes:
            time.sleep(1000)


def double(number: int) -> int:
    return 2 * number


def executions(gate: Gate, name: str) -> str:
    gate.pass_through(name)
    return name


def error_of(client: Client, function: Any, *args: Any) -> KilledWorker:
    workers = client.cluster.scheduler.members.workers
    until(lambda: len(workers) == len(client.cluster.workers), "all workers")
    error = client.submit(function, *args, key=function.__name__, pure=False).exception(timeout=60)
    assert isinstance(error, KilledWorker)
    assert len(error.deaths) == 4
    assert len({death.attempt for death in error.deaths}) == 4
    for death in error.deaths:
        assert death.executing == [function.__name__]
        assert death.when is not None and abs(death.when - time.time()) < 60
    return error


def test_an_exit(processes: Client) -> None:
    error = error_of(processes, leave, 3)
    for death in error.deaths:
        assert (death.exit_code, death.signal, death.out_of_memory, death.stack) == (3, None, None, [])
        assert death.how == "its process ended with exit code 3"
        assert death.stderr[-1] == "leaving with 3"
        assert death.peak_memory is not None and 10 << 20 < death.peak_memory < 1 << 30
    first, last = error.deaths[0], error.deaths[-1]
    lines = str(error).splitlines()
    assert lines[0] == (
        f"task 'leave' was executing on 4 workers that died, the last one at {last.worker} (its process ended with "
        "exit code 3); it is not tried again"
    )
    assert lines[1].startswith(f"  1. {first.worker}: its process ended with exit code 3; it took ")
    assert "leaving with 3" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.deaths[0].stderr == first.stderr


def test_a_crash_with_its_stack(processes: Client) -> None:
    for death in error_of(processes, crash).deaths:
        assert (death.exit_code, death.signal) == (None, signal.SIGSEGV)
        assert death.how == "its process ended with signal 11 (SIGSEGV)"
        assert death.stack[0] == "Fatal Python error: Segmentation fault"
        assert any("in crash" in line for line in death.stack)
        assert "in crash" in str(death)


def test_a_kill(processes: Client) -> None:
    for death in error_of(processes, kill_itself).deaths:
        assert (death.exit_code, death.signal) == (None, signal.SIGKILL)
        assert death.how.startswith("its process ended with signal 9 (SIGKILL)")


def test_200_tasks_behind_a_killer_all_succeed(processes: Client) -> None:
    killer = processes.submit(leave, 4, key="killer", priority=10)
    behind = processes.map(double, range(200), pure=False)
    assert processes.gather(behind) == [2 * i for i in range(200)]
    assert isinstance(killer.exception(timeout=60), KilledWorker)


def leave_once(gate: Gate) -> str:
    if gate.arrive("killer") == 0:
        gate.wait_for(1, "beside")
        os._exit(5)
    return "spared"


def test_who_executes_beside_a_killer_is_named_and_started_again(gate: Gate) -> None:
    with Client(n_workers=1, threads_per_worker=2, silence_logs=logging.CRITICAL) as client:
        beside = client.submit(executions, gate, "beside", key="beside")
        killer = client.submit(leave_once, gate, key="killer")
        assert killer.result(timeout=30) == "spared"
        (death,) = client.cluster.scheduler.core.deaths.of(_id(client, "beside"))
        assert sorted(death["executing"]) == ["beside", "killer"] and death["exit_code"] == 5
        gate.open()
        assert beside.result(timeout=30) == "beside"


def _id(client: Client, key: str) -> int:
    return next(view["id"] for view in tasks_of(client) if view["key"] == key)


def test_a_memory_limit() -> None:
    limit = 250 << 20
    with Client(
        n_workers=1, threads_per_worker=1, memory_limit=limit, silence_logs=logging.CRITICAL
    ) as client:
        for death in error_of(client, eat, 400).deaths:
            assert death.signal == signal.SIGKILL and death.memory_limit == limit
            assert death.how.startswith("killed by the nanny: it used ")
            assert death.peak_memory is not None and death.peak_memory > 0.9 * limit


def test_a_cluster_that_shrinks_blames_nobody(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    # What executes on a worker that goes is not waited for long.
    monkeypatch.setattr("fastdist.deploy.spec.LEAVE_TIMEOUT", 0.3)
    with Client(n_workers=2, threads_per_worker=1, silence_logs=logging.CRITICAL) as client:
        futures = [client.submit(executions, gate, f"held-{i}", key=f"held-{i}") for i in range(2)]
        for i in range(2):
            gate.wait_for(1, f"held-{i}")
        client.cluster.scale(1)
        until(lambda: len(client.cluster.scheduler.members.workers) == 1, "one worker less", 60)
        gate.open()
        assert client.gather(futures) == ["held-0", "held-1"]
        assert {view["suspicious"] for view in tasks_of(client)} == {0}


def test_last_words_are_bounded() -> None:
    words = LastWords()
    words.add(b"x" * 10_000_000)
    for number in range(3 * MAX_LINES):
        words.add(f"line {number}\n".encode())
    words.add(b"\xff unended")
    words.end()
    assert len(words.lines) == MAX_LINES and max(map(len, words.lines)) <= MAX_LINE
    assert words.lines[-1] == "\ufffd unended"


def test_the_stack_of_a_crash_is_that_of_its_thread() -> None:
    words = LastWords()
    words.add(
        b"hello\nFatal Python error: Aborted\n\nThread 0x1 (most recent call first):\n  File a.py, line 1 in other\n\n"
        b"Current thread 0x2 (most recent call first):\n  File b.py, line 2 in culprit\n\nExtension modules: c\n"
    )
    assert words.stack == [
        "Fatal Python error: Aborted",
        "  File b.py, line 2 in culprit",
    ]


def test_a_death_says_what_is_known_and_no_more() -> None:
    assert str(WorkerDeath("tcp://a:1", "gone")) == "tcp://a:1: gone"
    full = WorkerDeath(
        "tcp://a:1", "gone", peak_memory=3 << 20, memory_limit=4 << 20, executing=["x", "y"], stderr=["last"]
    )
    assert str(full) == (
        "tcp://a:1: gone; it took 3 MiB of memory at most, the limit is 4 MiB; 1 other task executed there\n    last"
    )
