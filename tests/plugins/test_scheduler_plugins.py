"""Plugins of the scheduler: what they are told, when, and what becomes of their errors.

May import: fastdist, pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastdist import Client, SchedulerPlugin, Worker
from fastdist.protocol.failures import load_failure
from fastdist.scheduler.scheduler import Scheduler

Eventually = Callable[..., Any]


@asynccontextmanager
async def small_cluster(**options: Any) -> AsyncIterator[tuple[Scheduler, Worker, Client]]:
    """A scheduler, one worker and a client on this event loop."""
    async with (
        Scheduler(protocol="inproc://", **options) as scheduler,
        Worker(scheduler.address, nthreads=1, memory_limit=0) as worker,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        yield scheduler, worker, client


def run(main: Callable[[], Any]) -> Any:
    """Run a coroutine function to its end, within a minute."""
    return asyncio.run(asyncio.wait_for(main(), 60))


async def until(condition: Callable[[], Any]) -> None:
    """Give the loop turns until a condition holds."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not become true")


class Recorder(SchedulerPlugin):
    """Notes every call."""

    name = "recorder"

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.transitions: list[Any] = []

    async def start(self, scheduler: Any) -> None:
        self.calls.append("start")

    async def before_close(self) -> None:
        self.calls.append("before_close")

    async def close(self) -> None:
        self.calls.append("close")

    def update_graph(self, scheduler: Any, **fields: Any) -> None:
        self.calls.append(("update_graph", fields))

    def restart(self, scheduler: Any) -> None:
        self.calls.append("restart")

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        self.transitions.append((key, start, finish, kwargs))

    def add_worker(self, scheduler: Any, worker: str) -> None:
        self.calls.append(("add_worker", worker))

    async def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:  # type: ignore[override]
        self.calls.append(("remove_worker", worker))

    def add_client(self, scheduler: Any, client: str) -> None:
        self.calls.append(("add_client", client))

    def remove_client(self, scheduler: Any, client: str) -> None:
        self.calls.append(("remove_client", client))

    def log_event(self, topic: str, msg: Any) -> None:
        if topic == "mine":
            self.calls.append(("log_event", msg))


def test_a_plugin_hears_of_start_workers_clients_events_and_the_end() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with small_cluster(plugins=[recorder]) as (scheduler, worker, client):
            address, name = worker.address, client.id
            assert scheduler.plugins == {"recorder": recorder}
            await client.log_event("mine", {"a": 1})
            await client.close()
            await worker.close()
            await until(lambda: ("remove_worker", address) in recorder.calls)
        assert recorder.calls == [
            "start",
            ("add_worker", address),
            ("add_client", name),
            ("log_event", {"a": 1}),
            ("remove_client", name),
            ("remove_worker", address),
            "before_close",
            "close",
        ]

    run(main)


def test_transitions_are_told_in_order_with_their_details() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with small_cluster() as (scheduler, worker, client):
            scheduler.add_plugin(recorder)
            first = client.submit(lambda: 1, key="first")
            second = client.submit(lambda x: x + 1, first, key="second")
            assert await second == 2
            of_first = [each for each in recorder.transitions if each[0] == "first"]
            assert [each[1:3] for each in of_first] == [
                ("released", "queued"),
                ("queued", "processing"),
                ("processing", "memory"),
            ]
            assert of_first[1][3]["worker"] == worker.address
            details = of_first[2][3]
            assert details["worker"] == worker.address
            assert details["nbytes"] > 0
            assert details["typename"] == "int"
            assert details["startstops"][0]["start"] <= details["startstops"][0]["stop"]
            of_second = [each[1:3] for each in recorder.transitions if each[0] == "second"]
            assert of_second[-1] == ("processing", "memory")
            keys = [each[0] for each in recorder.transitions if each[2] == "memory"]
            assert keys == ["first", "second"]
            del first, second
            told = recorder.transitions
            await until(lambda: {each[0] for each in told if each[2] == "forgotten"} == {"first", "second"})

    run(main)


def test_a_failure_is_told_as_erred() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with small_cluster() as (scheduler, _, client):
            scheduler.add_plugin(recorder)
            with pytest.raises(ZeroDivisionError):
                await client.submit(lambda: 1 / 0, key="broken")
            (told,) = [each for each in recorder.transitions if each[0] == "broken" and each[2] == "erred"]
            assert told[1] == "processing"
            assert told[3]["status"] == "error"
            assert told[3]["exception_text"] == "ZeroDivisionError: division by zero"
            assert told[3]["traceback_text"].endswith("ZeroDivisionError: division by zero\n")
            assert isinstance(load_failure(told[3]["exception"]), ZeroDivisionError)

    run(main)


def test_a_thousand_tasks_of_one_frame_are_all_told() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with small_cluster() as (scheduler, _, client):
            scheduler.add_plugin(recorder)
            futures = client.map(abs, range(1_000))
            await client.gather(futures)
            done = [each[0] for each in recorder.transitions if each[1:3] == ("processing", "memory")]
            assert sorted(done) == sorted(future.key for future in futures)

    run(main)


