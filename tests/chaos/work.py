"""The process of the client: runs one workload and writes how it went.

    python -m tests.chaos.work W1 tcp://... LEDGER RESULT

May import: tests.chaos.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from tests.chaos import workloads


def main() -> None:
    """Run the workload that the command line names."""
    name, address, ledger, result = sys.argv[1:]
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    outcome: dict[str, object] = {"outcome": "passed"}
    try:
        client = workloads.system().Client(address, timeout=30)
        try:
            client.wait_for_workers(int(os.environ["CHAOS_WORKERS"]), timeout=30)
            workloads.RUN[name](client, ledger)
        finally:
            Path(result).with_suffix(".working").touch()
        client.close()
    except BaseException as error:
        kind = "wrong" if isinstance(error, workloads.Wrong) else "failed"
        outcome = {"outcome": kind, "reason": f"{type(error).__name__}: {error}"[:2000]}
        traceback.print_exc()
    partial = Path(result).with_suffix(".partial")
    partial.write_text(json.dumps(outcome))
    os.replace(partial, result)


if __name__ == "__main__":
    main()
