"""The same snippets on dask.distributed and on fastdist, each library in one process: the outcomes are the same."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("run.py")

NAMES = [
    node.name
    for path in sorted(SCRIPT.parent.glob("about_*.py"))
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef)
    and any(isinstance(each, ast.Name) and each.id == "snippet" for each in node.decorator_list)
]


def run(library: str) -> dict[str, str]:
    """The outcome of every snippet, by name."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), library],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(outcomes, dict)
    return {name: f"{outcome}" for name, outcome in outcomes.items()}


@pytest.fixture(scope="module")
def peer() -> dict[str, str]:
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("dask.distributed is not installed")
    return run("distributed")


@pytest.fixture(scope="module")
def ours(peer: dict[str, str]) -> dict[str, str]:
    return run("fastdist")


@pytest.mark.parametrize("name", NAMES)
def test_the_outcome_is_the_same(name: str, peer: dict[str, str], ours: dict[str, str]) -> None:
    assert ours[name] == peer[name]


def test_every_snippet_comes_to_an_end(peer: dict[str, str]) -> None:
    """A snippet that fails as a whole, on both sides alike, compares nothing."""
    assert [name for name in NAMES if peer[name].startswith("raises ")] == []
