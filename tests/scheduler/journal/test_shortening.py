"""A long log becomes a snapshot, which another process makes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fastdist import Client
from fastdist.errors import JournalError
from fastdist.scheduler.journal.shortening import write_snapshot
from fastdist.scheduler.scheduler import Scheduler
from tests.scheduler.journal.test_parts import facts_of, recovered, use_everything


def views(scheduler: Scheduler) -> list[tuple[object, ...]]:
    return sorted(
        (str(view["key"]), view["dependencies"], view["wanted"], view["state"]) for view in scheduler.core.tasks()
    )


async def use(client: Client) -> list[object]:
    """Tasks with inputs and options, and something of all else."""
    kept = await use_everything(client)
    futures = client.map(divmod, range(100), [3] * 100, retries=2, priority=3)
    return [*kept, futures, client.submit(sum, list(futures[50:]), resources={"gpu": 1})]


def test_a_snapshot_stands_for_the_log_files_before_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = tmp_path / "journal"
        async with (
            Scheduler(host="127.0.0.1", insecure=True, journal=journal) as scheduler,
            Client(scheduler.address, asynchronous=True, insecure=True) as client,
        ):
            kept = await use(client)
            assert await client.ncores() == {}
            assert scheduler.journal is not None
            scheduler.journal.shorten()
            later = client.map(pow, range(10), [2] * 10)
            assert await client.ncores() == {}
            before = recovered(journal)
            while scheduler.journal._shortener is not None:
                scheduler.journal._look_at_length()
                await asyncio.sleep(0.01)
            assert sorted(path.name for path in journal.iterdir()) == ["00000001.snapshot", "00000002.log", "lock"]
            again = recovered(journal)
            assert views(again) == views(before) == views(scheduler)
            assert facts_of(again) == facts_of(before) == facts_of(scheduler)
            (number,) = scheduler.members.clients
            assert [*again.clients_away] == [*before.clients_away] == [number]
            assert again.clients_away[number].applied == before.clients_away[number].applied > 0
            assert kept and later

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_each_bit_that_flips_in_a_snapshot_is_noticed(tmp_path: Path) -> None:
    async def fill() -> None:
        async with (
            Scheduler(host="127.0.0.1", insecure=True, journal=tmp_path / "journal") as scheduler,
            Client(scheduler.address, asynchronous=True, insecure=True) as client,
        ):
            await client.set_metadata("a", 1)

    asyncio.run(asyncio.wait_for(fill(), 30))
    size = write_snapshot(str(tmp_path / "journal"), 1)
    path = tmp_path / "journal" / "00000001.snapshot"
    whole = path.read_bytes()
    assert len(whole) == size
    for place in range(len(whole)):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            scheduler = Scheduler(host="127.0.0.1", insecure=True, journal=tmp_path / "journal")
            assert scheduler.journal is not None
            with pytest.raises(JournalError, match=r"damaged|no journal file"):
                scheduler.journal.recover()
