"""Importing fastdist: cheap, silent, and helpful when the core has not been built.

May import: the standard library, fastdist.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastdist

PACKAGE = Path(fastdist.__file__).parent
HEAVY = ("numpy", "dask", "distributed", "pandas", "tornado", "uvloop")


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that finds this very fastdist."""
    path = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
    return subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", path + code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "code", ["import fastdist", "from fastdist import Client, Future, LocalCluster, as_completed, wait"]
)
def test_importing_the_public_names_loads_nothing_heavy(code: str, tmp_path: Path) -> None:
    done = run(f"{code}\nimport json; print(json.dumps(sorted(sys.modules)))", tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert "fastdist" in loaded
    assert not [name for name in loaded if name.split(".")[0] in HEAVY]


def test_an_unknown_name_is_an_attribute_error(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = fastdist.no_such_name


def test_every_public_name_exists() -> None:
    for name in fastdist.__all__:
        assert getattr(fastdist, name) is not None
    assert set(fastdist.__all__) <= set(dir(fastdist))


def test_an_unbuilt_core_names_the_command_to_run(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "fastdist", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    code = "import sys; sys.path.insert(0, '.')\nimport fastdist._core.codec.frames"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert "make dev" in done.stderr
