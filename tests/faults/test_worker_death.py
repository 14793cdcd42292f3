"""Workers that are killed: the graph completes elsewhere, with the right result. May import: fastdist, tests."""

from __future__ import annotations

import logging
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastdist import Client
from fastdist.errors import KilledWorker
from tests.faults.waiting import Gate, until

N_ROUNDS = 12


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=3, threads_per_worker=1, silence_logs=logging.CRITICAL) as client:
        yield client


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def pids(client: Client) -> list[int]:
    return [nanny.pid for nanny in client.cluster.workers.values() if nanny.pid is not None]


def victim_of(client: Client, generator: random.Random) -> int:
    """Kill one of the workers that are registered."""
    workers = sorted(client.cluster.scheduler.members.workers.values(), key=lambda entry: str(entry.name))
    victim = generator.choice(workers)
    os.kill(victim.pid, signal.SIGKILL)
    return victim.pid


def whole_again(client: Client, count: int = 3) -> None:
    """Wait until all workers are back."""
    until(lambda: len(client.cluster.scheduler.members.workers) == count, "the return of all workers")


def double(number: int) -> int:
    return 2 * number


def pair_sum(first: int, second: int) -> int:
    return first + second


def grow(number: int) -> bytes:
    return bytes([number % 256]) * 70_000


def first_byte(*blocks: bytes) -> int:
    return sum(block[0] for block in blocks)


def tree(client: Client, count: int) -> tuple[object, int]:
    """A reduction in levels; its future and the right answer."""
    level = client.map(double, range(count), pure=False)
    while len(level) > 1:
        odd = level[len(level) // 2 * 2 :]
        level = client.map(pair_sum, level[0 : len(level) // 2 * 2 : 2], level[1::2], pure=False) + odd
    return level[0], count * (count - 1)


@pytest.mark.parametrize("seed", range(N_ROUNDS))
def test_a_graph_completes_when_a_worker_is_killed_anywhere_in_it(client: Client, seed: int) -> None:
    whole_again(client)
    generator = random.Random(seed)
    future, expected = tree(client, 2000)
    core = client.cluster.scheduler.core
    mark = generator.randrange(0, 2000)
    until(lambda: core.counts()["memory"] >= mark or future.done(), "the place to kill at")
    victim_of(client, generator)
    assert future.result(timeout=60) == expected


@pytest.mark.parametrize("seed", range(3))
def test_inputs_that_died_with_their_only_holder_are_computed_again(client: Client, seed: int) -> None:
    whole_again(client)
    blocks = client.map(grow, range(60), pure=False)
    for block in blocks:
        until(block.done, "a block")
    killed = victim_of(client, random.Random(seed))
    assert client.submit(first_byte, *blocks).result(timeout=60) == sum(range(60))
    assert client.gather(blocks)[59] == grow(59)
    assert killed not in pids(client)


def test_the_nanny_starts_the_worker_again(client: Client) -> None:
    whole_again(client)
    before = set(pids(client))
    killed = victim_of(client, random.Random(7))
    until(lambda: killed not in pids(client) and len(pids(client)) == 3, "another process")
    whole_again(client)
    assert len(set(pids(client)) & before) == 2
    assert client.gather(client.map(double, range(100), pure=False)) == [2 * i for i in range(100)]


def kill_own_process(number: int) -> None:
    os.kill(os.getpid(), number)


def exit_if(gate: Gate, deaths: int) -> int:
    before = gate.arrive("try")
    if before < deaths:
        os._exit(1)
    return before


@pytest.mark.parametrize("way", ["exit", "kill", "abort"])
def test_a_task_that_kills_its_worker_fails_and_only_it(client: Client, gate: Gate, way: str) -> None:
    whole_again(client)
    if way == "exit":
        killer = client.submit(exit_if, gate, 1000, pure=False)
    elif way == "kill":
        killer = client.submit(kill_own_process, signal.SIGKILL, pure=False)
    else:
        killer = client.submit(os.abort, pure=False)
    dependent = client.submit(double, killer)
    bystanders = client.map(double, range(200), pure=False)
    with pytest.raises(KilledWorker) as caught:
        killer.result(timeout=60)
    assert str(killer.key) in str(caught.value)
    assert {"exit": "exit code 1", "kill": "SIGKILL", "abort": "SIGABRT"}[way] in str(caught.value)
    assert isinstance(dependent.exception(timeout=20), KilledWorker)
    assert client.gather(bystanders) == [2 * i for i in range(200)]
    if way == "exit":
        # Three deaths are allowed.
        assert gate.arrivals("try") == 4


def test_a_task_that_kills_fewer_workers_than_allowed_succeeds(client: Client, gate: Gate) -> None:
    whole_again(client)
    assert client.submit(exit_if, gate, 3, pure=False).result(timeout=60) == 3


def test_who_waits_behind_a_killer_is_not_blamed(client: Client, gate: Gate) -> None:
    whole_again(client)
    core = client.cluster.scheduler.core
    killer = client.submit(exit_if, gate, 1000, pure=False, priority=10)
    behind = client.map(double, range(200), pure=False)
    assert isinstance(killer.exception(timeout=60), KilledWorker)
    assert client.gather(behind) == [2 * i for i in range(200)]
    keys = {future.key for future in behind}
    views = [view for view in core.tasks() if view["key"] in keys]
    assert len(views) == 200 and {view["suspicious"] for view in views} == {0}
