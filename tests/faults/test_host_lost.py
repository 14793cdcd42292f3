"""Hosts whose worker and nanny vanish together, as in a power cut. May import: fastdist, tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastdist import Client, LocalCluster, config
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.inspect import find, state_of
from fastdist.errors import KilledWorker
from fastdist.scheduler.hosts import HOST_LOST
from tests.faults.daemons import Daemons
from tests.faults.waiting import Gate, tasks_of, until

ALLOWED = 1


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Client, Daemons]]:
    """A cluster without workers, to which daemons with nannies are added."""
    quick = {"scheduler.frozen-timeout": 0.5, "scheduler.worker-grace": 0.5}
    with config.set({"scheduler.allowed-failures": ALLOWED, **quick}):
        cluster = LocalCluster(n_workers=0, processes=False, protocol="tcp", silence_logs=50)
    daemons = Daemons(cluster, tmp_path)
    try:
        with Client(cluster) as client:
            yield client, daemons
    finally:
        daemons.stop()
        cluster.close()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def cut_power(gate: Gate, nannies: list[int]) -> None:
    """Wait for the word, then end the nanny first: it must not get to tell."""
    assert os.getppid() in nannies
    count = gate.arrive("killer")
    until(lambda: (gate.folder / f"go-{count}").exists(), "the word")
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def held(gate: Gate) -> str:
    gate.pass_through()
    return "done"


def double(number: int) -> int:
    return 2 * number


def is_reported(client: Client, key: str) -> bool:
    """Whether the scheduler was told that a task has started."""

    async def look() -> bool:
        model = client.cluster.scheduler.core.model
        id = find(model, encode_key(key))
        return id is not None and bool(state_of(model, id)[2])

    return bool(client.cluster.sync(look))


def test_a_task_that_takes_its_host_down_fails_and_only_it(hosts: tuple[Client, Daemons], gate: Gate) -> None:
    """Whom to blame is certain once the workers have said what they started; before, it is presumed."""
    client, daemons = hosts
    started = [daemons.start_worker("--nanny") for _ in range(ALLOWED + 2)]
    daemons.wait_for(ALLOWED + 2)
    killer = client.submit(cut_power, gate, [process.pid for process in started], key="killer", priority=10)
    behind = client.map(double, range(200), pure=False)
    for count in range(ALLOWED + 1):
        gate.wait_for(count + 1, "killer")
        until(lambda: is_reported(client, "killer"), "the report")
        (gate.folder / f"go-{count}").touch()
    error = killer.exception(timeout=60)
    assert isinstance(error, KilledWorker)
    assert [death.how for death in error.deaths] == [HOST_LOST] * (ALLOWED + 1)
    assert all(death.executing == ["killer"] and death.when is not None for death in error.deaths)
    assert HOST_LOST in str(error)
    assert client.gather(behind) == [2 * i for i in range(200)]
    ends = sorted(str(process.poll()) for process in started)
    assert ends == sorted(["None", *[str(-signal.SIGKILL)] * (ALLOWED + 1)])


def test_a_host_that_is_taken_away_in_good_order_blames_nobody(hosts: tuple[Client, Daemons], gate: Gate) -> None:
    client, daemons = hosts
    first = daemons.start_worker("--nanny")
    daemons.wait_for(1)
    (nanny,) = [entry.nanny for entry in client.cluster.scheduler.members]
    future = client.submit(held, gate, key="held")
    gate.wait_for(1)
    daemons.start_worker("--nanny")
    daemons.wait_for(2)
    first.terminate()
    first.wait(timeout=30)
    gate.open()
    assert future.result(timeout=30) == "done"
    assert client.cluster.scheduler.extensions["nannies"].has_left(nanny)
    assert {view["suspicious"] for view in tasks_of(client)} == {0}


@pytest.mark.parametrize("whole_host", [True, False])
def test_silence_is_blamed_if_the_nanny_is_silent_too(
    hosts: tuple[Client, Daemons], gate: Gate, whole_host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody closes the connections of a host without power; a stopped worker alone is nobody's fault."""
    monkeypatch.setattr("fastdist.scheduler.hosts.ANSWER_SECONDS", 0.5)
    client, daemons = hosts
    scheduler = client.cluster.scheduler
    nanny = daemons.start_worker("--nanny")
    daemons.wait_for(1)
    (entry,) = list(scheduler.members)
    future = client.submit(held, gate, key="held")
    gate.wait_for(1)
    (view,) = tasks_of(client)
    stopped = [nanny.pid, entry.pid] if whole_host else [entry.pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: entry.number not in scheduler.members.workers, "the loss of the worker")
        until(lambda: not scheduler._workers.hosts._waits, "the answer of the nanny")
        deaths = scheduler.core.deaths.of(view["id"])
        assert [death["how"] for death in deaths] == ([HOST_LOST] if whole_host else [])
        daemons.start_worker("--nanny")
        gate.open()
        assert future.result(timeout=30) == "done"
    finally:
        os.kill(entry.pid, signal.SIGKILL)
