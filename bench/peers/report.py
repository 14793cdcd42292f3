"""The table: medians, spread, time on a core per role, and ratios to fastdist.

May import: `peers.workloads`.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any

from peers.workloads import WORKLOADS

REFERENCE = "fastdist"
ROLES = ("scheduler", "worker", "client", "other", "all")
Runs = dict[str, dict[str, list[dict[str, Any]]]]


def microseconds(seconds: float) -> str:
    """Microseconds with three digits that count."""
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def per_task(runs: Iterable[dict[str, Any]]) -> list[float]:
    """Seconds a task, sorted."""
    return sorted(run["seconds"] / run["tasks"] for run in runs)


def row_of(runs: list[dict[str, Any]], reference: list[float]) -> list[str]:
    """Wall time a task with its spread, CPU a task by role, and the ratio to the reference."""
    times = per_task(runs)
    cpu = []
    for role in ROLES:
        spent = [run["cpu"][role] / run["tasks"] for run in runs if role in run["cpu"]]
        cpu.append(microseconds(median(spent)) if spent else "-")
    submit = [run["submit_cpu"] / run["tasks"] for run in runs if "submit_cpu" in run]
    ratio = f"{median(times) / median(reference):.2f}x" if reference else "-"
    return [
        f"{runs[0]['tasks']:,}",
        microseconds(median(times)),
        f"{microseconds(times[0])}..{microseconds(times[-1])}",
        *cpu,
        microseconds(median(submit)) if submit else "-",
        ratio,
    ]


def special(kind: str, runs: list[dict[str, Any]]) -> list[str]:
    """The lines of the workloads that are not a time per task."""
    if kind == "latency":
        return [
            f"{name} {microseconds(median(run[name] for run in runs))} us" for name in ("p50", "p90", "p99")
        ]
    if kind == "memory":
        held = median(run["bytes_per_task"] for run in runs)
        left = median(run["left_bytes"] for run in runs) / 2**20
        return [
            f"{held:,.0f} bytes per held task of {runs[0]['tasks']:,}",
            f"{left:.2f} MiB above the start after release",
        ]
    if kind == "peak":
        return [f"{median(run['peak_bytes'] for run in runs) / 2**20:,.0f} MiB above the start"]
    return [f"{name} {median(run['times'][name] for run in runs):.3f} s" for name in runs[0]["times"]]


def table(lines: list[list[str]]) -> str:
    """Lines of cells, as Markdown with aligned columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def report(results: Runs) -> str:
    """Everything that was measured, one table a workload."""
    parts = []
    for workload, peers in results.items():
        kind, title = WORKLOADS[workload].kind, WORKLOADS[workload].title
        good = {peer: [run for run in runs if "error" not in run] for peer, runs in peers.items()}
        good = {peer: runs for peer, runs in good.items() if runs}
        if not good:
            continue
        if kind in ("map", "graph"):
            reference = per_task(good.get(REFERENCE, []))
            head = [
                "peer",
                "tasks",
                "us/task",
                "min..max",
                *(f"cpu {role}" for role in ROLES),
                "cpu map()",
                "to fastdist",
            ]
            body = table([head, *([peer, *row_of(runs, reference)] for peer, runs in good.items())])
        else:
            body = "\n".join(f"- {peer}: " + ", ".join(special(kind, runs)) for peer, runs in good.items())
        parts.append(f"### {workload}: {title}\n\n{body}\n")
    return "\n".join(parts)
