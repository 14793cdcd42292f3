"""Seed after seed in several processes, until the time is over, and what came of it.

May import: its siblings.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from fastdist.testing.simulation.monitor import Violation
from fastdist.testing.simulation.simulation import Report, run_seed

#: One in so many seeds has its events recorded, and replayed at the end.
REPLAYED = 4
SECONDS_PER_LINE = 10.0


@dataclass
class Campaign:
    """Which seeds are run.

    Attributes
    ----------
    first : int
        The first seed.
    count : int, optional
        How many; without end by default.
    seconds : float, optional
        When to stop.
    processes : int
        How many seeds run at a time.
    """

    first: int
    count: int | None = None
    seconds: float | None = None
    processes: int = 1

    def run(self) -> Totals:
        """Run them; a seed that fails is printed as the line of the test that keeps it fixed."""
        print(f"seeds from {self.first} on", flush=True)
        context = get_context("spawn")
        outcomes = context.Queue(1000)
        processes = [
            context.Process(target=run_some, args=(self, place, outcomes), daemon=True)
            for place in range(self.processes)
        ]
        totals = Totals()
        for process in processes:
            process.start()
        running = len(processes)
        try:
            while running:
                outcome = outcomes.get()
                if outcome is None:
                    running -= 1
                else:
                    totals.add(outcome)
        except KeyboardInterrupt:
            print("stopped")
            for process in processes:
                process.terminate()
        for process in processes:
            process.join()
        totals.show()
        return totals


def run_some(campaign: Campaign, place: int, outcomes: Any) -> None:
    """The part of one process: each so-and-so-many-th seed; None at the end."""
    deadline = None if campaign.seconds is None else time.monotonic() + campaign.seconds
    seed = campaign.first + place
    try:
        while campaign.count is None or seed < campaign.first + campaign.count:
            if deadline is not None and time.monotonic() > deadline:
                break
            outcomes.put(attempt(seed))
            seed += campaign.processes
    except KeyboardInterrupt:
        outcomes.cancel_join_thread()
    finally:
        outcomes.put(None)


def attempt(seed: int) -> Report | str:
    """The report of a seed, or what is wrong."""
    try:
        return run_seed(seed, record=seed % REPLAYED == 0)
    except Violation as violation:
        return f"assert_seed_passes({seed})  # {violation}"


class Totals:
    """Figures of all seeds so far."""

    def __init__(self) -> None:
        self.passed = self.failures = self.transitions = self.faults = self.executed = 0
        self.seconds = 0.0
        self.began = self.shown = time.monotonic()

    def add(self, outcome: Report | str) -> None:
        """Count one seed."""
        if isinstance(outcome, str):
            self.failures += 1
            print(outcome, flush=True)
            return
        self.passed += 1
        self.transitions += outcome.transitions
        self.faults += outcome.faults
        self.executed += outcome.executed
        self.seconds += outcome.seconds
        if time.monotonic() > self.shown + SECONDS_PER_LINE:
            self.shown = time.monotonic()
            self.show()

    def show(self) -> None:
        """One line."""
        print(
            f"{time.monotonic() - self.began:.0f} s: {self.passed} seeds passed, {self.failures} failed; "
            f"{self.executed} tasks executed, {self.faults} faults, {self.transitions} transitions "
            f"({self.transitions / max(self.seconds, 1e-9):.0f}/s in each process)",
            flush=True,
        )
