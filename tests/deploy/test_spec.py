"""Clusters by description, of workers in this process and of things that only look like workers."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from fastdist import Client, LocalCluster, Scheduler, Status, Worker, config
from fastdist.deploy import Cluster, ProcessInterface, SpecCluster, SSHCluster, SubprocessCluster
from fastdist.deploy.process import import_class, init_spec, run_spec

SCHEDULER = {"cls": Scheduler, "options": {"protocol": "inproc"}}
WORKER = {"cls": Worker, "options": {"nthreads": 2, "memory_limit": 0}}


def names(cluster: Cluster) -> set[Any]:
    return {worker["name"] for worker in cluster.scheduler_info["workers"].values()}


def test_workers_have_the_classes_options_and_names_of_their_description() -> None:
    async def main() -> None:
        async with SpecCluster(
            workers={0: WORKER, "big": {"cls": "distributed.Worker", "options": {"nthreads": 3}}},
            scheduler=SCHEDULER,
            asynchronous=True,
        ) as cluster:
            assert names(cluster) == {0, "big"} == cluster.observed == cluster.requested == cluster.plan
            assert cluster.workers[0].nthreads == 2 and cluster.workers["big"].nthreads == 3
            assert isinstance(cluster.scheduler, Scheduler)
            assert cluster.workers[0]._cluster() is cluster
            with pytest.raises(RuntimeError, match="given no worker="):
                await _raise_as_runtime(cluster.scale(3))
        assert cluster.status is Status.closed and cluster.scheduler.status is Status.closed

    async def _raise_as_runtime(awaitable: Any) -> None:
        try:
            await awaitable
        except ValueError as error:
            raise RuntimeError(str(error)) from error

    asyncio.run(main())


def test_scaling_by_number_memory_and_cores_and_by_name() -> None:
    worker = {"cls": Worker, "options": {"nthreads": 2, "memory_limit": "1 GB"}}
    with SpecCluster(scheduler=SCHEDULER, worker=worker, silence_logs=50) as cluster:
        cluster.scale(1)
        assert names(cluster) == {0}
        cluster.scale(cores=5)
        assert names(cluster) == {0, 1, 2}
        cluster.scale(memory="4 GB")
        assert names(cluster) == {0, 1, 2, 3}
        assert cluster.scale_up(2) is None
        assert names(cluster) == {0, 1} == set(cluster.worker_spec)
        cluster.sync(cluster.scale_down, [0])
        assert names(cluster) == {1}
        with pytest.raises(ValueError, match="-1"):
            cluster.scale(-1)


def test_what_scale_returns_need_not_be_awaited() -> None:
    async def main() -> None:
        async with SpecCluster(scheduler=SCHEDULER, worker=WORKER, asynchronous=True) as cluster:
            cluster.scale(2)
            await cluster.wait_for_workers(2, timeout=10)
            await cluster.scale(1)
            assert len(cluster.workers) == 1
            with pytest.raises(TimeoutError, match="2"):
                await cluster.wait_for_workers(2, timeout=0.01)

    asyncio.run(main())


def test_data_of_workers_that_leave_is_moved_first() -> None:
    with (
        SpecCluster(workers={0: WORKER, 1: WORKER}, scheduler=SCHEDULER, worker=WORKER) as cluster,
        Client(cluster) as client,
    ):
        [future] = client.scatter([list(range(1000))], workers=[cluster.workers[1].address])
        cluster.scale(1)
        assert set(cluster.workers) == {0}
        assert client.gather(future)[-1] == 999


class Job(ProcessInterface):
    """A job that starts a worker, or two, elsewhere; for this test, in this process."""

    started: ClassVar[list[str]] = []
    closed: ClassVar[list[str]] = []

    def __init__(self, scheduler: str | None = None, name: Any = None, suffixes: tuple[str, ...] = ("",)) -> None:
        super().__init__(scheduler=scheduler, name=name)
        self.suffixes = suffixes

    async def start(self) -> None:
        assert self.scheduler is not None
        own = [f"{self.name}{suffix}" for suffix in self.suffixes]
        self.inner = [Worker(self.scheduler, name=each, nthreads=1, memory_limit=0) for each in own]
        for worker in self.inner:
            await worker
        self.started.extend(own)
        await super().start()

    async def close(self, **kwargs: Any) -> None:
        for worker in self.inner:
            await worker.close()
            self.closed.append(worker.name)
        await super().close()


def test_jobs_may_stand_for_groups_of_workers() -> None:
    job = {"cls": Job, "options": {"suffixes": ("-a", "-b")}, "group": ["-a", "-b"]}

    async def main() -> None:
        Job.started, Job.closed = [], []
        async with SpecCluster(scheduler=SCHEDULER, worker=job, asynchronous=True) as cluster:
            await cluster.scale(2)
            assert cluster.plan == names(cluster) == {"0-a", "0-b", "1-a", "1-b"}
            await cluster.scale_down(["1-b"])
            assert names(cluster) == {"0-a", "0-b"} and Job.closed == ["1-a", "1-b"]
        assert sorted(Job.closed) == ["0-a", "0-b", "1-a", "1-b"]
        assert all(each.status is Status.closed for each in cluster.workers.values())

    asyncio.run(main())


def test_a_worker_that_is_lost_and_does_not_come_back_is_given_up() -> None:
    async def main() -> None:
        Job.started, Job.closed = [], []
        with config.set({"deploy.lost-worker-timeout": "10ms"}):
            async with SpecCluster(
                workers={"x": {"cls": Job, "options": {}}}, scheduler=SCHEDULER, asynchronous=True
            ) as cluster:
                job = cluster.workers["x"]
                await job.inner[0].close()
                await asyncio.wait_for(job.finished(), 10)
                assert cluster.workers == {} and Job.closed == ["x"]

    asyncio.run(main())


class Broken(ProcessInterface):
    """Never starts."""

    async def start(self) -> None:
        raise OSError("no such queue")


def test_a_cluster_whose_worker_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="Cluster failed to start: no such queue"):
        SpecCluster(workers={0: {"cls": Broken}}, scheduler=SCHEDULER)


def test_processes_can_be_awaited_and_closed() -> None:
    async def main() -> None:
        async with ProcessInterface(name="x") as process:
            assert process.status is Status.running and "running" in repr(process)
        assert process.status is Status.closed
        await process.finished()

    asyncio.run(main())


def test_classes_are_found_by_name() -> None:
    assert import_class("distributed.Worker") is Worker is import_class("fastdist:Worker")
    assert import_class(Worker) is Worker
    with pytest.raises(ImportError, match="Nonsense"):
        import_class("fastdist.deploy.spec.Nonsense")
    with pytest.raises(ImportError, match="dotted name"):
        import_class("Worker")
    assert init_spec({"a": {"cls": "builtins.dict", "opts": {"x": 1}}}) == {"a": {"x": 1}}

    async def main() -> None:
        made = await run_spec({"s": {"cls": "fastdist.Scheduler", "opts": {"protocol": "inproc"}}})
        assert made["s"].status is Status.running
        await made["s"].close()

    asyncio.run(main())


def test_clusters_tell_about_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, name="mine") as cluster:
        assert repr(cluster).startswith("LocalCluster(mine, 'inproc://") and "workers=1, threads=2" in repr(cluster)
        page = cluster._repr_html_()
        assert "LocalCluster mine" in page and "<b>Workers</b>" in page and "Using processes" in page
        assert cluster.dashboard_link is None
        cluster._log("hello")
        assert capsys.readouterr().out == "hello\n"
        logs = cluster.get_logs(scheduler=False, workers=False)
        assert logs == {"Cluster": "hello"} and "<pre>" in logs["Cluster"]._repr_html_()
        identity = cluster.sync(cluster.scheduler_comm.identity)
        assert identity["address"] == cluster.scheduler_address
        with pytest.raises(NotImplementedError, match="adapt"):
            cluster.adapt(minimum=1)
        with pytest.raises(NotImplementedError, match="start_worker"):
            cluster.start_worker()
        with cluster.get_client() as client:
            assert cluster.get_client() is client


def test_logs_of_servers_come_with_those_of_the_cluster() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, silence_logs=False) as cluster:
        logs = cluster.get_logs()
        assert set(logs) == {"Cluster", "Scheduler", *cluster.scheduler_info["workers"]}


def test_a_cluster_may_live_on_a_loop_that_is_given() -> None:
    from fastdist.loop import LoopThread

    thread = LoopThread(use_uvloop=False)
    try:
        with LocalCluster(n_workers=1, processes=False, loop=thread.loop, dashboard_address=None) as cluster:
            assert cluster.loop.asyncio_loop is thread.loop
            with Client(cluster, loop=cluster.loop) as client:
                assert client.loop is cluster.loop
                assert client.submit(abs, -1).result() == 1
        assert thread.is_alive()
    finally:
        thread.close()
    with pytest.raises(RuntimeError, match="does not run"):
        LocalCluster(n_workers=0, processes=False, loop=thread.loop)
    with pytest.raises(TypeError, match="loop="):
        LocalCluster(n_workers=0, processes=False, loop=object())


def test_an_asynchronous_cluster_lives_on_the_running_loop_only() -> None:
    async def main() -> None:
        other = asyncio.new_event_loop()
        try:
            with pytest.raises(RuntimeError, match="running event loop"):
                LocalCluster(asynchronous=True, loop=other)
        finally:
            other.close()

    asyncio.run(main())


def test_a_cluster_whose_loop_attribute_is_asked_for_early_has_none() -> None:
    async def main() -> None:
        assert LocalCluster(asynchronous=True, n_workers=0).loop is None

    asyncio.run(main())


def test_the_base_cannot_be_scaled_and_ssh_is_named_as_missing() -> None:
    async def main() -> None:
        with pytest.raises(NotImplementedError, match="Cluster cannot be scaled"):
            Cluster(asynchronous=True).scale(1)

    asyncio.run(main())
    with pytest.raises(NotImplementedError, match="SSHCluster"):
        SSHCluster(["localhost"])
    with pytest.raises(NotImplementedError, match="from_name"):
        SpecCluster.from_name("x")


def test_the_scheduler_may_be_a_process_of_its_own() -> None:
    with SubprocessCluster(n_workers=1, threads_per_worker=1, scheduler_sync_interval="10ms") as cluster:
        process = cluster.scheduler.process
        assert cluster.name == "SubprocessCluster" and process.poll() is None
        with Client(cluster) as client:
            assert client.submit(pow, 2, 5).result() == 32
        cluster.wait_for_workers(1, timeout=10)
        assert cluster.observed == {0} and "workers=1, threads=1" in repr(cluster)
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=10)
        cluster.scale(0)
    assert process.poll() == 0
    with pytest.raises(NotImplementedError, match="worker_class"):
        SubprocessCluster(worker_class="fastdist.Worker")


def test_a_scheduler_process_that_ends_at_once_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="ended with exit code 1"):
        SubprocessCluster(n_workers=0, scheduler_kwargs={"host": "203.0.113.1"})
