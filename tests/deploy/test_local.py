"""The life of a LocalCluster: real schedulers and workers, in processes and in threads."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import warnings
from typing import Any

import psutil
import pytest

from fastdist import Client
from fastdist.client import starting
from fastdist.comm import Role, connect
from fastdist.comm.addresses import parse_address
from fastdist.comm.token import Token
from fastdist.deploy import LocalCluster
from fastdist.errors import AuthenticationError
from fastdist.nanny import Nanny
from fastdist.status import Status


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def registered(cluster: LocalCluster) -> int:
    assert cluster.scheduler is not None
    return len(cluster.scheduler.identity()["workers"])


def test_workers_are_processes_that_are_registered_and_gone_after_close() -> None:
    before = children()
    cluster = LocalCluster(n_workers=2, threads_per_worker=1)
    try:
        assert cluster.status is Status.running
        assert len(children() - before) == 2
        assert registered(cluster) == 2
        assert sorted(cluster.workers) == [0, 1]
        assert len(cluster.scheduler_info["workers"]) == 2
        assert all(isinstance(worker, Nanny) for worker in cluster.workers.values())
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")
        assert f"'{cluster.scheduler_address}', workers=2, threads=2, memory=" in repr(cluster)
    finally:
        cluster.close()
    assert cluster.status is Status.closed
    assert children() == before
    cluster.close()


def test_workers_may_live_in_this_process() -> None:
    before = children()
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False) as cluster:
        assert children() == before
        assert cluster.scheduler_address.startswith("inproc://")
        assert registered(cluster) == 2


def test_the_address_alone_is_enough_within_the_process_of_the_cluster() -> None:
    with LocalCluster(n_workers=0, threads_per_worker=1) as cluster:
        address = cluster.scheduler_address
        for each in (address, address.removeprefix("tcp://")):
            with Client(each, set_as_default=False) as client:
                assert client.scheduler_info()["address"] == address
        assert address in starting._tokens_here
    assert address not in starting._tokens_here, "another scheduler may listen there"


def test_nobody_listens_beyond_loopback() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster:
        pids = [os.getpid(), *(worker.pid for worker in cluster.workers.values())]
        listening = [
            connection
            for pid in pids
            for connection in psutil.Process(pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        assert len(listening) >= 2
        assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def test_the_secret_is_fresh_and_in_neither_arguments_nor_environment() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster:
        process = psutil.Process(cluster.workers[0].pid)
        seen = " ".join([*process.cmdline(), *process.environ().values()])
        assert cluster.token.to_hex() not in seen
        with LocalCluster(n_workers=0, threads_per_worker=1) as other:
            assert other.token != cluster.token


def test_another_secret_is_refused() -> None:
    with LocalCluster(n_workers=0, threads_per_worker=1) as cluster:

        async def knock() -> None:
            await connect(cluster.scheduler_address, role=Role.CLIENT, token=Token.generate(), timeout=5)

        with pytest.raises(AuthenticationError):
            asyncio.run(knock())


def test_the_port_is_free_after_close() -> None:
    cluster = LocalCluster(n_workers=0, processes=True)
    port = parse_address(cluster.scheduler_address).port
    cluster.close()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


@pytest.mark.parametrize("processes", [True, False])
def test_scaling_starts_and_closes_the_newest(processes: bool) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=processes) as cluster:
        first = cluster.workers[0]
        cluster.scale(3)
        assert (sorted(cluster.workers), registered(cluster)) == ([0, 1, 2], 3)
        cluster.scale(1)
        assert cluster.workers == {0: first}
        cluster.scale(2)
        assert sorted(cluster.workers) == [0, 3]


def test_an_asynchronous_cluster_lives_on_the_running_loop() -> None:
    async def main() -> None:
        async with LocalCluster(n_workers=1, threads_per_worker=1, asynchronous=True) as cluster:
            assert cluster.loop.asyncio_loop is asyncio.get_running_loop()
            assert registered(cluster) == 1
            await cluster.scale(2)
            assert registered(cluster) == 2
        assert cluster.status is Status.closed
        other = await LocalCluster(n_workers=1, processes=False, asynchronous=True)
        assert other.status is Status.running
        await other.close()
        await other.close()

    asyncio.run(main())


def test_an_asynchronous_cluster_whose_loop_ended_is_abandoned_without_processes() -> None:
    from fastdist.deploy import cluster as cluster_module

    before = children()

    async def main() -> LocalCluster:
        return await LocalCluster(n_workers=1, threads_per_worker=1, asynchronous=True)

    loop = asyncio.new_event_loop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        cluster = loop.run_until_complete(main())
        loop.close()
        cluster_module._close_at_exit()
        assert children() == before
        assert cluster.status is Status.closed
        del cluster, loop
        gc.collect()


def test_a_cluster_that_cannot_start_leaves_nothing() -> None:
    before = children()
    with pytest.raises(RuntimeError, match=r"Cluster failed to start: worker . did not start: .*nothing"):
        LocalCluster(n_workers=2, threads_per_worker=1, preload=["nothing_of_that_name"])
    assert children() == before
    with pytest.raises(RuntimeError, match="failed to start"):
        LocalCluster(n_workers=1, threads_per_worker=1, scheduler_kwargs={"nonsense": 1})
    assert children() == before


def test_a_killed_worker_is_started_again() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, silence_logs=logging.CRITICAL) as cluster:
        nanny = cluster.workers[0]
        first = nanny.pid
        os.kill(first, signal.SIGKILL)

        async def until_back() -> None:
            while nanny.pid in (None, first) or registered(cluster) == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

        cluster.sync(asyncio.wait_for, until_back(), 20)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_the_child_of_a_fork_the_cluster_is_inert() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert cluster.status is Status.closed
                cluster.close()
                with pytest.raises(RuntimeError, match="make another"):
                    cluster.scale(5)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert registered(cluster) == 1
        assert cluster.status is Status.running


def test_a_forgotten_cluster_warns_and_is_closed() -> None:
    before = children()
    with pytest.warns(ResourceWarning, match="unclosed cluster"):
        cluster: Any = LocalCluster(n_workers=1, threads_per_worker=1)
        del cluster
        gc.collect()
    deadline = psutil.Process()
    for _ in range(1000):
        if children() == before:
            break
        psutil.wait_procs(deadline.children(), timeout=0.01)
    assert children() == before


def test_log_levels_are_as_before_after_close() -> None:
    logger = logging.getLogger("fastdist")
    logger.setLevel(logging.INFO)
    try:
        with LocalCluster(n_workers=0, processes=False):
            assert logger.level == logging.WARNING
        assert logger.level == logging.INFO
        with LocalCluster(n_workers=0, processes=False, silence_logs=False):
            assert logger.level == logging.INFO
    finally:
        logger.setLevel(logging.NOTSET)


def test_threads_that_start_clusters_do_not_disturb_each_other() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(number: int) -> int:
        with LocalCluster(n_workers=1, processes=False) as cluster:
            return registered(cluster)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(one, range(8))) == [1] * 8
