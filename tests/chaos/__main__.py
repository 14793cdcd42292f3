"""`python -m tests.chaos`: the chaos matrix, cell by cell; results go to a file, and what is there is not run again.

Each cell runs in a process of its own, in network and mount namespaces where the machine permits; a cell that takes too
long is killed. A cell passes if all its seeds do. May import: tests.chaos.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.chaos import network
from tests.chaos.matrix import FAULTS, WORKLOADS, Cell, choose_cells

ROOT = Path(__file__).resolve().parent.parent.parent


class Sweep:
    """The cells and seeds to run, and the file of their results."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.cells = choose_cells(options.cells)
        self.kept = Path(tempfile.mkdtemp(prefix="chaos-", dir=options.folder))
        self._lock = threading.Lock()
        self.records: dict[tuple[str, int], dict[str, Any]] = {}
        if options.results.exists() and not options.fresh:
            for line in options.results.read_text().splitlines():
                record = json.loads(line)
                if record["system"] == options.system:
                    self.records[record["cell"], record["seed"]] = record

    def run(self) -> bool:
        """Run what is missing; True if all chosen cells passed."""
        wanted = [(cell, seed) for seed in range(self.options.seeds) for cell in self.cells]
        missing = [(cell, seed) for cell, seed in wanted if (str(cell), seed) not in self.records]
        why_not = network.missing()
        if why_not:
            print(f"no namespaces: {why_not}; the network is disturbed by a proxy only", flush=True)
        print(f"{len(wanted)} runs, {len(wanted) - len(missing)} of them done; logs in {self.kept}", flush=True)
        with concurrent.futures.ThreadPoolExecutor(self.options.jobs) as pool:
            list(pool.map(lambda pair: self._run_one(*pair, private=not why_not), missing))
        return self._report(wanted)

    def _run_one(self, cell: Cell, seed: int, *, private: bool) -> None:
        folder = self.kept / f"{cell}-{seed}"
        folder.mkdir()
        options = self.options
        command = [
            sys.executable, "-m", "tests.chaos.cell", str(cell), "--seed", str(seed), "--folder", str(folder),
            "--system", options.system, "--timeout", str(options.timeout), "--scale", str(options.scale),
        ]  # fmt: skip
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        if private:
            command = ["unshare", "--net", "--mount", *command]
            environ[network.PRIVATE] = "1"
        begin = time.monotonic()
        process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            output, errors = process.communicate(timeout=options.timeout + 120)
            (folder / "cell.log").write_text(errors)
            record = json.loads(output.splitlines()[-1])
        except subprocess.TimeoutExpired:
            record = {"outcome": "hung", "reason": "the harness itself did not end"}
        except (ValueError, IndexError):
            what = f"the harness ended with code {process.returncode}: {errors[-500:]}"
            record = {"outcome": "failed", "reason": what}
        finally:
            _kill_group(process.pid)
            process.wait()
        names = {"system": options.system, "cell": str(cell), "seed": seed, "scale": options.scale}
        self._keep({**names, **record, "whole": round(time.monotonic() - begin, 1)})
        if record["outcome"] in ("passed", "skipped"):
            shutil.rmtree(folder, ignore_errors=True)

    def _keep(self, record: dict[str, Any]) -> None:
        with self._lock:
            self.records[record["cell"], record["seed"]] = record
            with open(self.options.results, "a") as file:
                file.write(json.dumps(record) + "\n")
            what = " ".join(str(record.get(name)) for name in ("cell", "seed", "outcome", "whole"))
            print(what, record.get("reason", ""), flush=True)

    def _report(self, wanted: list[tuple[Cell, int]]) -> bool:
        outcomes: dict[Cell, set[str]] = {}
        for cell, seed in wanted:
            outcomes.setdefault(cell, set()).add(self.records[str(cell), seed]["outcome"])
        print("\n" + table(outcomes))
        passed = [cell for cell, found in outcomes.items() if found == {"passed"}]
        skipped = [cell for cell, found in outcomes.items() if found == {"skipped"}]
        print(f"{len(passed)} of {len(outcomes)} cells passed, {len(skipped)} skipped")
        return len(passed) + len(skipped) == len(outcomes)


def table(outcomes: dict[Cell, set[str]]) -> str:
    """The matrix in Markdown: + passed, - failed, . skipped; a cell that passes sometimes has failed."""
    lines = ["| | " + " | ".join(WORKLOADS) + " |", "|---" * (len(WORKLOADS) + 1) + "|"]
    for fault in FAULTS:
        marks = []
        for workload in WORKLOADS:
            found = outcomes.get(Cell(fault, workload))
            marks.append("" if found is None else {"passed": "+", "skipped": "."}.get("".join(found), "-"))
        if any(marks):
            lines.append(f"| {fault} {FAULTS[fault]} | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def main() -> int:
    """Run the matrix; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", default="", help='such as "F1,W2,F3-W4"; all by default')
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds of each cell")
    parser.add_argument("--results", type=Path, default=Path("chaos.jsonl"), help="the file that is carried on")
    parser.add_argument("--fresh", action="store_true", help="run also what is in the file")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for the workload of a cell")
    parser.add_argument("--scale", type=float, default=1.0, help="of the times that faults last")
    parser.add_argument("--system", choices=["fastdist", "distributed"], default="fastdist")
    parser.add_argument("--folder", type=Path, default=None, help="where the logs of failed cells are kept")
    return 0 if Sweep(parser.parse_args()).run() else 1


if __name__ == "__main__":
    sys.exit(main())
