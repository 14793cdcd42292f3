"""Clients that close, that vanish, and that do not read. May import: fastdist, tests."""

from __future__ import annotations

import logging
import signal
import subprocess
from collections.abc import Callable, Iterator
from operator import add
from pathlib import Path

import pytest

from fastdist import Client, LocalCluster, config
from fastdist.comm.core import Limits, counters
from tests.faults.daemons import start_python
from tests.faults.waiting import Gate, until

N_FAILING, N_ADDED = 5000, 20_000
SLOW_LIMITS = Limits(high_water=64 << 10, max_queued_bytes=512 << 10)

CLIENT = """
import sys, threading
from pathlib import Path
from fastdist import Client
from fastdist.comm.token import Token
from fastdist.client import Client
from tests.faults.waiting import Gate
from tests.faults.test_clients import {function}

if __name__ == "__main__":
    with Client(sys.argv[1], token_file=sys.argv[2]) as client:
        held = {function}(client, Gate(Path(sys.argv[3])))
        print("submitted", flush=True)
        threading.Event().wait()
"""


def sum_after(gate: Gate, *numbers: int) -> int:
    gate.pass_through()
    return sum(numbers)


def fail_at_length(base: int, number: int) -> None:
    raise ValueError(f"{number} " + "x" * 3000)


def hold_a_few(client: Client, gate: Gate) -> list[object]:
    """Finished, executing and waiting tasks."""
    done = client.map(add, range(100), range(100))
    client.gather(done)
    first = client.submit(sum_after, gate, *done)
    return [done, first, client.submit(add, first, 1)]


def hold_many(client: Client, gate: Gate) -> list[object]:
    """Tasks that all end when the gate opens, and have much to tell: failures travel whatever the queue."""
    first = client.submit(sum_after, gate)
    failing = client.map(fail_at_length, [first] * N_FAILING, range(N_FAILING))
    return [first, failing, client.map(add, [first] * N_ADDED, range(N_ADDED))]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


@pytest.fixture
def make_cluster() -> Iterator[Callable[..., LocalCluster]]:
    clusters: list[LocalCluster] = []

    def make(grace: str, limits: Limits | None = None) -> LocalCluster:
        with config.set({"scheduler.client-grace": grace}):
            clusters.append(
                LocalCluster(
                    n_workers=1, threads_per_worker=2, processes=False, protocol="tcp",
                    silence_logs=logging.CRITICAL, scheduler_kwargs={"limits": limits},
                )
            )  # fmt: skip
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def start_client(tmp_path: Path, gate: Gate) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(cluster: LocalCluster, function: Callable[..., object]) -> subprocess.Popen[str]:
        token = tmp_path / "token"
        token.touch(0o600)
        token.write_text(cluster.token.to_hex())
        script = CLIENT.format(function=function.__name__)
        arguments = (cluster.scheduler_address, str(token), str(gate.folder))
        process = start_python("-c", script, *arguments, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "submitted\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate(timeout=20)


def test_a_client_that_closes_has_its_futures_released_at_once(
    make_cluster: Callable[..., LocalCluster], gate: Gate
) -> None:
    cluster = make_cluster("1h")
    core = cluster.scheduler.core
    client = Client(cluster)
    held = hold_a_few(client, gate)
    gate.wait_for(1)
    until(lambda: core.n_tasks() == 102, "all tasks")
    client.close()
    until(lambda: core.n_tasks() == 0, "the release of everything")
    gate.open()
    until(lambda: not cluster.workers[0].store, "the release of all data")
    assert held


def test_what_another_client_wants_stays_when_one_closes(
    make_cluster: Callable[..., LocalCluster], gate: Gate
) -> None:
    cluster = make_cluster("1h")
    with Client(cluster) as staying:
        kept = staying.submit(sum_after, gate, key="shared")
        leaving = Client(cluster)
        also = leaving.submit(sum_after, gate, key="shared")
        private = leaving.submit(sum_after, gate, 1, key="private")
        until(lambda: cluster.scheduler.core.n_tasks() == 2, "both tasks")
        leaving.close()
        until(lambda: cluster.scheduler.core.n_tasks() == 1, "the release of one task")
        gate.open()
        assert kept.result(timeout=20) == 0
        assert also.cancelled() and private.cancelled()


def test_a_client_that_is_killed_has_its_futures_released_after_the_grace(
    make_cluster: Callable[..., LocalCluster], start_client: Callable[..., subprocess.Popen[str]], gate: Gate
) -> None:
    cluster = make_cluster("300ms")
    core, members = cluster.scheduler.core, cluster.scheduler.members
    process = start_client(cluster, hold_a_few)
    until(lambda: core.n_tasks() == 102, "the tasks of the client")
    process.kill()
    until(lambda: not members.clients, "the loss of the client")
    # Noticed, and not yet given up.
    assert core.n_tasks() == 102 and core.next_deadline() is not None
    until(lambda: core.n_tasks() == 0, "the release of everything")
    gate.open()
    until(lambda: not cluster.workers[0].store, "the release of all data")
    assert core.next_deadline() is None


def test_a_client_that_does_not_read_is_dropped_before_it_costs_much_memory(
    make_cluster: Callable[..., LocalCluster], start_client: Callable[..., subprocess.Popen[str]], gate: Gate
) -> None:
    cluster = make_cluster("0s", SLOW_LIMITS)
    core, members = cluster.scheduler.core, cluster.scheduler.members
    process = start_client(cluster, hold_many)
    gate.wait_for(1)
    until(lambda: core.n_tasks() == 1 + N_FAILING + N_ADDED, "the tasks of the client")
    (entry,) = members.clients.values()
    before = counters["dropped-slow-peer"]
    process.send_signal(signal.SIGSTOP)
    most = [0]

    def is_dropped() -> bool:
        most[0] = max(most[0], entry.peer.comm.queued_bytes)
        return entry.number not in members.clients

    gate.open()
    with Client(cluster) as other:
        assert other.submit(add, 1, 2).result(timeout=30) == 3
        until(is_dropped, "the end of the client that does not read")
        assert other.submit(add, 2, 2).result(timeout=30) == 4
    assert counters["dropped-slow-peer"] == before + 1
    # The bound, and one frame; without a bound all the failures, 50 MB, would pile up.
    assert most[0] <= SLOW_LIMITS.max_queued_bytes + (32 << 20)
    until(lambda: core.n_tasks() == 0, "the release of everything")


def test_a_client_that_reads_slowly_gets_everything_in_the_end(
    make_cluster: Callable[..., LocalCluster], gate: Gate
) -> None:
    cluster = make_cluster("1h")
    with Client(cluster) as client:
        _, failing, sums = hold_many(client, gate)
        gate.open()
        assert client.gather(sums) == list(range(N_ADDED))
        assert str(failing[-1].exception(timeout=20)).startswith(f"{N_FAILING - 1} x")
