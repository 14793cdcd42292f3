"""Runs dask's own tests with fastdist as the default scheduler, and compares.

`python run.py` runs a selection, `--full` all of it; `--against distributed` runs the same tests on dask.distributed,
too, and reports only what fails on fastdist alone. What is listed in `known.txt`, with its reason, is expected to fail;
where the reason starts with `not run`, it is left out.
Ends with an error if anything else fails. May import: the standard library; needs pytest, pytest-timeout and dask.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: Files of tests below the package of dask; the others do not compute, or are about one local scheduler.
SELECTION = [
    "tests/test_delayed.py",
    "tests/test_base.py",
    "tests/test_task_spec.py",
    "tests/test_highgraph.py",
    "bag/tests/test_bag.py",
    "array/tests/test_reductions.py",
    "array/tests/test_slicing.py",
    "array/tests/test_rechunk.py",
    "array/tests/test_overlap.py",
    "dataframe/dask_expr/tests/test_groupby.py",
    "dataframe/dask_expr/tests/test_merge.py",
    "dataframe/dask_expr/tests/test_shuffle.py",
    "dataframe/dask_expr/tests/test_collection.py",
]
FULL = ["tests", "bag", "array", "dataframe"]
#: They test other schedulers, or need the cluster of dask.distributed.
LEFT_OUT = ("test_distributed.py", "test_local.py", "test_threaded.py", "test_multiprocessing.py", "test_cli.py")
SECONDS_FOR_ONE_TEST = 60


def main() -> int:
    """Parse the command line, run, report; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", help="files below the package of dask instead of the selection")
    parser.add_argument("--full", action="store_true", help="run all tests")
    parser.add_argument("--against", choices=["distributed", "none"], help="also run on this, and compare")
    parser.add_argument("--minutes", type=float, default=10, help="start no file later than this (default: 10)")
    options = parser.parse_args()
    files = options.files or (FULL if options.full else SELECTION)
    known = read_known(HERE / "known.txt")
    failed: set[str] = set()
    passed: set[str] = set()
    skipped_files = []
    end = time.monotonic() + 60 * options.minutes
    for file in find_files(files):
        if time.monotonic() > end:
            skipped_files.append(file)
            continue
        left_out = [test for test, reason in known.items() if reason.startswith("not run")]
        results = run(file, "fastdist", left_out)
        bad = {name for name, result in results.items() if result == "failed"}
        if bad - known.keys() and options.against:
            theirs = run(file, options.against, left_out)
            bad = {name for name in bad if theirs.get(name, "passed") == "passed"}
        failed |= bad
        passed |= {name for name, result in results.items() if result == "passed"}
        print(f"{file}: {len(results)} tests, {len(bad)} failed", flush=True)
    return report(failed, passed, known, skipped_files)


def report(failed: set[str], passed: set[str], known: dict[str, str], skipped_files: list[str]) -> int:
    """Tell what failed; 1 if it was not expected."""
    for name in sorted(failed & known.keys()):
        print(f"expected: {name}: {known[name]}")
    for name in sorted(passed & known.keys()):
        print(f"passes now, take it out of known.txt: {name}")
    unexpected = sorted(failed - known.keys())
    for name in unexpected:
        print(f"FAILED {name}")
    for file in skipped_files:
        print(f"not run, the time was over: {file}")
    print(f"{len(passed)} passed, {len(unexpected)} failed, {len(failed & known.keys())} failed as expected")
    return 1 if unexpected else 0


def package() -> Path:
    """The folder of dask."""
    found = importlib.util.find_spec("dask")
    if found is None or not found.submodule_search_locations:
        sys.exit("dask is not installed: pip install 'fastdist[dask]'")
    return Path(found.submodule_search_locations[0])


def find_files(files: list[str]) -> list[str]:
    """The files of tests, relative to the folder of dask."""
    found = []
    for name in files:
        path = package() / name
        paths = [path] if path.is_file() else sorted(path.rglob("test_*.py"))
        found += [str(each.relative_to(package())) for each in paths if each.name not in LEFT_OUT]
    return found


def run(file: str, on: str, left_out: list[str]) -> dict[str, str]:
    """Run one file of tests: for each test `passed`, `failed` or `skipped`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        # An own configuration: the environment may lie below a project whose settings pytest would find.
        settings = Path(folder, "pytest.ini")
        settings.write_text("[pytest]\n")
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "scheduler_plugin", "-p", "no:cacheprovider"]
        command += [f"--timeout={SECONDS_FOR_ONE_TEST}", f"--junitxml={report}", str(package() / file)]
        command += ["-c", str(settings), f"--rootdir={package()}", *(f"--deselect={test}" for test in left_out)]
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, "DASK_SUITES_ON": on},
            capture_output=True,
            text=True,
        )
        if not report.exists():
            print(done.stdout[-2_000:], done.stderr[-2_000:])
            return {f"{file}::(no report on {on})": "failed"}
        return dict(read_report(report, file))


def read_report(report: Path, file: str) -> list[tuple[str, str]]:
    """The results in a report of pytest."""
    results = []
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        result = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        name = case.get("name", "")
        results.append((f"{file}::{name}", result))
    return results


def read_known(path: Path) -> dict[str, str]:
    """Tests that are expected to fail, with the reason: lines of `test: reason`."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split(": ", 1) for line in lines)


if __name__ == "__main__":
    sys.exit(main())
