"""A scheduler whose journal finds no room goes on, says so, and tells nobody that anything is safe."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fastdist import Client
from fastdist.scheduler.scheduler import Scheduler
from tests.scheduler.journal.test_journal_files import FullDisk
from tests.scheduler.journal.test_parts import recovered


def test_nothing_is_called_safe_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdist.scheduler.journal.writer.RETRY_SECONDS", 0.0)

    async def scenario() -> None:
        journal = tmp_path / "journal"
        async with (
            Scheduler(host="127.0.0.1", insecure=True, journal=journal) as scheduler,
            Client(scheduler.address, asynchronous=True, insecure=True) as client,
        ):
            assert scheduler.journal is not None
            writer = scheduler.journal._writer
            assert writer is not None
            disk = FullDisk(0)
            writer._write = disk
            outbox = client._connection._outbox
            futures = [client.submit(pow, number, 2) for number in range(200)]
            assert await client.ncores() == {}
            assert not scheduler.journal.flush()
            (entry,) = scheduler.members.clients.values()
            assert (entry.applied, entry.told_applied) == (200, 0)
            assert len(outbox._kept) == 200
            events = scheduler.extensions["events"].get_events("all")
            assert any("cannot be written" in str(event) for event in events)
            assert len(recovered(journal).core.tasks()) == 0

            disk.room = 1 << 20
            futures.append(client.submit(pow, 200, 2))
            assert await client.ncores() == {}
            assert scheduler.journal.flush()
            client._connection.tell("heartbeat", metrics={})
            assert await client.ncores() == {}
            assert entry.told_applied == 201
            assert len(recovered(journal).core.tasks()) == 201

    asyncio.run(asyncio.wait_for(scenario(), 30))
