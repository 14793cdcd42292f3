"""Every module and name that libraries import from dask.distributed is found, or says what it lacks when it is used."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastdist
from fastdist.compat import planned


def _load_inventory() -> ModuleType:
    path = Path(__file__).with_name("library_inventory.py")
    spec = importlib.util.spec_from_file_location("library_inventory", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


inventory = _load_inventory()
IMPORTED = sorted(
    {
        (module, name)
        for modules in inventory.NAMES.values()
        for module, names in modules.items()
        for name in names.split()
    }
)


def find(module: str, name: str) -> Any:
    home = importlib.import_module(f"fastdist.{module}" if module else "fastdist")
    return getattr(home, name)


def is_planned(value: object) -> bool:
    return isinstance(value, planned.Planned)


@pytest.mark.parametrize("module", inventory.MODULES)
def test_every_module_is_there(module: str) -> None:
    assert importlib.import_module(f"fastdist.{module}").__name__ == f"fastdist.{module}"


def test_every_name_is_there_and_the_list_of_those_without_a_counterpart_is_right() -> None:
    found = {f"{module}.{name}".removeprefix("."): find(module, name) for module, name in IMPORTED}
    assert sorted(name for name, value in found.items() if is_planned(value)) == inventory.NOT_AVAILABLE


def test_the_same_names_are_found_as_distributed() -> None:
    program = """
import importlib, sys
import fastdist.as_distributed
for line in sys.argv[1:]:
    module, _, name = line.rpartition(":")
    ours, theirs = (importlib.import_module(f"{top}.{module}".strip(".")) for top in ("fastdist", "distributed"))
    assert not module or ours is theirs, module
    assert name == "__version__" or getattr(ours, name) is getattr(theirs, name), line
for module in "MODULES".split():
    importlib.import_module(f"distributed.{module}")
""".replace("MODULES", " ".join(inventory.MODULES))
    root = str(Path(fastdist.__file__).resolve().parent.parent)
    arguments = [f"{module}:{name}" for module, name in IMPORTED]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", inventory.NOT_AVAILABLE)
def test_a_name_without_a_counterpart_says_so_when_it_is_called(path: str) -> None:
    module, _, name = path.rpartition(".")
    with pytest.raises(NotImplementedError, match=rf"distributed\.{path} is not available"):
        find(module, name)(1, x=2)


def test_names_without_a_counterpart_can_be_named() -> None:
    task, error = find("shuffle._core", "P2PBarrierTask"), find("shuffle._exceptions", "P2PConsistencyError")
    assert not isinstance(5, task) and not hasattr(task, "spec")
    assert repr(task).startswith("<distributed.shuffle._core.P2PBarrierTask")
    with pytest.raises(NotImplementedError, match=r"P2PBarrierTask\.spec"):
        _ = task.spec
    assert pickle.loads(pickle.dumps(task)) is task

    class Mine(task):
        pass

    with pytest.raises(NotImplementedError, match=r"distributed\.shuffle\._core\.P2PBarrierTask"):
        Mine()
    with pytest.raises(ZeroDivisionError):
        try:
            raise ZeroDivisionError
        except error:
            pass


def test_a_name_that_nobody_has_is_an_attribute_error() -> None:
    for module in ("shuffle._core", "comm.core", "config", "utils_test", "deploy.spec"):
        with pytest.raises(AttributeError, match=r"no attribute 'nobody'"):
            find(module, "nobody")
    with pytest.raises(AttributeError):
        _ = planned.nobody


def test_ways_to_connect_can_be_registered_but_not_used() -> None:
    from fastdist.comm.registry import Backend, backends, get_backend

    class Gateway(Backend):
        pass

    try:
        backends["gateway"] = Gateway()
        with pytest.raises(NotImplementedError, match="gateway"):
            get_backend("gateway")
        with pytest.raises(NotImplementedError, match="get_connector"):
            backends["gateway"].get_connector()
    finally:
        backends.clear()
