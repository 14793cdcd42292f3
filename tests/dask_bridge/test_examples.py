"""The examples that need dask, small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("dask.array")


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("taxi_rides.py", ["--days", "8", "--rides", "100"], "rides in"),
        ("image_stack.py", ["--images", "3", "--size", "128"], "cells: [3, 4, 5]"),
    ],
)
def test_examples_find_what_they_should(name: str, arguments: list[str], expected: str) -> None:
    if name == "taxi_rides.py":
        pytest.importorskip("dask.dataframe")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
