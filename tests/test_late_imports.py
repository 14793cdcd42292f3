"""Being told of imports: functions are called once, after the module, and nothing else changes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fastdist.late_imports import after_import


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules can be imported, and are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_functions_are_called_when_the_import_is_done(folder: Path) -> None:
    (folder / "late_one.py").write_text("first = 1\n")
    seen: list[ModuleType] = []
    after_import("late_one", seen.append)
    after_import("late_one", lambda module: seen.append(module.first))
    assert not seen
    module = importlib.import_module("late_one")
    assert seen == [module, 1]
    importlib.reload(module)
    assert seen == [module, 1]


def test_what_is_imported_already_is_told_at_once() -> None:
    seen: list[str] = []
    after_import("json", lambda module: seen.append(module.__name__))
    assert seen == ["json"] or "json" not in sys.modules


def test_a_module_that_is_being_imported_is_told_at_its_end(folder: Path) -> None:
    (folder / "late_two.py").write_text(
        "from fastdist.late_imports import after_import\n"
        "after_import('late_two', lambda module: module.seen.append(module.last))\n"
        "seen = []\nlast = 2\n"
    )
    seen: list[ModuleType] = []
    after_import("late_two", seen.append)
    module = importlib.import_module("late_two")
    assert module.seen == [2]
    assert seen == [module]


def test_the_loader_is_the_one_of_python(folder: Path) -> None:
    (folder / "late_three.py").write_text("")
    after_import("late_three", lambda module: None)
    module = importlib.import_module("late_three")
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert module.__spec__ is not None and module.__spec__.loader is module.__loader__


def test_a_module_that_does_not_exist_is_still_not_found() -> None:
    after_import("no_such_module_anywhere", lambda module: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_module_anywhere")


def test_an_import_that_fails_tells_nobody(folder: Path) -> None:
    (folder / "late_four.py").write_text("1 / 0\n")
    seen: list[ModuleType] = []
    after_import("late_four", seen.append)
    with pytest.raises(ZeroDivisionError):
        importlib.import_module("late_four")
    assert not seen
