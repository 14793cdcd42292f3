"""Plugins of nannies, and installing packages. May import: fastdist, pytest."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastdist import Client, Environ, LocalCluster, NannyPlugin, get_worker
from fastdist.builtin_plugins import CondaInstall, InstallPlugin, one_at_a_time, run_installer


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """One worker process: these tests start it anew."""
    with LocalCluster(n_workers=1, threads_per_worker=1) as cluster:
        yield cluster


class Named(NannyPlugin):
    """Says what happens to it."""

    name = "named"

    def setup(self, nanny: Any) -> None:
        nanny.log_event("nanny", "setup")

    async def teardown(self, nanny: Any) -> None:
        nanny.log_event("nanny", "teardown")


class Broken(NannyPlugin):
    """Cannot be set up."""

    name = "broken"

    def setup(self, nanny: Any) -> None:
        raise RuntimeError("broken setup")


def test_nannies_get_a_plugin_and_lose_it_again(client: Client, eventually: Callable[..., Any]) -> None:
    workers = set(client.scheduler_info()["workers"])
    assert client.register_plugin(Named()) == {address: {"status": "OK"} for address in workers}
    assert set(client.unregister_worker_plugin("named", nanny=True)) == workers

    def noted() -> list[Any]:
        return [message for _, message in client.get_events("nanny")]

    assert eventually(lambda: noted() == ["setup", "teardown"])
    with pytest.raises(ValueError, match="no nanny plugin 'named'"):
        client.unregister_worker_plugin("named", nanny=True)


def test_what_setup_of_a_nanny_plugin_raises_is_raised_at_the_client(client: Client) -> None:
    with pytest.raises(RuntimeError, match="broken setup"):
        client.register_plugin(Broken())
    client.unregister_worker_plugin("broken", nanny=True)


def test_environ_starts_the_workers_anew_with_the_variables(client: Client, cluster: LocalCluster) -> None:
    def look() -> tuple[Any, int]:
        return os.environ.get("FASTDIST_TEST_COLOUR"), os.getpid()

    _, first_pid = client.submit(look, pure=False).result()
    client.register_plugin(Environ({"FASTDIST_TEST_COLOUR": "green"}), name="colour")
    assert client.submit(look, pure=False).result(30)[0] == "green"
    assert client.submit(look, pure=False).result(30)[1] != first_pid
    # A nanny that comes later sets it, too, before its worker gets tasks.
    cluster.scale(2)
    client.wait_for_workers(2, 30)
    assert set(client.run(lambda: os.environ.get("FASTDIST_TEST_COLOUR")).values()) == {"green"}
    client.unregister_worker_plugin("colour", nanny=True)


def test_nannies_have_logs_too(client: Client) -> None:
    logs = client.get_worker_logs(n=1, nanny=True)
    assert set(logs) == set(client.scheduler_info()["workers"])


def test_an_install_plugin_runs_on_the_scheduler_and_on_every_worker(client: Client) -> None:
    def install() -> None:
        sys.installed = getattr(sys, "installed", 0) + 1  # type: ignore[attr-defined]

    def installed() -> int:
        return getattr(sys, "installed", 0)

    plugin = InstallPlugin(install)
    client.register_plugin(plugin)
    assert client.run_on_scheduler(installed) == 1
    assert set(client.run(installed).values()) == {1}
    client.unregister_scheduler_plugin(plugin.name)
    with pytest.raises(ValueError, match="no worker plugin"):
        client.unregister_worker_plugin(plugin.name)
    del sys.installed  # type: ignore[attr-defined]


def test_a_failing_installer_says_what_it_wrote() -> None:
    with pytest.raises(RuntimeError, match="pip install failed with exit code 3: no network"):
        run_installer("pip", [sys.executable, "-c", "import sys; sys.stderr.write('no network'); sys.exit(3)"])


def test_conda_that_is_not_there_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CONDA_EXE", raising=False)
    with pytest.raises(RuntimeError, match="no conda on the path"):
        client.register_plugin(CondaInstall(["numpy"]))


def test_installers_of_one_machine_wait_for_each_other() -> None:
    import fcntl
    import tempfile

    with one_at_a_time("test"):
        path = os.path.join(tempfile.gettempdir(), f"fastdist-{os.getuid()}-test.lock")
        descriptor = os.open(path, os.O_RDWR)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)


def test_a_task_can_see_the_plugins_of_its_worker(client: Client) -> None:
    assert client.submit(lambda: sorted(get_worker().plugins), pure=False).result() == []
