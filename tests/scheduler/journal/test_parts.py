"""The parts of a scheduler beside its core - datasets, metadata, locks, queues - are in the journal, too."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

from fastdist import Client, Event, Lock, MultiLock, Queue, Semaphore, Variable, WorkerPlugin
from fastdist.scheduler.scheduler import Scheduler
from tests.faults.waiting import until

PARTS = ("plugins", "publish", "metadata", "event-flags", "variables", "queues", "semaphores", "multi-locks")


class NoPlugin(WorkerPlugin):
    """Does nothing."""


def facts_of(scheduler: Scheduler) -> dict[str, list[Any]]:
    return {name: list(scheduler.extensions[name].facts()) for name in PARTS}


def recovered(folder: Path) -> Scheduler:
    """A scheduler as it would be if the one that writes into `folder` were killed now."""
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    copy.chmod(0o700)
    scheduler = Scheduler(host="127.0.0.1", insecure=True, journal=copy)
    assert scheduler.journal is not None
    scheduler.journal.recover()
    scheduler.journal.let_go()
    return scheduler


async def use_everything(client: Client) -> list[Any]:
    """Something of each kind; returns what has to stay alive."""
    future = client.submit(sum, [1, 2])
    await client.register_plugin(NoPlugin(), name="plugin")
    await client.register_plugin(NoPlugin(), name="other")
    await client.unregister_worker_plugin("other")
    await client.publish_dataset(kept=future, gone=1)
    await client.unpublish_dataset("gone")
    await client.set_metadata(["a", "b"], {"c": 1})
    event, variable, queue = Event("event"), Variable("variable"), Queue("queue", maxsize=10)
    await event.set()
    await Event("cleared").set()
    await Event("cleared").clear()
    await variable.set("first")
    await variable.set(future)
    await queue
    for value in (1, "two", future, 4.0):
        await queue.put(value)
    assert await queue.get() == 1
    lock, semaphore, locks = Lock("lock"), await Semaphore(max_leases=2, name="semaphore"), MultiLock(["x", "y"])
    await lock.acquire()
    await semaphore.acquire()
    await semaphore.acquire()
    await semaphore.release()
    await locks.acquire()
    return [future, event, variable, queue, lock, semaphore, locks]


def test_what_the_parts_hold_is_there_again_after_a_recovery(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = tmp_path / "journal"
        async with (
            Scheduler(host="127.0.0.1", insecure=True, journal=journal) as scheduler,
            Client(scheduler.address, asynchronous=True, insecure=True) as client,
        ):
            kept = await use_everything(client)
            expected = facts_of(scheduler)
            assert all(expected[name] for name in PARTS)
            assert facts_of(recovered(journal)) == expected
            assert kept

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_the_tasks_of_published_futures_are_still_wanted_after_a_recovery(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = tmp_path / "journal"
        async with Scheduler(host="127.0.0.1", insecure=True, journal=journal) as scheduler:
            async with Client(scheduler.address, asynchronous=True, insecure=True) as client:
                await client.publish_dataset(kept=client.submit(sum, [1, 2], key="kept"))
            await asyncio.to_thread(until, lambda: not scheduler.members.clients, "the client's goodbye")
            again = recovered(journal)
            assert [view["key"] for view in again.core.tasks()] == ["kept"]
            assert again.clients_away == {}

    asyncio.run(asyncio.wait_for(scenario(), 30))
