"""Runs seed after seed: `python -m fastdist.testing.simulation --seconds 180`; `--help` tells the rest.

May import: its siblings.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from fastdist.testing.simulation.campaign import Campaign


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if a seed failed, or none passed."""
    parser = argparse.ArgumentParser(prog="python -m fastdist.testing.simulation")
    parser.add_argument("--first", type=int, default=None, help="the first seed; drawn from the clock by default")
    parser.add_argument("--count", type=int, default=None, help="how many seeds; without end by default")
    parser.add_argument("--seconds", type=float, default=None, help="stop after so many seconds")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many run at a time")
    options = parser.parse_args(arguments)
    first = int(time.time()) % 1_000_000 * 1000 if options.first is None else options.first
    totals = Campaign(first, options.count, options.seconds, options.processes).run()
    return 1 if totals.failures or not totals.passed else 0


if __name__ == "__main__":
    sys.exit(main())
