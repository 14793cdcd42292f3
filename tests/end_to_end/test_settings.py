"""Settings that take effect in a running cluster: in its scheduler, its workers' processes and its clients."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdist import Client, LocalCluster, Scheduler, Worker, config

WORKER_PRELOAD = """\
import os
def dask_setup(worker): worker.set_up_with = (worker.address, os.environ["FROM_ENVIRON"])
def dask_teardown(worker): open(os.environ["TORN_DOWN"], "w").close()
"""
NANNY_PRELOAD = "def dask_setup(nanny): nanny.env['FROM_NANNY_PRELOAD'] = type(nanny).__name__"
SCHEDULER_PRELOAD = "def dask_setup(scheduler): scheduler.set_up_with = scheduler.address"


class Setup:
    """A cluster of one process with settings of all kinds, and a client of it."""

    def __init__(self, client: Client, folder: Path) -> None:
        self.client, self.folder = client, folder


@pytest.fixture(scope="module")
def torn_down(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torn-down") / "yes"


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory, torn_down: Path) -> Iterator[Setup]:
    folder = tmp_path_factory.mktemp("temporary")
    settings: dict[str, Any] = {
        "worker.preload": WORKER_PRELOAD,
        "nanny.preload": NANNY_PRELOAD,
        "scheduler.preload": SCHEDULER_PRELOAD,
        "nanny.environ": {"FROM_ENVIRON": 5, "TORN_DOWN": str(torn_down)},
        "nanny.pre-spawn-environ": {"FROM_PRE_SPAWN": "a", "HOME": "not taken"},
        "worker.resources": {"GPU": 1},
        "worker.blocked-handlers": ["identity"],
        "scheduler.blocked-handlers": ["has-what"],
        "temporary-directory": str(folder),
        "client-name": "ada",
        "admin.max-error-length": 100,
    }
    with (
        config.set(settings),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield Setup(client, folder)
    assert torn_down.exists()


def test_a_worker_is_preloaded_and_gets_its_environment_and_resources(setup: Setup) -> None:
    def look(dask_worker: Worker) -> Any:
        names = ("FROM_ENVIRON", "FROM_PRE_SPAWN", "HOME")
        return dask_worker.set_up_with, [os.environ.get(name) for name in names], dask_worker.resources

    ((address, found),) = setup.client.run(look).items()
    assert found == ((address, "5"), ["5", "a", os.environ.get("HOME")], {"GPU": 1.0})
    assert setup.client.submit(int, "7", resources={"GPU": 1}).result(10) == 7


def test_temporary_files_go_where_they_shall(setup: Setup) -> None:
    def folder(dask_worker: Worker) -> str:
        return dask_worker.local_directory

    (found,) = setup.client.run(folder).values()
    assert Path(found).is_relative_to(setup.folder)


def test_a_blocked_operation_is_refused(setup: Setup) -> None:
    with pytest.raises(Exception, match="'has-what' handler"):
        setup.client.has_what()


def test_the_client_has_its_name_and_errors_their_length(setup: Setup) -> None:
    assert setup.client.id.startswith("Client-ada-")

    def fail() -> None:
        raise ValueError("x" * 1000)

    error = setup.client.submit(fail).exception(10)
    assert isinstance(error, ValueError) and len(str(error)) < 200


def test_servers_heed_what_blocks_nothing_and_what_ends_them() -> None:
    with config.set({"scheduler.idle-timeout": "3s"}):
        assert Scheduler(host="127.0.0.1", insecure=True).idle_timeout == 3
    with config.set({"scheduler.blocked-handlers": ["no-such"]}), pytest.raises(ValueError, match="no-such"):
        Scheduler(host="127.0.0.1", insecure=True)


def test_a_preload_sets_up_the_scheduler_and_an_endless_saturation_works() -> None:
    settings = {"scheduler.preload": SCHEDULER_PRELOAD, "scheduler.worker-saturation": ".inf"}
    with config.set(settings), Client(processes=False, n_workers=1, dashboard_address=None) as client:
        scheduler = client.cluster.scheduler
        assert scheduler.set_up_with == scheduler.address
        assert client.gather(client.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        with config.set({"scheduler-address": scheduler.address}), Client(set_as_default=False) as other:
            assert other.submit(abs, -1).result(10) == 1


def test_connections_without_encryption_are_refused_if_it_is_required() -> None:
    with config.set({"comm.require-encryption": True}):
        with pytest.raises(RuntimeError, match="encryption is required"):
            Client("tcp://127.0.0.1:1", insecure=True)
        with Client(processes=False, n_workers=1, dashboard_address=None) as client:
            assert client.submit(abs, -1).result(10) == 1


def test_workers_inherit_the_configuration_of_dask() -> None:
    dask = pytest.importorskip("dask")
    program = """if True:
        import dask, fastdist

        def look():
            import os, sys
            assert "dask" not in sys.modules
            import dask, fastdist
            return dask.config.get("array.chunk-size"), fastdist.config.get("worker.memory.pause"), os.environ["EXTRA"]

        wanted = {"array.chunk-size": "1MiB", "distributed.worker.memory.pause": 0.5}
        wanted["distributed.nanny.environ"] = {"EXTRA": "x"}
        with dask.config.set(wanted), fastdist.Client(n_workers=1, threads_per_worker=1) as client:
            print(client.submit(look).result(30))
    """
    assert dask
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "('1MiB', 0.5, 'x')\n", done.stderr
