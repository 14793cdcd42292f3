"""The model test fails when the core is wrong: ten bugs are planted, one at a time, and each must be noticed.

Each bug is a change of text in one source of the scheduler core, compiled without optimisation into a copy of the
package. It takes minutes, so it runs only when it is asked for: `pytest -m slow tests/model/test_mutations.py`.
May import: fastdist (to find it), the standard library. Needs Cython, a compiler and the sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import fastdist

ROOT = Path(__file__).resolve().parents[2]
SCHEDULER = Path("fastdist/_core/scheduler")
WALKS = "40"


@dataclass(frozen=True)
class Bug:
    """A change of one source file that makes the core wrong."""

    file: str
    right: str
    wrong: str


BUGS = {
    "a stale attempt is believed": Bug("results.pyx", " or task.attempt != row.attempt:", ":"),
    "inputs are never released": Bug(
        "transitions.pyx",
        "    drop_waiter_of_inputs(model, task)\n    tell_dependents(model, task)\n",
        "    tell_dependents(model, task)\n",
    ),
    "data stays on the workers": Bug(
        "transitions.pyx",
        "        tell_free(model, model.worker(worker), id)\n        unhold(model, <uint32_t>id, worker)\n",
        "        unhold(model, <uint32_t>id, worker)\n",
    ),
    "what was sent ahead is not withdrawn": Bug(
        "transitions.pyx",
        "    withdraw_ahead(model, slot)\n    leave_worker(model, slot)\n",
        "    leave_worker(model, slot)\n",
    ),
    "the way of the data costs nothing": Bug(
        "placement.pyx", "model.load.seconds[least] + model.latency + ", "model.load.seconds[least] + "
    ),
    "workers claim twice their share": Bug("queue.pyx", "left // (2 * (", "left // (1 * ("),
    "a late client is told nothing": Bug(
        "intake.pyx",
        "            report_current(model, slot, client.number, columns.header[0] + slots[i + 1])\n",
        "            pass\n",
    ),
    "a task is given up one death too early": Bug(
        "deaths.pyx",
        "if task.suspicious > model.allowed_failures:",
        "if task.suspicious >= model.allowed_failures:",
    ),
    "anybody cancels for everybody": Bug(
        "control.pyx", "if id == 0 or (only != NONE and owner != only):", "if id == 0:"
    ),
    "started tasks are asked back": Bug(
        "stealing.pyx",
        "if not task.flags & (RETRACTING | STARTED):",
        "if not task.flags & RETRACTING:",
    ),
}


def copy_of_package(target: Path) -> None:
    """The sources of this tree and the compiled modules of the fastdist that is tested."""
    shutil.copytree(ROOT / "fastdist", target / "fastdist", ignore=shutil.ignore_patterns("__pycache__"))
    installed = Path(fastdist.__file__).parent
    for module in installed.rglob("*.so"):
        destination = target / "fastdist" / module.relative_to(installed)
        if not destination.exists():
            shutil.copy2(module, destination)
    shutil.copy2(ROOT / "setup.py", target)


def compile_module(target: Path, file: str) -> None:
    """Build one module of the copy in place."""
    module = target / SCHEDULER / file
    for built in module.parent.glob(f"{module.stem}.*.so"):
        built.unlink()
    only = (SCHEDULER / file).as_posix()
    environment = {**os.environ, "FASTDIST_ONLY": only, "FASTDIST_OPTIMISE": "-O0", "FASTDIST_JOBS": "1"}
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(command, cwd=target, env=environment, check=True, capture_output=True)


def run_model_test(target: Path) -> subprocess.CompletedProcess[str]:
    """The walks of the model test, against the copy."""
    script = (
        "import sys; sys.path[:0] = [sys.argv[1]]; sys.path.append(sys.argv[2])\n"
        "import fastdist; assert fastdist.__file__.startswith(sys.argv[1]), fastdist.__file__\n"
        "from tests.model.test_scheduler_core import CoreMachine\n"
        "from tests.model.walk import Walk\n"
        "for seed in range(int(sys.argv[3])): Walk(CoreMachine(), seed).run(300)\n"
    )
    command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-s", "-c", script]
    command += [str(target), str(ROOT), WALKS]
    return subprocess.run(command, cwd=target, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BUGS)
def test_the_model_notices(name: str, tmp_path: Path) -> None:
    pytest.importorskip("Cython")
    bug = BUGS[name]
    copy_of_package(tmp_path)
    source = tmp_path / SCHEDULER / bug.file
    text = source.read_text()
    assert text.count(bug.right) == 1, "the source has changed: plant the bug anew"
    source.write_text(text.replace(bug.right, bug.wrong))
    compile_module(tmp_path, bug.file)
    outcome = run_model_test(tmp_path)
    assert outcome.returncode != 0, "the model test did not notice"
    assert "AssertionError" in outcome.stderr, outcome.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_model_has_nothing_against_the_core_as_it_is(tmp_path: Path) -> None:
    pytest.importorskip("Cython")
    copy_of_package(tmp_path)
    compile_module(tmp_path, "results.pyx")
    outcome = run_model_test(tmp_path)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
