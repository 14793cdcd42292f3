"""Inputs that travel between workers, and what happens when that goes wrong. May import: fastdist, tests."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from operator import add
from pathlib import Path
from typing import Any

import pytest

from fastdist import Client, LocalCluster, wait
from tests.faults.waiting import Gate, until


class Explosive:
    """Can be pickled, and raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ()


def explode() -> None:
    raise RuntimeError("went off")


def block(number: int) -> bytes:
    return bytes([number % 256]) * 100_000


def first_bytes(*blocks: bytes) -> int:
    return sum(part[0] for part in blocks)


def pass_first(value: object, *others: object) -> object:
    return value


def wait_and_sum(gate: Gate, *blocks: bytes) -> int:
    gate.pass_through()
    return first_bytes(*blocks)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    cluster = LocalCluster(
        n_workers=3, threads_per_worker=2, processes=False, protocol="tcp", silence_logs=logging.CRITICAL
    )
    with cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def processes() -> Iterator[Client]:
    with Client(n_workers=3, threads_per_worker=1, silence_logs=logging.CRITICAL) as client:
        yield client


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


class Requests:
    """Counts the requests for data that reach the workers of a cluster in this process."""

    def __init__(self, client: Client) -> None:
        self.asked: list[list[int]] = []
        self.at_once = self.most_at_once = 0
        for worker in client.cluster.workers.values():
            self._watch(worker.transfer)

    def _watch(self, transfer: Any) -> None:
        original = transfer.get_data

        async def get_data(peer: Any, fields: dict[str, Any], buffers: list[Any]) -> Any:
            self.asked.append(list(fields["task_ids"]))
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
            try:
                # Let the other requests of the same moment come.
                await asyncio.sleep(0)
                return await original(peer, fields, buffers)
            finally:
                self.at_once -= 1

        transfer.get_data = get_data


@pytest.fixture
def requests(client: Client) -> Iterator[Requests]:
    workers = list(client.cluster.workers.values())
    requests = Requests(client)
    yield requests
    for worker in workers:
        del worker.transfer.get_data


def test_inputs_are_asked_for_in_batches_and_once(client: Client, requests: Requests) -> None:
    first, second, third = (worker.address for worker in client.cluster.workers.values())
    left = client.map(block, range(50), pure=False, workers=[first])
    right = client.map(block, range(50), pure=False, workers=[second])
    wait([*left, *right], timeout=20)
    sums = [client.submit(first_bytes, *left, *right, workers=[third], pure=False) for _ in range(20)]
    assert client.gather(sums) == [2 * sum(range(50))] * 20
    ids = [task_id for batch in requests.asked for task_id in batch]
    assert len(ids) == len(set(ids)) == 100
    assert len(requests.asked) <= 6


def test_different_workers_are_asked_at_the_same_time(client: Client, requests: Requests) -> None:
    first, second, third = (worker.address for worker in client.cluster.workers.values())
    inputs = [
        future for place in (first, second) for future in client.map(block, range(5), pure=False, workers=[place])
    ]
    wait(inputs, timeout=20)
    assert client.submit(first_bytes, *inputs, workers=[third], pure=False).result(timeout=20) == 20
    assert requests.most_at_once == 2


def test_an_input_that_cannot_be_unpickled_fails_the_tasks_that_need_it(client: Client) -> None:
    first, second, _ = (worker.address for worker in client.cluster.workers.values())
    explosive = client.submit(Explosive, workers=[first], pure=False)
    innocent = client.submit(block, 7, workers=[first], pure=False)
    wait([explosive, innocent], timeout=20)
    victim = client.submit(pass_first, innocent, explosive, workers=[second], pure=False)
    with pytest.raises(RuntimeError, match="went off"):
        victim.result(timeout=20)
    # Where it was made it is a value like any other.
    assert client.submit(pass_first, 3, explosive, workers=[first], pure=False).result(timeout=20) == 3
    assert client.submit(first_bytes, innocent, workers=[second], pure=False).result(timeout=20) == 7


def test_an_input_that_cannot_be_pickled_fails_the_tasks_that_need_it(client: Client) -> None:
    import threading

    first, second, _ = (worker.address for worker in client.cluster.workers.values())
    lock = client.submit(threading.Lock, workers=[first], pure=False)
    with pytest.raises(TypeError, match="lock"):
        client.submit(pass_first, 1, lock, workers=[second], pure=False).result(timeout=20)
    assert lock.status == "finished"
    assert client.submit(pass_first, 2, lock, workers=[first], pure=False).result(timeout=20) == 2


