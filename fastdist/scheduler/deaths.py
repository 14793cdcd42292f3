"""The reports of nannies about the ends of their workers, checked and in the form that users get to see.

May import: rpc, the scheduler core.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastdist._core.scheduler.core import SchedulerCore
from fastdist.rpc.fields import items, text, whole

#: What is kept of a report: lines of each kind, their length, and keys of tasks.
MAX_LINES = 100
MAX_LINE = 500
MAX_TASKS = 20


@dataclass(frozen=True)
class DeathReport:
    """How a worker's process ended, as its nanny saw it."""

    address: str
    #: (task id, attempt) of what it was executing.
    executing: list[tuple[int, int]]
    how: str
    #: More for users, in plain values.
    details: dict[str, Any]


def read_report(fields: Mapping[str, Any], core: SchedulerCore) -> DeathReport:
    """The report in a `worker-exited` message.

    Raises
    ------
    MessageError, ValueError
        If it is none.
    """
    executing = [tuple(pair) for pair in items(fields, "executing", (list, tuple), 1 << 16)]
    for pair in executing:
        if len(pair) != 2 or not all(type(part) is int and part >= 0 for part in pair):
            raise ValueError(f"executing must hold pairs of task id and attempt, not {pair!r}")
    keys = [core.key_of_id(id) for id, _ in executing[:MAX_TASKS]]
    return DeathReport(
        address=text(fields, "address", 1024),
        executing=executing,
        how=text(fields, "reason", 100_000, default="") or "its nanny did not say how",
        details={
            "when": time.time(),
            "exit_code": whole(fields, "exit_code", -(1 << 31), default=None),
            "signal": whole(fields, "signal", 0, 1 << 16, default=None),
            "out_of_memory": text(fields, "out_of_memory", 10_000, default=None),
            "peak_memory": whole(fields, "peak_memory", default=None),
            "memory_limit": whole(fields, "memory_limit", default=None),
            "stderr": _lines(fields, "stderr"),
            "stack": _lines(fields, "stack"),
            "executing": [str(key) for key in keys if key is not None],
        },
    )


def _lines(fields: Mapping[str, Any], name: str) -> list[str]:
    found = items(fields, name, str, 10 * MAX_LINES, default=[])
    return [line[:MAX_LINE] for line in found[-MAX_LINES:]]
