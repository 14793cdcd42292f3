"""Workers that nobody watches: their death is noticed by the connection. May import: fastdist, tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastdist import Client
from fastdist.errors import KilledWorker
from tests.faults.daemons import Daemons, workers_without_nannies
from tests.faults.waiting import Gate, until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Daemons]]:
    with workers_without_nannies(tmp_path_factory.mktemp("daemons"), 2) as pair:
        yield pair


@pytest.fixture(autouse=True)
def two_workers(cluster: tuple[Client, Daemons]) -> None:
    """Replace those that the last test killed."""
    _, daemons = cluster
    daemons.replace_dead()
    daemons.wait_for(2)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def block(number: int) -> bytes:
    return bytes([number % 256]) * 70_000


def first_bytes(*blocks: bytes) -> int:
    return sum(part[0] for part in blocks)


def pid_after(gate: Gate) -> int:
    gate.pass_through()
    return os.getpid()


def exit_at_once(gate: Gate) -> None:
    gate.arrive("try")
    os._exit(1)


def kill_a_worker(daemons: Daemons) -> None:
    """Kill one; the scheduler has noticed when this returns."""
    alive = [process for process in daemons.processes if process.poll() is None]
    alive[0].kill()
    daemons.wait_for(len(alive) - 1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_graph_completes_on_the_workers_that_are_left(
    cluster: tuple[Client, Daemons], share: float
) -> None:
    client, daemons = cluster
    core = client.cluster.scheduler.core
    blocks = client.map(block, range(200), pure=False)
    sums = [client.submit(first_bytes, *blocks[i : i + 5], pure=False) for i in range(0, 200, 5)]
    until(lambda: core.counts()["memory"] >= share * 200 or sums[-1].done(), "the place to kill at")
    kill_a_worker(daemons)
    assert sum(client.gather(sums)) == sum(range(200))
    assert [value[0] for value in client.gather(blocks)] == list(range(200))


def test_what_was_executing_is_executed_elsewhere(cluster: tuple[Client, Daemons], gate: Gate) -> None:
    client, _ = cluster
    future = client.submit(pid_after, gate, pure=False)
    gate.wait_for(1)
    core = client.cluster.scheduler.core
    (view,) = [view for view in core.tasks() if view["key"] == future.key]
    pid = client.cluster.scheduler.members.by_address[view["processing_on"]].pid
    os.kill(pid, signal.SIGKILL)
    gate.wait_for(2)
    gate.open()
    assert future.result(timeout=20) != pid
    (view,) = [view for view in core.tasks() if view["key"] == future.key]
    assert view["suspicious"] == 1


def test_a_killer_fails_and_those_behind_it_succeed(cluster: tuple[Client, Daemons], gate: Gate) -> None:
    client, daemons = cluster
    killer = client.submit(exit_at_once, gate, pure=False, priority=10)
    behind = client.map(block, range(200), pure=False)

    def all_done_on_fresh_workers() -> bool:
        daemons.replace_dead()
        return killer.done() and all(future.done() for future in behind)

    until(all_done_on_fresh_workers, "the end of all tasks")
    with pytest.raises(KilledWorker, match="4 workers that died"):
        killer.result()
    # Nobody can read what such a worker was executing: the scheduler presumes, and may miss the killer at times.
    assert gate.arrivals("try") >= 4
    assert [value[0] for value in client.gather(behind)] == list(range(200))
