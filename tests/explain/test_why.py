"""Each reason for which a task is pending, word for word. May import: fastdist, tests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fastdist import Client, LocalCluster, Retry
from fastdist.scheduler import sentences
from tests.explain.conftest import SOON
from tests.faults.waiting import Gate, until


def hold(gate: Gate, name: str, *inputs: object) -> str:
    gate.pass_through(name)
    return name


def add(*numbers: object) -> int:
    return len(numbers)


def fail() -> None:
    raise OSError("not yet")


def address_of(client: Client) -> str:
    return next(iter(client.cluster.scheduler.members)).address


def busy(client: Client, gate: Gate, key: str = "busy") -> Any:
    """A task that executes until the gate opens."""
    future = client.submit(hold, gate, key, key=key)
    gate.wait_for(1, key)
    return future


@contextmanager
def status_of(client: Client, **changes: Any) -> Iterator[None]:
    """The worker with other attributes, as the scheduler sees it."""
    scheduler = client.cluster.scheduler
    entry = next(iter(scheduler.members))
    before = {name: getattr(entry, name) for name in changes}

    def set_all(values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(entry, name, value)
        scheduler.core.on_worker_status(entry.number, entry.takes_work)
        scheduler.wake()

    async def change(values: dict[str, Any]) -> None:
        set_all(values)

    client.sync(change, changes)
    try:
        yield
    finally:
        client.sync(change, before)


def test_one_that_executes(client: Client, gate: Gate, noon: str) -> None:
    future = busy(client, gate)
    assert future.why() == f"'busy' is executing on the worker at {address_of(client)} since 12:00:00"


def test_inputs_and_what_is_at_the_root_of_them(client: Client, gate: Gate, noon: str) -> None:
    where = address_of(client)
    first = busy(client, gate, "first")
    second = client.submit(hold, gate, "second", key="second", resources={"FOO": 1})
    both = client.submit(add, first, second, key="both", workers=["nobody"])
    last = client.submit(add, both, key="last")
    root = f"'first' is executing on the worker at {where} since 12:00:00"
    assert both.why() == f"'both' waits for its input 'first' and 1 other; {root}"
    assert last.why() == f"'last' waits for its input 'both', which needs 'first'; {root}"


def test_one_that_is_sent_ahead(client: Client, gate: Gate, noon: str) -> None:
    where = address_of(client)
    graph = {"first": (hold, gate, "one"), "after": (add, "first")}
    _first, after = client.get(graph, ["first", "after"], sync=False)
    gate.wait_for(1, "one")
    assert after.why() == (
        f"'after' was sent ahead to the worker at {where}, which starts it when its input 'first' is there; "
        f"'first' is executing on the worker at {where} since 12:00:00"
    )


def test_the_queue(client: Client, gate: Gate) -> None:
    blocker = busy(client, gate)
    futures = [client.submit(hold, gate, f"q{i}", key=f"q{i}") for i in range(4)]
    assert futures[0].why() == (
        f"'q0' was given to the worker at {address_of(client)}, where it waits for a free thread"
    )
    assert futures[1].why() == (
        "'q1' is ready and queued as the next one: the 1 thread of the workers have enough to do"
    )
    assert futures[3].why() == (
        "'q3' is ready and queued behind 2 other tasks: the 1 thread of the workers have enough to do"
    )
    urgent = client.submit(hold, gate, "urgent", key="urgent", priority=1)
    assert "queued as the next one" in urgent.why()
    assert "queued behind 3 other tasks" in futures[3].why()
    assert not blocker.done()


def test_a_place_in_the_queue_of_a_map(client: Client, gate: Gate) -> None:
    blocker = busy(client, gate)
    futures = client.map(hold, [gate] * 100, [f"m{i}" for i in range(100)], key="m")
    assert "queued behind 98 other tasks" in futures[99].why()
    assert not blocker.done()


def test_resources_in_use(client: Client, gate: Gate) -> None:
    taker = client.submit(hold, gate, "taker", key="taker", resources={"FOO": 1})
    gate.wait_for(1, "taker")
    assert not taker.done()
    other = client.submit(add, key="other", resources={"FOO": 1})
    assert other.why() == (
        f"'other' was given to the worker at {address_of(client)}, where it waits for a free thread and for FOO=1"
    )


def test_resources_that_nobody_has(client: Client) -> None:
    future = client.submit(add, key="gpu", resources={"GPU": 1})
    assert future.why() == (
        f"'gpu' needs GPU=1, and there is none: the workers are: {address_of(client)} (name 0, FOO=1)"
    )


def test_workers_that_are_not_there(client: Client) -> None:
    future = client.submit(add, key="alice", workers=["alice", "bob"], resources={"GPU": 2})
    assert future.why() == (
        "'alice' needs a worker called 'alice' or 'bob' with GPU=2, and there is none: the workers are: "
        f"{address_of(client)} (name 0, FOO=1)"
    )


def test_workers_that_are_paused(client: Client) -> None:
    metrics = {"memory": 81 << 20}
    with status_of(client, status="paused", metrics=metrics, memory_limit=100 << 20):
        future = client.submit(add, key="held")
        restricted = client.submit(add, key="held-foo", resources={"FOO": 1})
        for each in (future, restricted):
            assert each.why() == (
                f"{each.key!r} is held back by memory: each worker that could run it is paused until it has freed "
                f"some: {address_of(client)} (81% of its memory limit in use)"
            )
    assert future.result(timeout=10) == 0


def test_workers_that_retire(client: Client) -> None:
    with status_of(client, retiring=True):
        future = client.submit(add, key="late")
        assert future.why() == (
            f"'late' is ready, but no worker that could run it takes work now: {address_of(client)} (retiring)"
        )


def test_a_pause_before_the_next_attempt(client: Client, noon: str) -> None:
    future = client.submit(fail, key="flaky", retries=Retry(3, wait=100, jitter=False))
    until(lambda: client.cluster.scheduler.core.counts()["no_worker"], "the first failure")
    assert future.why() == "'flaky' failed once and is tried again at 12:00:00"
    future.cancel()


def test_what_has_ended_or_never_was(client: Client) -> None:
    future = client.submit(add, key="sum")
    future.result(timeout=10)
    assert future.why() == client.why(future) == client.why("sum") == "'sum' is finished"
    wrong = client.submit(fail, key="wrong")
    wrong.exception(timeout=10)
    assert wrong.why() == "'wrong' has failed: OSError: not yet"
    assert client.why("wrong") == "'wrong' has failed"
    assert client.why("nothing") == "the scheduler knows no task 'nothing'"


def test_what_a_worker_was_given_and_has_not_started() -> None:
    def said(before: int | None, needs: dict[str, float], free: bool) -> str:
        return sentences.given("x", "tcp://w:1", before, needs, free=free).partition(", where it ")[2]

    assert said(0, {}, True) == said(None, {}, True) == "is about to start"
    assert said(0, {}, False) == "waits for a free thread"
    assert said(0, {"GPU": 1.0}, True) == "waits for GPU=1"
    assert said(0, {"GPU": 1.0}, False) == "waits for a free thread and for GPU=1"
    assert said(1, {"GPU": 1.0}, False) == "waits behind 1 other task"
    assert said(3, {}, False) == "waits behind 3 other tasks"


def test_reasons_that_last_only_a_moment() -> None:
    where = "tcp://w:1"
    assert sentences.fetching("x", where) == (
        "'x' was given to the worker at tcp://w:1, which is fetching its inputs from other workers"
    )
    assert sentences.taken_back("x", where) == (
        "'x' is being taken back from the worker at tcp://w:1, because others have less to do"
    )
    assert sentences.after_death("x", where) == (
        "'x' was on the worker at tcp://w:1, which died; it goes elsewhere as soon as its nanny has told why"
    )
    assert sentences.executing("x", where, None, waits=True) == (
        "'x' is executing on the worker at tcp://w:1, without a thread, because it waits for something else or has "
        "seceded"
    )
    assert sentences.ended("x", "scattering") == "the data of 'x' is on its way to the workers"
    assert sentences.ended("x", "released") == "'x' is not computed, because nobody wants its result now"


def test_no_workers_at_all_and_an_asynchronous_client() -> None:
    async def main() -> str:
        async with (
            LocalCluster(n_workers=0, processes=False, asynchronous=True) as cluster,
            Client(cluster, asynchronous=True) as client,
        ):
            return str(await client.submit(add, key="alone").why())

    assert asyncio.run(main()) == "'alone' is ready, but there is no worker"


def test_one_warning_for_all_tasks_that_wait_for_the_same(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "fastdist.client")
    futures = [client.submit(add, number, key=f"tpu-{number}", resources={"TPU": 1}) for number in range(5)]
    sentence = f"'tpu-0' needs TPU=1, and there is none: the workers are: {address_of(client)} (name 0, FOO=1)"
    until(lambda: caplog.messages, "the warning")
    assert caplog.messages == [sentence] == [futures[0].why()]
    more = client.submit(add, key="tpu-more", resources={"TPU": 1})
    other = client.submit(add, key="npu", resources={"NPU": 1})
    until(lambda: len(caplog.messages) > 1, "the other warning")
    assert [text for text in caplog.messages[1:] if "NPU" not in text] == []
    assert not more.done() and not other.done()


def test_no_warning_for_what_can_run_before_long(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "fastdist.client")
    explaining = client.cluster.scheduler.extensions["explaining"]
    with status_of(client, status="paused"):
        future = client.submit(add, key="soon", resources={"FOO": 1})
        until(lambda: explaining._since, "the look at it")
    assert future.result(timeout=10) == 0
    until(lambda: not any(since for since in explaining._since.values()), "the next look", SOON * 20)
    assert caplog.messages == []
