"""Workers whose connection breaks come back with what they have. May import: fastdist, tests."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdist import Client, LocalCluster, config
from fastdist.errors import CommClosedError
from tests.faults.waiting import Gate, tasks_of, until


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        config.set({"scheduler.frozen-timeout": 0.4}),
        LocalCluster(n_workers=2, threads_per_worker=1, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


def noted(gate: Gate, number: int) -> int:
    gate.arrive(f"noted-{number}")
    return number


def pid_after(gate: Gate) -> int:
    gate.pass_through()
    gate.arrive("passed")
    return os.getpid()


def raise_after(gate: Gate) -> None:
    gate.pass_through()
    gate.arrive("passed")
    raise LookupError("once only")


def entries(client: Client) -> list[Any]:
    return list(client.cluster.scheduler.members)


def attempts(client: Client, *keys: str) -> list[int]:
    """How often each task was given to a worker."""
    found = {view["key"]: view["attempt"] for view in tasks_of(client)}
    return [found[key] for key in keys]


def cut(client: Client) -> None:
    """Break the connections of all workers off, and wait until they are back."""
    peers = {entry.number: entry.peer for entry in entries(client)}

    def cut_all() -> None:
        for peer in peers.values():
            peer.abort(CommClosedError("the network broke"))

    client.cluster.loop.add_callback(cut_all)
    members = client.cluster.scheduler.members.workers
    until(
        lambda: all(members[number].peer is not peer and not members[number].away for number, peer in peers.items()),
        "the return of all",
    )
    assert set(members) == set(peers)


def test_data_is_kept_and_nothing_is_computed_again(client: Client, gate: Gate) -> None:
    futures = [client.submit(noted, gate, number, pure=False) for number in range(20)]
    total = client.submit(sum, futures, pure=False)
    assert total.result(timeout=20) == sum(range(20))
    cut(client)
    assert client.submit(sum, futures, pure=False).result(timeout=20) == sum(range(20))
    assert client.gather(futures) == list(range(20))
    assert [gate.arrivals(f"noted-{number}") for number in range(20)] == [1] * 20


def test_what_executes_goes_on_and_its_result_counts(client: Client, gate: Gate) -> None:
    future = client.submit(pid_after, gate, pure=False)
    gate.wait_for(1)
    before = attempts(client, future.key)
    cut(client)
    gate.open()
    assert future.result(timeout=20) in client.run(os.getpid).values()
    assert attempts(client, future.key) == before
    assert gate.arrivals() == 1


def test_what_ends_while_the_connection_is_broken_is_told_afterwards(client: Client, gate: Gate) -> None:
    scheduler = client.cluster.scheduler
    good, bad = client.submit(pid_after, gate, pure=False), client.submit(raise_after, gate, pure=False)
    gate.wait_for(2)
    before = attempts(client, good.key, bad.key)
    handler = scheduler._workers.register

    def refuse(peer: Any, fields: Any, buffers: Any) -> Any:
        raise TimeoutError("not yet")

    tables = [table for table in scheduler._tables.values() if "register-worker" in table]
    try:
        for table in tables:
            table["register-worker"] = refuse
        client.cluster.loop.add_callback(
            lambda: [entry.peer.abort(CommClosedError("the network broke")) for entry in entries(client)]
        )
        until(lambda: all(entry.away for entry in entries(client)), "the cut")
        gate.open()
        gate.wait_for(2, "passed")
    finally:
        for table in tables:
            table["register-worker"] = handler
    assert good.result(timeout=20)
    with pytest.raises(LookupError):
        bad.result(timeout=20)
    assert attempts(client, good.key, bad.key) == before


def test_tasks_go_on_under_one_cut_after_the_other(client: Client) -> None:
    futures = client.map(lambda number: number + 1, range(3000), pure=False)
    for _ in range(5):
        cut(client)
    assert client.gather(futures) == list(range(1, 3001))
    client.cluster.loop.add_callback(client.cluster.scheduler.core.validate)


def test_a_worker_that_was_stopped_goes_on_where_it_was(client: Client, gate: Gate) -> None:
    future = client.submit(pid_after, gate, pure=False)
    gate.wait_for(1)
    (view,) = [view for view in tasks_of(client) if view["key"] == future.key]
    entry = client.cluster.scheduler.members.by_address[view["processing_on"]]
    os.kill(entry.pid, signal.SIGSTOP)
    try:
        until(lambda: entry.away, "the end of its signs of life")
        gate.open()
    finally:
        os.kill(entry.pid, signal.SIGCONT)
    assert future.result(timeout=20) == entry.pid
    until(lambda: not entry.away, "its declaration")
    assert gate.arrivals() == 1


def test_a_process_that_was_killed_is_not_waited_for(client: Client, gate: Gate) -> None:
    future = client.submit(pid_after, gate, pure=False)
    gate.wait_for(1)
    (view,) = [view for view in tasks_of(client) if view["key"] == future.key]
    pid = client.cluster.scheduler.members.by_address[view["processing_on"]].pid
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    gate.wait_for(2)
    # The grace time is 30 s.
    assert time.monotonic() - started < 15
    gate.open()
    assert future.result(timeout=20) != pid
    until(lambda: len(entries(client)) == 2, "another worker")