def test_nothing_is_written_down_while_no_plugin_listens() -> None:
    async def main() -> None:
        async with small_cluster() as (scheduler, _, client):
            await client.submit(abs, -1)
            assert scheduler.after_act is None
            recorder = Recorder()
            scheduler.add_plugin(recorder)
            assert scheduler.core.take_transitions() == ([], 0)
            scheduler.remove_plugin("recorder")
            await client.submit(abs, -2)
            assert recorder.transitions == []
            assert scheduler.core.take_transitions() == ([], 0)

    run(main)


def test_a_graph_is_told_with_keys_annotations_and_priorities_but_without_code() -> None:
    async def main() -> None:
        recorder = Recorder()
        async with small_cluster() as (scheduler, _, client):
            scheduler.add_plugin(recorder)
            future = client.submit(abs, -1, key="k", priority=3, retries=2)
            await future
            ((_, fields),) = [call for call in recorder.calls if call[0] == "update_graph"]
            assert fields["client"] == client.id
            assert fields["tasks"] == ["k"]
            assert fields["keys"] == {"k"}
            assert fields["annotations"]["retries"] == {"k": 2}
            assert fields["annotations"]["priority"] == {"k": 3}
            assert fields["priority"]["k"][0] == -3
            assert isinstance(fields["stimulus_id"], str)

    run(main)


def test_the_errors_of_a_plugin_are_logged_and_affect_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SchedulerPlugin):
        def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("broken transition")

        async def add_client(self, scheduler: Any, client: str) -> None:  # type: ignore[override]
            raise RuntimeError("broken add_client")

        def update_graph(self, scheduler: Any, **kwargs: Any) -> None:
            raise RuntimeError("broken update_graph")

        def log_event(self, topic: str, msg: Any) -> None:
            raise RuntimeError("broken log_event")

        async def before_close(self) -> None:
            raise RuntimeError("broken before_close")

    async def main() -> None:
        recorder = Recorder()
        async with small_cluster(plugins=[Broken(), recorder]) as (_, _, client):
            assert await client.submit(abs, -1) == 1
            assert recorder.transitions
            assert ("add_client", client.id) in recorder.calls

    run(main)
    for hook in ("transition", "add_client", "update_graph", "log_event", "before_close"):
        assert f"broken {hook}" in caplog.text


def test_a_plugin_whose_start_fails_is_not_added() -> None:
    class Failing(SchedulerPlugin):
        name = "failing"

        async def start(self, scheduler: Any) -> None:
            raise OSError("no disk")

    async def main() -> None:
        async with small_cluster() as (scheduler, _, client):
            with pytest.raises(OSError, match="no disk"):
                await client.register_plugin(Failing())
            assert "failing" not in scheduler.plugins

    run(main)


class Named(SchedulerPlugin):
    """Counts how often it was started and closed, on the scheduler that it was sent to."""

    name = "named"

    def __init__(self, idempotent: bool = False) -> None:
        self.idempotent = idempotent

    async def start(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        scheduler.log_event("named", "start")

    async def close(self) -> None:
        self.scheduler.log_event("named", "close")


def test_a_client_registers_replaces_and_removes_a_plugin(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with small_cluster() as (scheduler, _, client):
            assert await client.register_plugin(Named()) is None
            first = scheduler.plugins["named"]
            await client.register_plugin(Named(idempotent=True))
            assert scheduler.plugins["named"] is first
            await client.register_plugin(Named())
            assert scheduler.plugins["named"] is not first
            assert "takes the place" in caplog.text
            await client.register_plugin(Named(), name="other")
            await client.unregister_scheduler_plugin("other")
            await client.unregister_scheduler_plugin("named")
            with pytest.raises(ValueError, match="no scheduler plugin 'named'"):
                await client.unregister_scheduler_plugin("named")
            noted = [message for _, message in scheduler.get_events("named")]
            assert noted == ["start", "start", "start", "close", "close"]

    run(main)


def test_what_is_no_plugin_is_refused_with_a_hint() -> None:
    class Duck:
        def transition(self, *args: Any) -> None: ...

    async def main() -> None:
        async with small_cluster() as (scheduler, _, client):
            with pytest.raises(TypeError, match="Named\\(\\)"):
                client.register_plugin(Named)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="inherits from SchedulerPlugin"):
                client.register_plugin(Duck())  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="idempotent"):
                client.register_plugin(Named(idempotent="yes"))  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="is a SchedulerPlugin"):
                scheduler.add_plugin(Duck())
            with pytest.raises(ValueError, match="no scheduler plugin 'x'"):
                scheduler.remove_plugin("x")

    run(main)


def test_plugins_say_which_workers_may_be_closed() -> None:
    class Keeper(SchedulerPlugin):
        def valid_workers_downscaling(self, scheduler: Any, workers: list[Any]) -> list[Any]:
            return workers[1:]

    async def main() -> None:
        async with small_cluster(plugins=[Keeper(), Keeper()]) as (scheduler, _, _):
            host: Any = scheduler.extensions["plugins"]
            assert host.valid_workers_downscaling(["a", "b", "c"]) == ["c"]

    run(main)
