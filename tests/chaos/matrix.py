"""The chaos matrix: its faults, its workloads, and how cells are chosen. May import: the standard library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FAULTS = {
    "F1": "kill -9 of a worker",
    "F2": "kill -9 of a nanny",
    "F3": "kill -9 of the scheduler, which is started again",
    "F4": "kill -9 of the client, another does the work again",
    "F5": "SIGSTOP of a worker for 20 s",
    "F6": "SIGSTOP of the scheduler for 20 s",
    "F7": "a worker cut off the network for 30 s",
    "F8": "a worker cut off in one direction for 30 s",
    "F9": "10 % of packets lost, 50 ms and jitter added",
    "F10": "the disk of the workers and the journal full for 8 s",
    "F11": "sockets killed again and again, and no file descriptors left in the scheduler",
    "F12": "a worker killed by the kernel for its memory",
}

WORKLOADS = {
    "W1": "a map of 10 000 tasks",
    "W2": "a deep tree reduction",
    "W3": "a shuffle of dataframes by tasks",
    "W4": "an actor, locks, queues, variables and events",
    "W5": "scatter, cancel and release by two clients",
    "W6": "results of three times the memory",
}


@dataclass(frozen=True)
class Cell:
    """One fault in one workload."""

    fault: str
    workload: str

    def __str__(self) -> str:
        return f"{self.fault}-{self.workload}"


def all_cells() -> Iterator[Cell]:
    """All cells of the matrix, row by row."""
    for fault in FAULTS:
        for workload in WORKLOADS:
            yield Cell(fault, workload)


def choose_cells(text: str) -> list[Cell]:
    """The cells that a text such as `"F1,W2,F3-W4"` names: rows, columns and single cells; all if it is empty.

    Raises
    ------
    ValueError
        A part names nothing in the matrix.
    """
    parts = [part for part in text.replace(" ", ",").split(",") if part]
    for part in parts:
        fault, _, workload = part.partition("-")
        known = fault in FAULTS and workload in WORKLOADS if workload else part in FAULTS or part in WORKLOADS
        if not known:
            raise ValueError(f"{part!r} is neither a fault (F1-F12), a workload (W1-W6) nor a cell such as F1-W2")
    if not parts:
        return list(all_cells())
    return [cell for cell in all_cells() if {cell.fault, cell.workload, str(cell)} & set(parts)]
