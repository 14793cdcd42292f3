"""What a user can say about where and when tasks run: priorities, workers, resources, frames of any size."""

from __future__ import annotations

import builtins
import logging
import operator
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fastdist import Client, Future, LocalCluster, get_worker, wait


@pytest.fixture(scope="module")
def small() -> Iterator[LocalCluster]:
    """One worker with three threads and two GPUs, and one that has neither, in this process."""
    cluster = LocalCluster(n_workers=1, threads_per_worker=3, processes=False, resources={"GPU": 2, "MEM": 100})
    with cluster:
        yield cluster


@pytest.fixture(scope="module")
def single() -> Iterator[LocalCluster]:
    """One worker with one thread, in this process."""
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False)
    with cluster:
        yield cluster


def where() -> str:
    return get_worker().address


def blocker(client: Client) -> tuple[threading.Event, Future]:
    """Keep the only thread busy until the event is set."""
    gate = threading.Event()
    started = threading.Event()

    def hold() -> bool:
        started.set()
        return gate.wait(10)

    holding = client.submit(call, register(hold), pure=False)
    assert started.wait(10)
    return gate, holding


def register(thing: Any) -> int:
    """A number under which tasks in this process find a thing that cannot be pickled."""
    vars(builtins)["end_to_end_things"][id(thing)] = thing
    return id(thing)


def find(number: int) -> Any:
    return __import__("builtins").end_to_end_things[number]


def call(number: int, *args: Any) -> Any:
    return find(number)()


def note(number: int, name: Any) -> Any:
    find(number).append(name)
    return name


@pytest.fixture(autouse=True)
def things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "end_to_end_things", {}, raising=False)


def test_higher_priority_runs_sooner(single: LocalCluster) -> None:
    with Client(single) as client:
        gate, holding = blocker(client)
        order: list[Any] = []
        number = register(order)
        # The first one may be sent ahead at once; what is with the worker already is not overtaken.
        futures = [
            client.submit(note, number, priority, priority=priority, pure=False) for priority in (100, 0, -5, 10, 1)
        ]
        futures += client.map(note, [number] * 3, ["late-1", "late-2", "late-3"], priority=-10, pure=False)
        client.who_has()  # answered after all that was submitted before
        gate.set()
        wait(futures)
        assert order == [100, 10, 1, 0, -5, "late-1", "late-2", "late-3"]
        assert holding.result() is True


def test_submissions_far_apart_run_in_their_order(single: LocalCluster) -> None:
    with Client(single) as client:
        gate, holding = blocker(client)
        order: list[Any] = []
        number = register(order)
        futures = client.map(note, [number] * 5, range(5), pure=False, fifo_timeout=0)
        futures += client.map(note, [number] * 5, range(5, 10), pure=False, fifo_timeout=0)
        client.who_has()  # answered after all that was submitted before
        gate.set()
        wait(futures)
        assert order == list(range(10))
        assert holding.result() is True


def test_resources_limit_what_runs_at_once(small: LocalCluster) -> None:
    with Client(small) as client:
        running: list[int] = []
        most: list[int] = []
        number = register(lambda: use(running, most))
        wait(client.map(call, [number] * 12, range(12), resources={"GPU": 1}, pure=False))
        assert max(most) == 2
        most.clear()
        wait(client.map(call, [number] * 6, range(6), resources={"GPU": 2}, pure=False))
        assert max(most) == 1
        most.clear()
        wait(client.map(call, [number] * 12, range(12), pure=False))
        assert max(most) == 3


def use(running: list[int], most: list[int]) -> None:
    running.append(1)
    most.append(len(running))
    time.sleep(0.01)
    most.append(len(running))
    running.pop()


def test_tasks_run_on_the_workers_that_are_named(client: Client) -> None:
    info = client.scheduler_info()["workers"]
    for address, worker in info.items():
        for name in (address, worker["name"], [worker["name"]], {address}, str(worker["name"])):
            assert set(client.gather(client.map(ask_where, range(10), workers=name, pure=False))) == {address}
        future = client.submit(where, workers=address, pure=False)
        assert future.result() == address
        assert client.get({"x": (where,)}, "x", workers=[address]) == address
    assert client.submit(where, workers=socket.gethostname(), pure=False).result() in info


def ask_where(_: int) -> str:
    return where()


def test_an_unknown_worker_is_waited_for_and_warned_of(client: Client, caplog: Any, eventually: Any) -> None:
    with caplog.at_level(logging.WARNING, "fastdist.client"):
        futures = [client.submit(operator.neg, i, workers=["nobody"]) for i in range(3)]
        message = eventually(lambda: [record.getMessage() for record in caplog.records])
        assert futures[0].status == "pending"
        assert client.submit(operator.neg, 9).result() == -9
    assert len(message) == 1
    assert "needs a worker called 'nobody'" in message[0]
    for address in client.scheduler_info()["workers"]:
        assert address in message[0]
    client.cancel(futures)


def test_an_unknown_resource_is_waited_for_and_warned_of(client: Client, caplog: Any, eventually: Any) -> None:
    with caplog.at_level(logging.WARNING, "fastdist.client"):
        futures = client.map(operator.neg, range(3), resources={"TPU": 1})
        message = eventually(lambda: [record.getMessage() for record in caplog.records])
        assert {future.status for future in futures} == {"pending"}
    assert len(message) == 1
    assert "needs TPU=1, and there is none" in message[0]
    client.cancel(futures)


def test_other_workers_may_help_out_if_that_is_allowed(client: Client, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING, "fastdist.client"):
        assert client.submit(operator.neg, 4, workers=["nobody"], allow_other_workers=True).result(timeout=5) == -4
    assert not caplog.records


def test_a_worker_that_comes_later_gets_the_tasks_that_waited_for_it(caplog: Any) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False) as cluster,
        Client(cluster) as client,
        caplog.at_level(logging.CRITICAL, "fastdist.client"),
    ):
        future = client.submit(operator.neg, 4, workers=1)
        assert client.submit(operator.neg, 5).result() == -5
        assert future.status == "pending"
        cluster.scale(2)
        assert future.result(timeout=5) == -4


def test_tasks_without_workers_wait_for_some() -> None:
    with LocalCluster(n_workers=0, threads_per_worker=1, processes=False) as cluster, Client(cluster) as client:
        future = client.submit(operator.neg, 4)
        assert not future.done()
        cluster.scale(1)
        assert future.result(timeout=5) == -4


def test_arguments_larger_than_any_frame_together(client: Client) -> None:
    block = bytes(1 << 20)
    futures = client.map(measure, range(100), [block] * 100)
    assert client.gather(futures) == [i + (1 << 20) for i in range(100)]


def measure(number: int, block: bytes) -> int:
    return number + len(block)


def test_results_larger_than_any_frame_together(client: Client) -> None:
    futures = client.map(bytes, [1 << 20] * 100, pure=False)
    assert sum(map(len, client.gather(futures))) == 100 << 20


def test_locality(client: Client) -> None:
    addresses = sorted(client.scheduler_info()["workers"])
    data = client.submit(bytes, 10 << 20, workers=addresses[1], pure=False)
    wait(data)
    assert client.submit(ask_where, data, pure=False).result() == addresses[1]
