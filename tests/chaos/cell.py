"""One cell of the chaos matrix: a cluster, a workload, a fault in the middle of it, and the verdict.

    python -m tests.chaos.cell F1-W2 --seed 3 --folder FOLDER

May import: tests.chaos.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.chaos import network, workloads
from tests.chaos.faults import INJECT, Unavailable
from tests.chaos.ledger import Ledger
from tests.chaos.matrix import Cell
from tests.chaos.site import Site, memory_limit, until

#: After these faults nobody needs to run again what a living process has finished, as long as it is wanted.
_NO_RERUNS = {"F1", "F2", "F3", "F6", "F9", "F10", "F12"}
_AFTERMATH = 30.0


class Failure(Exception):
    """The verdict, with its outcome: failed, wrong or hung."""

    def __init__(self, outcome: str, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class Trial:
    """One run of one cell."""

    def __init__(self, cell: Cell, options: argparse.Namespace) -> None:
        self.cell = cell
        self.options = options
        self.generator = random.Random(f"{cell}-{options.seed}")
        self.site = Site(
            options.folder,
            system=options.system,
            memory_limit=memory_limit(cell.workload),
            journal=cell.fault in ("F3", "F10") and options.system == "fastdist",
            disk=(4 << 30) if cell.workload == "W6" else (64 << 20),
        )
        self.record: dict[str, Any] = {}

    def run(self) -> None:
        """Let it happen.

        Raises
        ------
        Failure
            The cell did not pass.
        Unavailable
            This machine does not permit the fault.
        """
        begin = time.monotonic()
        process, result = self.site.start_client(self.cell.workload)
        mark = int(self.generator.uniform(0.05, 0.5) * workloads.TOTALS[self.cell.workload])
        self._wait_for_mark(mark, process)
        injected = time.monotonic()
        if self.cell.fault == "F4":
            self.site.kill(process.pid)
            process.wait(10)
            process, result = self.site.start_client(self.cell.workload)
        else:
            INJECT[self.cell.fault](self.site, self.generator, self.options.scale)
        healed = time.monotonic()
        self.record["mark"], self.record["missed"] = mark, result.exists()
        left = self.options.timeout - (healed - begin)
        self._await_result(process, result, left, f"the workload did not end within {self.options.timeout:g} s")
        ended = time.monotonic()
        self.record["seconds"] = round(ended - begin, 2)
        self.record["after_healing"] = round(max(0.0, ended - healed), 2)
        self._judge_ledger(injected)
        process, result = self.site.start_client("probe")
        self._await_result(process, result, _AFTERMATH, "after the fault the cluster did not work again")

    def _wait_for_mark(self, mark: int, process: subprocess.Popen[bytes]) -> None:
        ledger = self.site.ledger

        def reached() -> bool:
            if process.poll() is not None:
                raise Failure("failed", "the client ended before the fault")
            return ledger.exists() and ledger.read_bytes().count(b" start ") >= mark

        try:
            until(reached, f"the start of task {mark}", self.options.timeout)
        except TimeoutError as error:
            raise Failure("hung", str(error)) from error

    def _await_result(self, process: subprocess.Popen[bytes], result: Path, patience: float, what: str) -> None:
        try:
            process.wait(max(1.0, patience))
        except subprocess.TimeoutExpired:
            self.site.dump()
            raise Failure("hung", what) from None
        if not result.exists():
            raise Failure("failed", f"the client ended with code {process.returncode}")
        outcome = json.loads(result.read_text())
        if outcome["outcome"] != "passed":
            raise Failure(outcome["outcome"], outcome["reason"])

    def _judge_ledger(self, injected: float) -> None:
        ledger = Ledger.read(self.site.ledger)
        self.record["executions"] = sum(map(len, ledger.starts.values()))
        self.record["reruns"] = ledger.reruns()
        recovery = ledger.recovery(self.site.dead, injected)
        self.record["recovery"] = None if recovery is None else round(recovery, 3)
        avoidable = ledger.avoidable(self.site.dead) if self.cell.workload == "W1" else []
        self.record["avoidable"] = len(avoidable)
        if avoidable and self.cell.fault in _NO_RERUNS and self.options.system == "fastdist":
            raise Failure("failed", f"{len(avoidable)} tasks ran again in vain, such as {avoidable[0]}")


def main() -> None:
    """Run the cell that the command line names; prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--system", choices=["fastdist", "distributed"], default="fastdist")
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--scale", type=float, default=1.0, help="of the times that faults last")
    options = parser.parse_args()
    cell = Cell(*options.cell.split("-"))
    record: dict[str, Any] = {"outcome": "passed", "network": "namespaces" if network.is_private() else "proxy"}
    trial = None
    try:
        trial = Trial(cell, options)
        trial.run()
    except Failure as failure:
        record.update(outcome=failure.outcome, reason=str(failure))
    except Unavailable as reason:
        record.update(outcome="skipped", reason=str(reason))
    except Exception as error:
        traceback.print_exc()
        record.update(outcome="failed", reason=f"the harness: {type(error).__name__}: {error}")
    if trial is not None:
        record.update(trial.record)
        left = trial.site.close()
        if left and record["outcome"] == "passed" and options.system == "fastdist":
            record.update(outcome="failed", reason=f"processes were left over: {left}")
    print(json.dumps(record), flush=True)
    sys.exit(0 if record["outcome"] in ("passed", "skipped") else 1)


if __name__ == "__main__":
    main()
