"""Workers leave by themselves: after their lifetime, or when somebody asks them to close gracefully.

May import: fastdist, pytest, the standard library.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

import pytest

from fastdist import Client, LocalCluster, Nanny, Scheduler, Worker
from fastdist.cli.worker import parser, worker_options
from fastdist.status import Status
from fastdist.worker import hardware


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 30))


async def _one_of_two_leaves(**options: Any) -> None:
    async with (
        Scheduler(protocol="inproc") as scheduler,
        Worker(scheduler.address, nthreads=1, name="short", **options) as short,
        Worker(scheduler.address, nthreads=1, name="long") as long,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        futures = await client.scatter([1, 2, 3], workers=["short"])
        assert len(short.data) == 3
        if not options:
            await short.close_gracefully()
        await short.finished()
        assert short.status is Status.closed
        assert short.close_reason == ("worker-lifetime-reached" if options else "worker-close-gracefully")
        assert await client.gather(futures) == [1, 2, 3]
        assert len(long.data) == 3


def test_a_worker_retires_when_its_lifetime_is_over() -> None:
    run(_one_of_two_leaves(lifetime="50ms", lifetime_stagger="10ms"))


def test_closing_gracefully_gives_the_data_to_others_first() -> None:
    run(_one_of_two_leaves())


def test_a_stagger_longer_than_the_lifetime_is_an_error() -> None:
    with pytest.raises(ValueError, match="longer than lifetime"):
        Worker("inproc://x", lifetime="1s", lifetime_stagger="2s")


def test_the_last_worker_closes_although_nobody_takes_its_data() -> None:
    async def body() -> None:
        async with (
            Scheduler(protocol="inproc") as scheduler,
            Worker(scheduler.address, nthreads=1) as worker,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            (future,) = await client.scatter([1])
            await worker.close_gracefully()
            with pytest.raises(Exception, match="was lost with the last worker"):
                await future.result()

    run(body())


@pytest.mark.parametrize("restart", [True, False])
def test_the_nanny_starts_another_worker_if_it_shall(restart: bool) -> None:
    async def body() -> None:
        options: dict[str, Any] = {"lifetime": "300ms", "lifetime_restart": restart}
        async with (
            Scheduler(host="127.0.0.1") as scheduler,
            Client(scheduler.address, asynchronous=True) as client,
            Nanny(scheduler.address, nthreads=1, **options) as nanny,
        ):
            first = nanny.pid
            if not restart:
                await nanny.finished()
                assert nanny.status is Status.closed
                return
            while first in (pids := await client.run(os.getpid, on_error="ignore")).values() or not pids:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert nanny.status in (Status.running, Status.starting)

    run(body())


def test_the_daemon_passes_the_lifetime_on() -> None:
    arguments = ["tcp://127.0.0.1:1", "--lifetime", "1h", "--lifetime-stagger", "5 min", "--lifetime-restart"]
    (options,) = worker_options(parser().parse_args(arguments))
    assert (options["lifetime"], options["lifetime_stagger"], options["lifetime_restart"]) == (3600.0, 300.0, True)


def test_the_hardware_of_workers_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISK_SIZES", "MEMORY_SIZES", "NETWORK_SIZES"):
        monkeypatch.setattr(hardware, name, ("1 kiB", "100 kiB"))
    for function in (hardware.measure_disk, hardware.measure_memory, hardware.measure_network):
        monkeypatch.setattr(function, "__defaults__", (0.001,))
    with LocalCluster(n_workers=2, processes=False) as cluster, Client(cluster) as client:
        speeds = client.benchmark_hardware()
    assert set(speeds) == {"disk", "memory", "network"}
    assert all(set(of_kind) == {"1 kiB", "100 kiB"} for of_kind in speeds.values())
    assert all(speed > 0 for of_kind in speeds.values() for speed in of_kind.values())
