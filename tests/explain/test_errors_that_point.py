"""Errors that say where the reason is and what to do. May import: fastdist, tests."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import platform
import sys
import threading
from pathlib import Path

import pytest

from fastdist import Client, Scheduler, Worker
from fastdist.client.missing_modules import how_to_ship, point_to_modules
from fastdist.errors import SerializationError
from fastdist.versions import differing, refuse_other_python


def give_lock() -> dict[str, object]:
    return {"a": [1, threading.Lock()]}


def take(value: object, *others: object) -> object:
    return value


def load(module: str) -> object:
    return __import__(module)


def test_an_argument_that_cannot_travel(client: Client) -> None:
    with pytest.raises(SerializationError) as caught:
        client.submit(take, {"model": [threading.Lock()]}, key="train")
    assert str(caught.value) == (
        "the task 'train' cannot be sent: cannot pickle args[0]['model'][0] (a _thread.lock): TypeError: cannot pickle "
        "'_thread.lock' object"
    )
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(SerializationError, match=r"a task of take cannot be sent: cannot pickle args\[1\] "):
        client.map(take, [1, 2], [3, threading.Lock()])


def test_a_client_as_an_argument(client: Client) -> None:
    with pytest.raises(SerializationError) as caught:
        client.submit(take, [client], key="uses-client")
    assert str(caught.value) == (
        "the task 'uses-client' cannot be sent: cannot pickle args[0][0] (a fastdist.client.client.Client): TypeError: "
        "a client stays in its process; inside of a task, get_client() gives the one of the worker"
    )


def test_a_result_that_cannot_travel(processes: Client) -> None:
    future = processes.submit(give_lock, key="locked")
    with pytest.raises(SerializationError) as caught:
        future.result(timeout=20)
    assert str(caught.value) == (
        "the task 'locked' finished, but its result cannot be sent: cannot pickle value['a'][1] (a _thread.lock): "
        "TypeError: cannot pickle '_thread.lock' object"
    )
    assert isinstance(caught.value.__cause__, TypeError)
    assert processes.submit(take, 1).result(timeout=20) == 1


def test_a_module_that_only_the_client_has(
    processes: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("x = 1")
    # Workers have been started with the path of before.
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError) as caught:
        processes.submit(load, "only_here").result(timeout=20)
    path = str(tmp_path / "only_here.py")
    assert str(caught.value) == (
        f"No module named 'only_here'; 'only_here' is local to this client, at {path}: client.upload_file({path!r}) "
        "ships it to the workers"
    )
    assert caught.value.name == "only_here"


def test_packages_and_what_is_installed_are_shipped_in_other_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "local_package"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert how_to_ship("local_package.inner") == (
        f"'local_package' is local to this client, at {package}: client.register_plugin(UploadDirectory("
        f"{str(package)!r})) ships it to the workers"
    )
    where = Path(str(importlib.util.find_spec("cloudpickle").origin)).parent  # type: ignore[union-attr]
    assert how_to_ship("cloudpickle") == (
        f"'cloudpickle' is local to this client, at {where}, and not installed there: "
        "client.register_plugin(PipInstall(['cloudpickle'])) installs it"
    )
    assert how_to_ship("json") is how_to_ship("sys") is how_to_ship("no_such_module") is None


def test_the_cause_of_an_error_is_pointed_to_as_well() -> None:
    inner = ModuleNotFoundError("No module named 'cloudpickle'", name="cloudpickle")
    outer = RuntimeError("no")
    outer.__cause__ = inner
    point_to_modules(outer)
    point_to_modules(outer)
    assert str(inner).count("PipInstall") == 1 and str(outer) == "no"


OTHER = f"{sys.version_info.major}.{sys.version_info.minor + 1}.0"


def test_another_minor_version_of_python_is_refused() -> None:
    refuse_other_python({}, "who says nothing")
    refuse_other_python({"python": platform.python_version()}, "the same")
    with pytest.raises(ValueError) as caught:
        refuse_other_python({"python": OTHER}, "this client")
    assert str(caught.value) == (
        f"this client runs Python {OTHER} and the scheduler Python {platform.python_version()}; functions cannot "
        "travel between them: run the same minor version of Python everywhere"
    )


@pytest.mark.parametrize("who", ["client", "worker"])
def test_a_client_or_a_worker_of_another_python_does_not_get_in(
    who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "fastdist.client.connection" if who == "client" else "fastdist.worker.reporting"
    monkeypatch.setattr(f"{place}.running_versions", lambda: {"python": OTHER})

    async def main() -> None:
        async with Scheduler(host="127.0.0.1", protocol="inproc") as scheduler:
            if who == "client":
                async with Client(scheduler.address, asynchronous=True, insecure=True):
                    pass
            else:
                async with Worker(scheduler.address, nthreads=1, insecure=True):
                    pass

    with pytest.raises(Exception, match=f"runs Python {OTHER} and the scheduler Python"):
        asyncio.run(main())


def test_only_versions_that_matter_are_compared() -> None:
    mine = {"python": "3.11.1", "numpy": "2.1.0", "msgpack": "1.0", "pandas": "2.2.2"}
    theirs = {"python": "3.11.9", "numpy": "1.26.4", "msgpack": "0.9", "pandas": "2.2.9", "dask": "2026.8.0"}
    assert differing(mine, theirs) == {"numpy": ("2.1.0", "1.26.4")}


def test_a_client_is_warned_once_of_other_versions(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "fastdist.client")
    entry = next(iter(client.cluster.scheduler.members))
    monkeypatch.setitem(entry.versions, "numpy", "1.26.4")
    versions = {"python": platform.python_version(), "numpy": "2.1.0"}
    monkeypatch.setattr("fastdist.client.connection.running_versions", lambda: versions)
    with Client(client.cluster, set_as_default=False) as other:
        other.submit(take, 1).result(timeout=20)
        assert caplog.messages == [
            f"the worker at {entry.address} runs other versions than this client, so that functions and results may "
            "fail to load: numpy 2.1.0 here, 1.26.4 there"
        ]
