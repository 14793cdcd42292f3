"""Plugins of workers: set-up now and later, transitions, teardown, errors. May import: fastdist, pytest."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from fastdist import Client, LocalCluster, Worker, WorkerPlugin, get_worker
from fastdist.scheduler.scheduler import Scheduler


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


class Model(WorkerPlugin):
    """Gives the worker something that tasks use."""

    name = "model"

    def __init__(self, value: int = 42) -> None:
        self.value = value

    def setup(self, worker: Any) -> None:
        worker.model = self.value

    def teardown(self, worker: Any) -> None:
        del worker.model


class Recorder(WorkerPlugin):
    """Notes every call on the worker itself."""

    name = "recorder"

    async def setup(self, worker: Any) -> None:
        await asyncio.sleep(0)
        assert get_worker() is worker
        worker.noted = []
        self.worker = worker

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        self.worker.noted.append((key, start, finish))


class Broken(WorkerPlugin):
    """Fails wherever it can."""

    name = "broken"

    def setup(self, worker: Any) -> None:
        raise RuntimeError("broken setup")

    def teardown(self, worker: Any) -> None:
        raise RuntimeError("broken teardown")

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        raise RuntimeError("broken transition")


def model_of_worker() -> Any:
    """What the plugin gave to the worker of this task."""
    return getattr(get_worker(), "model", None)


def test_every_worker_gets_the_plugin_and_loses_it_again(client: Client) -> None:
    workers = set(client.scheduler_info()["workers"])
    assert client.register_plugin(Model()) == {address: {"status": "OK"} for address in workers}
    futures = [client.submit(model_of_worker, workers=[address], pure=False) for address in workers]
    assert client.gather(futures) == [42, 42]
    assert client.unregister_worker_plugin("model") == {address: {"status": "OK"} for address in workers}
    assert client.submit(model_of_worker, pure=False).result() is None


def test_a_worker_that_comes_later_has_it_before_its_first_task(client: Client, cluster: LocalCluster) -> None:
    client.register_plugin(Model(7))
    waiting = client.submit(model_of_worker, workers=["late"], pure=False)

    async def late() -> Any:
        async with Worker(cluster.scheduler_address, name="late", nthreads=1, memory_limit=0, **secret(cluster)):
            return await asyncio.get_running_loop().run_in_executor(None, waiting.result, 30)

    assert run(late) == 7
    client.unregister_worker_plugin("model")


def secret(cluster: LocalCluster) -> dict[str, Any]:
    """What a further worker of this cluster needs to be let in."""
    return {"token": cluster.token}


def test_a_plugin_of_the_same_name_takes_the_place_unless_it_is_idempotent(client: Client) -> None:
    client.register_plugin(Model(1))
    client.register_plugin(Model(2))
    assert client.submit(model_of_worker, pure=False).result() == 2
    again = Model(3)
    again.idempotent = True
    assert client.register_plugin(again) == {}
    assert client.submit(model_of_worker, pure=False).result() == 2
    client.unregister_worker_plugin("model")


def test_what_setup_raises_is_raised_at_the_client(client: Client) -> None:
    with pytest.raises(RuntimeError, match="broken setup"):
        client.register_plugin(Broken())
    with pytest.raises(RuntimeError, match="broken teardown"):
        client.unregister_worker_plugin("broken")
    with pytest.raises(ValueError, match="no worker plugin 'broken'; there are none"):
        client.unregister_worker_plugin("broken")


def test_a_worker_that_comes_later_starts_although_a_plugin_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with (
            Scheduler(protocol="inproc://") as scheduler,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            assert await client.register_plugin(Broken()) == {}
            async with Worker(scheduler.address, nthreads=1, memory_limit=0):
                assert await client.submit(abs, -1) == 1
                (entry,) = scheduler.members
                assert entry.status == "running"

    run(main)
    assert "broken setup" in caplog.text
    assert "broken transition" in caplog.text
    assert "broken teardown" in caplog.text


def test_transitions_are_told_in_order() -> None:
    async def main() -> None:
        async with (
            Scheduler(protocol="inproc://") as scheduler,
            Worker(scheduler.address, nthreads=1, memory_limit=0, plugins=[Recorder()]) as worker,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            noted: list[Any] = worker.noted  # type: ignore[attr-defined]
            first = client.submit(abs, -1, key="first")
            second = client.submit(abs, first, key="second")
            assert await second == 1
            with pytest.raises(ZeroDivisionError):
                await client.submit(lambda: 1 / 0, key="broken")
            del first, second

            def of(key: str) -> list[tuple[str, str]]:
                return [each[1:] for each in noted if each[0] == key]

            await until(lambda: ("released", "forgotten") in of("second"))
            path = ["released", "waiting", "ready", "executing", "memory", "released", "forgotten"]
            assert of("first") == list(itertools.pairwise(path))
            assert of("second") == of("first")
            assert of("broken")[3] == ("executing", "error")
            # Nobody pays for what nobody hears.
            await worker.plugin_remove("recorder")
            noted.clear()
            await client.submit(abs, -5)
            assert noted == []

    run(main)


def test_a_callback_is_called_on_every_worker(client: Client) -> None:
    def mark(dask_worker: Any) -> None:
        dask_worker.marked = True

    assert len(client.register_worker_callbacks(mark)) == 2
    assert client.submit(lambda: get_worker().marked, pure=False).result() is True
    with pytest.raises(TypeError, match="must be a function"):
        client.register_worker_callbacks()


def test_plugins_of_the_constructor_are_set_up_and_torn_down() -> None:
    torn_down: list[str] = []

    class Local(Model):
        def teardown(self, worker: Any) -> None:
            torn_down.append(worker.address)

    async def main() -> None:
        async with (
            Scheduler(protocol="inproc://") as scheduler,
            Worker(scheduler.address, nthreads=1, memory_limit=0, plugins=[Local(5)]) as worker,
        ):
            assert worker.plugins["model"].value == 5
            assert worker.model == 5  # type: ignore[attr-defined]
            assert (await worker.plugin_add(object()))["status"] == "error"
            with pytest.raises(TypeError, match="is a WorkerPlugin"):
                await worker.plugin_add(object(), catch_errors=False)
            assert (await worker.plugin_remove("unknown"))["status"] == "error"
        assert torn_down == [worker.address]

    run(main)
