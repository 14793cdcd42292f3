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
    ("name", "needs", "expected"),
    [
        ("taxi_rides.py", "dask.dataframe", "rides in"),
        ("image_stack.py", "dask.array", "cells: [3, 4, 5]"),
        ("grid_search.py", "sklearn", "best of 6 fits on 2 workers"),
    ],
)
def test_examples_find_what_they_should(name: str, needs: str, expected: str) -> None:
    pytest.importorskip(needs)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), "--small"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