def test_another_holder_is_asked_when_one_does_not_answer(client: Client) -> None:
    first, second, third = client.cluster.workers.values()
    value = client.submit(block, 9, workers=[first.address], pure=False)
    copy = client.submit(pass_first, 1, value, workers=[second.address], pure=False)
    wait(copy, timeout=20)
    core = client.cluster.scheduler.core
    until(lambda: [len(v["who_has"]) for v in core.tasks() if v["key"] == value.key] == [2], "a second copy")
    original = first.transfer.get_data

    async def refuse(*arguments: object) -> None:
        raise ConnectionError("not now")

    first.transfer.get_data = refuse
    try:
        task = client.submit(first_bytes, value, workers=[third.address], pure=False)
        assert task.result(timeout=20) == 9
    finally:
        first.transfer.get_data = original
    (view,) = [view for view in core.tasks() if view["key"] == value.key]
    assert view["attempt"] == 1


def test_an_input_that_its_only_holder_does_not_give_is_computed_again(client: Client) -> None:
    first, second, _ = client.cluster.workers.values()
    value = client.submit(block, 11, workers=[first.address], allow_other_workers=True, pure=False)
    wait(value, timeout=20)
    original = first.transfer.get_data

    async def refuse(*arguments: object) -> None:
        raise ConnectionError("not now")

    first.transfer.get_data = refuse
    core = client.cluster.scheduler.core
    try:
        task = client.submit(first_bytes, value, workers=[second.address], pure=False)
        until(lambda: [v["attempt"] > 1 for v in core.tasks() if v["key"] == value.key] == [True], "another try")
    finally:
        first.transfer.get_data = original
    assert task.result(timeout=20) == 11


def test_scattered_data_survives_that_its_only_holder_does_not_answer(client: Client) -> None:
    first, second, third = client.cluster.workers.values()
    data = client.scatter(block(13), workers=[first.address], hash=False)
    original = first.transfer.get_data
    asked: list[object] = []

    async def refuse_twice(*arguments: Any) -> Any:
        asked.append(arguments)
        if len(asked) <= 2:
            raise ConnectionError("not now")
        return await original(*arguments)

    first.transfer.get_data = refuse_twice
    try:
        task = client.submit(first_bytes, data, workers=[second.address, third.address], pure=False)
        assert task.result(timeout=20) == 13
    finally:
        first.transfer.get_data = original
    assert len(asked) == 3


def kill_holder(client: Client, address: str) -> None:
    os.kill(client.cluster.scheduler.members.by_address[address].pid, signal.SIGKILL)


def test_an_input_whose_only_holder_dies_is_computed_again(processes: Client, gate: Gate) -> None:
    client = processes
    until(lambda: len(client.cluster.scheduler.members.workers) == 3, "all workers")
    first, second, _ = list(client.cluster.scheduler.members.by_address)
    blocks = client.map(block, range(20), pure=False, workers=[first], allow_other_workers=True)
    wait(blocks, timeout=20)
    kill_holder(client, first)
    task = client.submit(wait_and_sum, gate, *blocks, workers=[second], pure=False)
    gate.open()
    assert task.result(timeout=30) == sum(range(20))


def test_inputs_with_a_second_holder_are_not_computed_again(processes: Client, gate: Gate) -> None:
    client = processes
    until(lambda: len(client.cluster.scheduler.members.workers) == 3, "all workers")
    first, second, third = list(client.cluster.scheduler.members.by_address)
    blocks = client.map(block, range(20), pure=False, workers=[first], allow_other_workers=True)
    assert client.submit(first_bytes, *blocks, workers=[second], pure=False).result(timeout=20) == sum(range(20))
    core = client.cluster.scheduler.core
    keys = {future.key for future in blocks}
    until(
        lambda: all(len(view["who_has"]) == 2 for view in core.tasks() if view["key"] in keys), "the copies"
    )
    kill_holder(client, first)
    task = client.submit(first_bytes, *blocks, workers=[third], pure=False)
    assert task.result(timeout=30) == sum(range(20))
    assert {view["attempt"] for view in core.tasks() if view["key"] in keys} == {1}
    assert client.submit(add, 1, 1, pure=False).result(timeout=20) == 2
