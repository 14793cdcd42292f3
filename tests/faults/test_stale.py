"""Answers that come too late or that nobody asked for are counted and ignored. May import: fastdist, tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from operator import add, neg
from typing import Any

from fastdist import Client, LocalCluster
from fastdist._core.codec.frames import ColumnReader, DoneStatus, FrameKind
from fastdist._core.codec.values import encode_value
from fastdist.comm.core import connect
from fastdist.comm.handshake import Role
from fastdist.rpc.peer import Peer
from tests.core.scheduler.frames import DoneRow, done_frame, unpack


class HandWorker:
    """A worker whose answers the test makes up."""

    async def register(self, cluster: LocalCluster) -> HandWorker:
        self.runs: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.freed: asyncio.Queue[int] = asyncio.Queue()
        comm = await connect(cluster.scheduler_address, role=Role.WORKER, token=cluster.token)
        self.peer = Peer(comm, {"close": lambda peer, fields, buffers: None})
        self.peer.on_frame = {FrameKind.RUN: self.on_run, FrameKind.FREE: self.on_free, FrameKind.RETRACT: self.ignore}
        reply = await self.peer.call(
            "register-worker", address=f"tcp://127.0.0.1:{id(self) % 60000 + 1}", name=f"hand-{id(self)}", nthreads=1
        )
        self.epoch = reply["epoch"]
        self.new_types: tuple[str, ...] = ("object",)
        return self

    def on_run(self, peer: Peer, body: memoryview) -> None:
        reader = ColumnReader(body, 26)
        for task_id, attempt in zip(
            unpack("Q", reader.column_bytes(1)), unpack("I", reader.column_bytes(2)), strict=True
        ):
            self.runs.put_nowait((task_id, attempt))

    def on_free(self, peer: Peer, body: memoryview) -> None:
        for task_id in unpack("Q", ColumnReader(body, 4).column_bytes(1)):
            self.freed.put_nowait(task_id)

    def ignore(self, peer: Peer, body: memoryview) -> None:
        """RETRACT: what it was given has started."""

    def answer(self, task_id: int, attempt: int, value: object, epoch: int | None = None) -> None:
        payload = encode_value(value)
        row = DoneRow(task_id, attempt, DoneStatus.DONE_FINISHED, 28, 0.0, 0, payload)
        types, self.new_types = self.new_types, ()
        self.peer.send_frame(FrameKind.DONE, done_frame([row], types, self.epoch if epoch is None else epoch))


@asynccontextmanager
async def cluster_and_client() -> AsyncIterator[tuple[Any, Any]]:
    async with (
        LocalCluster(n_workers=0, processes=False, protocol="tcp", asynchronous=True, silence_logs=50) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        yield cluster, client


async def reaches(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        # Every turn of the loop may bring it.
        await asyncio.sleep(0)


def run(main: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(main(), 60))


def test_an_answer_to_another_attempt_epoch_or_task_is_counted_and_ignored() -> None:
    async def main() -> None:
        async with cluster_and_client() as (cluster, client):
            core = cluster.scheduler.core
            worker = await HandWorker().register(cluster)
            future = client.submit(neg, 1)
            task_id, attempt = await asyncio.wait_for(worker.runs.get(), 20)
            worker.answer(task_id, attempt + 1, "wrong attempt")
            worker.answer(task_id, attempt, "wrong epoch", epoch=worker.epoch + 1)
            worker.answer(task_id + (1 << 32), attempt, "wrong task")
            await reaches(lambda: core.counts()["stale_results"] == 3)
            assert not future.done()
            worker.answer(task_id, attempt, "right")
            assert await future == "right"
            worker.answer(task_id, attempt, "twice")
            await reaches(lambda: core.counts()["stale_results"] == 4)
            assert await future == "right"
            core.validate()

    run(main)


def test_data_that_nobody_wants_any_more_is_given_back() -> None:
    async def main() -> None:
        async with cluster_and_client() as (cluster, client):
            worker = await HandWorker().register(cluster)
            future = client.submit(neg, 1)
            task_id, attempt = await asyncio.wait_for(worker.runs.get(), 20)
            future.release()
            assert await asyncio.wait_for(worker.freed.get(), 20) == task_id
            worker.answer(task_id, attempt, "too late")
            assert await asyncio.wait_for(worker.freed.get(), 20) == task_id
            assert cluster.scheduler.core.counts()["stale_results"] == 1
            assert cluster.scheduler.core.n_tasks() == 0

    run(main)


def test_a_worker_that_was_given_up_cannot_answer_any_more() -> None:
    async def main() -> None:
        async with cluster_and_client() as (cluster, client):
            core = cluster.scheduler.core
            slow = await HandWorker().register(cluster)
            future = client.submit(add, 1, 1)
            old = await asyncio.wait_for(slow.runs.get(), 20)
            # Its connection breaks, as that of a process that was stopped for long.
            (entry,) = cluster.scheduler.members.workers.values()
            entry.peer.abort()
            await reaches(lambda: slow.peer.closed and not cluster.scheduler.members.workers)
            other = await HandWorker().register(cluster)
            new = await asyncio.wait_for(other.runs.get(), 20)
            assert new == (old[0], old[1] + 1)
            # It comes back on a new connection with its old answer.
            back = await HandWorker().register(cluster)
            back.answer(*old, "stale")
            await reaches(lambda: core.counts()["stale_results"] == 1)
            other.answer(*new, "fresh")
            assert await future == "fresh"
            core.validate()

    run(main)
