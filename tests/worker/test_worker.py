"""The worker's shell against a scheduler that only speaks the protocol."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from typing import Any

import pytest

from fastdist._core.codec.frames import DoneStatus, FrameKind
from fastdist._core.codec.values import decode_value
from fastdist._core.keys.canonical import encode_key
from fastdist._core.worker import inspect
from fastdist.comm.core import connect, listen
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token
from fastdist.errors import AuthenticationError, MessageError, SerializationError
from fastdist.protocol import results
from fastdist.protocol.arguments import serialize_arguments
from fastdist.protocol.failures import load_failure
from fastdist.protocol.functions import FunctionCache
from fastdist.rpc.peer import Peer
from fastdist.status import Status
from fastdist.worker import options
from fastdist.worker.executing import read_page
from fastdist.worker.worker import Worker
from tests.core.worker.frames import EPOCH, Row, free_frame, read_done, retract_frame, run_frame

INLINE = 1
TOKEN = Token.generate("of this test")
PROTOCOLS = ["inproc", "tcp"]


class Reference:
    """Stands for an input in the arguments of a test's task."""


class FakeScheduler:
    """Registers workers, sends them frames, and collects what they report."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.registrations: list[dict[str, Any]] = []
        self.rows: list[tuple[int, Any]] = []
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.changed = asyncio.Condition()
        self.functions: dict[object, int] = {}
        self.known: set[tuple[int, int]] = set()
        self.early: bytes | None = None

    async def start(self, protocol: str) -> FakeScheduler:
        address = "inproc://" if protocol == "inproc" else "tcp://127.0.0.1:0"
        self.listener = await listen(address, token=TOKEN, epoch=EPOCH, on_comm=self.on_comm)
        self.address = self.listener.address
        return self

    def on_comm(self, comm) -> None:
        peer = Peer(
            comm,
            {
                "register-worker": self.register,
                "heartbeat": lambda peer, fields, buffers: self.note("heartbeat", fields),
                "worker-status": lambda peer, fields, buffers: self.note("worker-status", fields),
            },
        )
        peer.on_frame[FrameKind.DONE] = self.on_done
        self.peers.append(peer)

    def register(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        self.registrations.append(fields)
        number = self.peers.index(peer) + 1
        if self.early is not None:
            asyncio.get_running_loop().call_soon(peer.send_frame, FrameKind.RUN, self.early)
        return {"epoch": EPOCH, "number": number, "heartbeat_interval": 0.01}

    def note(self, op: str, fields: dict[str, Any]) -> None:
        self.messages.append((op, fields))
        self.wake()

    def on_done(self, peer: Peer, body: memoryview) -> None:
        number = self.peers.index(peer) + 1
        # How long a task took on a busy machine must not matter here.
        rows = [row for row in read_done(bytes(body)) if row.status != DoneStatus.DONE_STARTED]
        self.rows += [(number, row) for row in rows]
        self.wake()

    def wake(self) -> None:
        async def notify() -> None:
            async with self.changed:
                self.changed.notify_all()

        self._waking = asyncio.ensure_future(notify())

    async def until(self, condition) -> None:
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(condition), 20)

    async def wait(self, n: int) -> list[Any]:
        await self.until(lambda: len(self.rows) >= n)
        return [row for _, row in self.rows]

    def row(
        self,
        task_id: int,
        function,
        args=(),
        inputs: dict[int, tuple[int, list[int]]] | None = None,
        **fields,
    ):
        number = self.functions.setdefault(function, len(self.functions) + 1)
        payload, _ = serialize_arguments((*args, *(Reference() for _ in inputs or {})), None, Reference)
        return Row(
            task_id,
            function=number,
            key=encode_key(f"task-{task_id}"),
            arguments=payload,
            inputs=inputs or {},
            **fields,
        )

    def frame(self, *rows: Row, **extras) -> bytes:
        functions = {n: FunctionCache().serialize_function(f).payload for f, n in self.functions.items()}
        return run_frame(rows, functions, **extras)

    def run(self, worker: int, *rows: Row, **extras) -> None:
        addresses = {n: r["address"].encode() for n, r in enumerate(self.registrations, 1)}
        self.peers[worker - 1].send_frame(FrameKind.RUN, self.frame(*rows, addresses=addresses, **extras))

    async def close(self) -> None:
        for peer in self.peers:
            await peer.close()
        await self.listener.close()


def with_cluster(protocol: str, n: int, test, **settings) -> None:
    """Run `test(scheduler, workers...)` with a fake scheduler and `n` real workers."""

    async def main() -> None:
        scheduler = await FakeScheduler().start(protocol)
        workers = [
            Worker(scheduler.address, nthreads=1, name=i, token=TOKEN, **settings) for i in range(1, n + 1)
        ]
        try:
            for worker in workers:
                await worker
            await test(scheduler, *workers)
        finally:
            for worker in workers:
                await worker.close()
            await scheduler.close()

    asyncio.run(main())


def increment(x: int) -> int:
    return x + 1


def make_list(n: int) -> list[int]:
    return list(range(n))


def identity_of(value: object) -> int:
    return id(value)


def make_lock(_: int) -> object:
    return threading.Lock()


def same(value: object) -> object:
    return value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_worker_registers_runs_tasks_and_reports(protocol: str) -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        (registration,) = scheduler.registrations
        assert registration["address"] == worker.address
        assert (registration["name"], registration["nthreads"]) == (1, 1)
        scheduler.run(1, *(scheduler.row(i, increment, (i,), flags=INLINE) for i in range(1, 101)))
        rows = await scheduler.wait(100)
        assert [decode_value(row.payload) for row in rows] == list(range(2, 102))
        assert dict(worker.data)["task-7"] == 8
        assert "stored: 100" in repr(worker)
        scheduler.peers[0].send_frame(FrameKind.FREE, free_frame(range(1, 101)))
        await scheduler.peers[0].call("identity")
        assert len(worker.data) == 0 and len(worker.store) == 0

    with_cluster(protocol, 1, test)


def test_a_frame_that_comes_right_behind_the_answer_to_the_registration_is_kept() -> None:
    async def main() -> None:
        scheduler = await FakeScheduler().start("tcp")
        scheduler.early = scheduler.frame(scheduler.row(1, increment, (1,)))
        async with Worker(scheduler.address, nthreads=1, token=TOKEN):
            assert (await scheduler.wait(1))[0].status == DoneStatus.DONE_FINISHED
        await scheduler.close()

    asyncio.run(main())


def test_retracted_tasks_are_answered() -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        worker.core.on_paused()
        scheduler.run(1, scheduler.row(1, increment, (1,)))
        scheduler.peers[0].send_frame(FrameKind.RETRACT, retract_frame([(1, 1)]))
        assert [row.status for row in await scheduler.wait(1)] == [DoneStatus.DONE_RETRACTED]

    with_cluster("tcp", 1, test)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_inputs_are_fetched_from_other_workers(protocol: str) -> None:
    async def test(scheduler: FakeScheduler, first: Worker, second: Worker) -> None:
        scheduler.run(1, scheduler.row(1, make_list, (5,)), scheduler.row(2, make_list, (200_000,)))
        await scheduler.wait(2)
        both = {1: (100, [1]), 2: (100, [1])}
        scheduler.run(2, scheduler.row(3, add_lengths, inputs=both, flags=INLINE))
        rows = await scheduler.wait(5)
        assert decode_value(rows[-1].payload) == 200_005
        assert {row.task_id for row in rows if row.status == DoneStatus.DONE_REPLICA} == {1, 2}
        assert (second.store.get(2) is first.store.get(2)) == (protocol == "inproc")

    with_cluster(protocol, 2, test)


def add_lengths(a: list[int], b: list[int]) -> int:
    return len(a) + len(b)


def test_an_input_that_a_worker_does_not_have_is_missing() -> None:
    async def test(scheduler: FakeScheduler, first: Worker, second: Worker) -> None:
        scheduler.run(2, scheduler.row(3, increment, inputs={1: (100, [1])}))
        rows = await scheduler.wait(2)
        assert [(r.task_id, r.status, r.size) for r in rows] == [
            (1, DoneStatus.DONE_MISSING, 1),
            (3, DoneStatus.DONE_RETRACTED, 0),
        ]

    with_cluster("tcp", 2, test)


def test_an_input_on_a_worker_that_is_gone_is_missing() -> None:
    async def test(scheduler: FakeScheduler, first: Worker, second: Worker) -> None:
        await first.close()
        scheduler.run(2, scheduler.row(3, increment, inputs={1: (100, [1])}))
        await scheduler.until(lambda: len([number for number, _ in scheduler.rows if number == 2]) >= 2)
        assert {row.status for _, row in scheduler.rows} == {
            DoneStatus.DONE_MISSING,
            DoneStatus.DONE_RETRACTED,
        }

    with_cluster("tcp", 2, test)


def test_a_result_that_cannot_be_pickled_is_fine_until_it_travels() -> None:
    async def test(scheduler: FakeScheduler, first: Worker, second: Worker) -> None:
        scheduler.run(
            1, scheduler.row(1, make_lock, (1,), flags=INLINE), scheduler.row(2, same, inputs={1: (1, [])})
        )
        rows = await scheduler.wait(2)
        assert [row.status for row in rows] == [DoneStatus.DONE_FINISHED] * 2
        scheduler.run(2, scheduler.row(3, same, inputs={1: (1, [1])}))
        row = (await scheduler.wait(3))[-1]
        assert (row.task_id, row.status) == (3, DoneStatus.DONE_ERRED)
        assert isinstance(load_failure(row.payload), SerializationError)

    with_cluster("tcp", 2, test)


def test_an_unpicklable_value_travels_inside_one_process() -> None:
    async def test(scheduler: FakeScheduler, first: Worker, second: Worker) -> None:
        scheduler.run(1, scheduler.row(1, make_lock, (1,)))
        await scheduler.wait(1)
        scheduler.run(2, scheduler.row(3, same, inputs={1: (1, [1])}))
        await scheduler.wait(3)
        assert second.store.get(3) is first.store.get(1)

    with_cluster("inproc", 2, test)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_clients_get_and_put_data(protocol: str) -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        comm = await connect(worker.address, role=Role.CLIENT, token=TOKEN)
        client = Peer(comm, {})
        value = {"a": [1, 2]}
        payload = value if comm.in_process else b"".join(results.dumps(value))
        sizes = await client.call("put-data", task_ids=[5], keys=[encode_key("mine")], buffers=[payload])
        assert sizes["sizes"][0] > 0
        assert worker.data["mine"] == value
        reply = await client.call("get-data", task_ids=[4, 5])
        assert reply["found"] == [0, 1]
        (found,) = reply.buffers
        assert (found if comm.in_process else results.loads([found])) == value
        scheduler.run(1, scheduler.row(6, len, inputs={5: (1, [])}, flags=INLINE))
        # The first row says that the data is here.
        assert decode_value((await scheduler.wait(2))[1].payload) == 1
        with pytest.raises(MessageError):
            await client.call("put-data", task_ids=[5], keys=[], buffers=[])
        await client.close()

    with_cluster(protocol, 1, test)


def test_a_value_that_cannot_be_pickled_is_answered_with_the_reason() -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        scheduler.run(1, scheduler.row(1, make_lock, (1,)), scheduler.row(2, increment, (1,)))
        await scheduler.wait(2)
        reply = await scheduler.peers[0].call("get-data", task_ids=[1, 2])
        assert reply["found"] == [2, 1]
        assert isinstance(load_failure(reply.buffers[0]), SerializationError)
        assert results.loads([reply.buffers[1]]) == 2

    with_cluster("tcp", 1, test)


def test_workers_may_not_put_data_on_each_other() -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        client = Peer(await connect(worker.address, role=Role.WORKER, token=TOKEN), {})
        with pytest.raises(PermissionError):
            await client.call("put-data", task_ids=[], keys=[])
        with pytest.raises(NotImplementedError):
            await client.call("run", buffers=[b""])
        await client.close()

    with_cluster("tcp", 1, test)


def test_functions_that_are_no_tasks_run_on_the_worker() -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        async def call(function, *args) -> Any:
            pickled = FunctionCache().serialize_function(function).payload
            reply = await scheduler.peers[0].call(
                "run", wait=True, buffers=[pickled, serialize_arguments(args)[0]]
            )
            (payload,) = reply.buffers
            return results.loads([payload]) if reply["status"] == "OK" else load_failure(payload)

        assert await call(increment, 1) == 2
        assert await call(name_of_worker, "x") == ("x", 1)
        assert await call(name_later) == 1
        assert isinstance(await call(increment, "no"), TypeError)
        assert isinstance(await call(make_lock, 1), SerializationError)
        assert (await scheduler.peers[0].call("identity"))["name"] == 1

    with_cluster("tcp", 1, test)


def name_of_worker(text: str, dask_worker: Worker) -> tuple[str, object]:
    return text, dask_worker.name


async def name_later() -> object:
    from fastdist.context import get_worker

    await asyncio.sleep(0)
    return get_worker().name


def test_heartbeats_report_the_worker() -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        await scheduler.until(lambda: any(op == "heartbeat" for op, _ in scheduler.messages))
        metrics = next(fields["metrics"] for op, fields in scheduler.messages if op == "heartbeat")
        assert metrics["memory"] > 0 and metrics["task_counts"]["ready"] == 0

    with_cluster("tcp", 1, test)


def test_a_worker_pauses_and_resumes() -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        worker._pause()
        scheduler.run(1, scheduler.row(1, increment, (1,)))
        await scheduler.until(lambda: ("worker-status", {"status": "paused"}) in scheduler.messages)
        assert worker.status is Status.paused
        worker._resume()
        await scheduler.wait(1)
        assert ("worker-status", {"status": "running"}) in scheduler.messages

    with_cluster("tcp", 1, test)


def test_resources_hold_tasks_back() -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        import msgpack

        option = {3: msgpack.packb({"resources": {"GPU": 2}})}
        scheduler.run(
            1, scheduler.row(1, increment, (1,), option=3), scheduler.row(2, increment, (1,)), options=option
        )
        assert [row.task_id for row in await scheduler.wait(1)] == [2]
        worker.core.set_resources({"GPU": 2})
        await scheduler.wait(2)

    with_cluster("tcp", 1, test, resources={"GPU": 1})


def test_small_memory_spills_results(tmp_path) -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        scheduler.run(1, *(scheduler.row(i, bytes, (1_000_000,)) for i in range(1, 11)))
        await scheduler.wait(10)
        assert worker.store.large.disk_bytes > 0
        scheduler.run(1, scheduler.row(20, len, inputs={1: (1, [])}, flags=INLINE))
        assert decode_value((await scheduler.wait(11))[-1].payload) == 1_000_000

    from fastdist import config

    with config.set({"worker.memory.pause": False, "worker.memory.spill": False}):
        with_cluster("tcp", 1, test, memory_limit="5 MB", local_directory=str(tmp_path))


def test_with_a_nanny_the_page_of_executing_tasks_is_kept(tmp_path) -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        assert worker.executing_page_path is not None
        assert read_page(worker.executing_page_path) == []

    with_cluster("tcp", 1, test, nanny="the nanny", local_directory=str(tmp_path))
    assert list(tmp_path.glob("executing*")) == []


def test_the_loss_of_the_scheduler_stops_the_worker_with_a_reason() -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        scheduler.run(1, scheduler.row(1, increment, (1,)))
        await scheduler.wait(1)
        scheduler.peers[0].abort()
        await asyncio.wait_for(worker.finished(), 20)
        assert worker.status is Status.closed
        assert "connection to the scheduler" in worker.close_reason
        assert len(worker.store) == 0

    with_cluster("tcp", 1, test)


def test_the_scheduler_can_close_a_worker() -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        scheduler.peers[0].notify("close", reason="retired")
        await asyncio.wait_for(worker.finished(), 20)
        assert worker.close_reason == "retired"

    with_cluster("tcp", 1, test)


def test_a_malformed_frame_closes_the_connection() -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        scheduler.peers[0].send_frame(FrameKind.RUN, b"nonsense")
        await asyncio.wait_for(worker.finished(), 20)

    with_cluster("tcp", 1, test)


def test_close_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())

    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        scheduler.run(1, scheduler.row(1, increment, (1,)))
        await scheduler.wait(1)

    with_cluster("tcp", 3, for_the_first(test))
    assert set(threading.enumerate()) == before


def for_the_first(test):
    async def three(scheduler: FakeScheduler, *workers: Worker) -> None:
        await test(scheduler, workers[0])

    return three


def test_a_wrong_token_is_refused_at_the_start() -> None:
    async def main() -> None:
        scheduler = await FakeScheduler().start("tcp")
        worker = Worker(scheduler.address, nthreads=1, token=Token.generate("another one"))
        with pytest.raises(AuthenticationError):
            await worker
        assert worker.status is Status.closed
        await scheduler.close()

    asyncio.run(main())


# ----------------------------------------------------------------------------------------------------------
# Options


def test_options_that_are_not_built_are_refused_by_name() -> None:
    with pytest.raises(NotImplementedError, match="low_level_profiler"):
        Worker("tcp://127.0.0.1:1", low_level_profiler=True, token=TOKEN)
    with pytest.raises(TypeError, match="no option 'nthread'"):
        Worker("tcp://127.0.0.1:1", nthread=3, token=TOKEN)
    Worker("tcp://127.0.0.1:1", token=TOKEN, dashboard=False, plugins=(), preload=None)


def test_the_scheduler_is_found_by_address_host_and_file(tmp_path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": "tcp://a:1"}))
    assert options.scheduler_address(None, None, file) == "tcp://a:1"
    assert options.scheduler_address("tcp://b:2", None, None) == "tcp://b:2"
    assert options.scheduler_address("c", 3, None) == "tcp://c:3"
    with pytest.raises(ValueError, match="scheduler_file"):
        options.scheduler_address(None, None, None)


def test_a_worker_listens_where_its_scheduler_can_reach_it() -> None:
    assert options.listen_address("inproc://x", None, None, None, None) == "inproc://"
    assert options.listen_address("tcp://127.0.0.1:8786", None, None, None, None) == "tcp://127.0.0.1:0"
    assert options.listen_address("tcp://10.0.0.1:8786", None, None, "3000:3010", None) == "tcp://:3000:3010"
    assert options.listen_address("tcp://10.0.0.1:8786", "tcp", "10.0.0.2", 5, None) == "tcp://10.0.0.2:5"
    with pytest.raises(NotImplementedError, match="ucx"):
        options.listen_address("tcp://a:1", "ucx", None, None, None)


def test_the_header_of_an_executing_page_is_checked(tmp_path) -> None:
    path = tmp_path / "page"
    path.write_bytes(struct.pack("<QQ", 1, 2) + bytes(4080))
    with pytest.raises(ValueError, match="not a page"):
        read_page(path)


def test_views_of_the_core_are_empty_at_first() -> None:
    async def test(scheduler: FakeScheduler, worker: Worker) -> None:
        assert dict(worker.data) == {}
        assert not any(inspect.state_counts(worker.core).values())

    with_cluster("inproc", 1, test)
