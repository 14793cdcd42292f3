"""Names of dask.distributed whose feature comes later: each says so when it is used. Imports nothing of fastdist."""

from __future__ import annotations

from typing import Any, NoReturn


def refuse(name: str, instead: str = "") -> NoReturn:
    """Raise the error of something that is not built yet.

    Raises
    ------
    NotImplementedError
        Always.
    """
    raise NotImplementedError(f"{name} is not available yet{f'; {instead}' if instead else ''}")


def performance_report(
    filename: str = "dask-report.html", stacklevel: int = 1, mode: str | None = None, storage_options: Any = None
) -> NoReturn:
    """Write a report of what runs in a block: not available yet.

    Raises
    ------
    NotImplementedError
        Always.
    """
    refuse("performance_report", "get_task_stream records when which task executed where")


def span(*tags: str) -> NoReturn:
    """Tag the tasks that are submitted in a block: not available yet.

    Raises
    ------
    NotImplementedError
        Always.
    """
    refuse("span")


def memray_workers(
    directory: Any = "memray-profiles",
    workers: Any = None,
    report_args: Any = ("flamegraph", "--temporal", "--leaks"),
    fetch_reports_parallel: bool | int = True,
    **memray_kwargs: Any,
) -> NoReturn:
    """Profile the memory of workers: not available yet.

    Raises
    ------
    NotImplementedError
        Always.
    """
    refuse("memray_workers")


def memray_scheduler(
    directory: Any = "memray-profiles",
    report_args: Any = ("flamegraph", "--temporal", "--leaks"),
    **memray_kwargs: Any,
) -> NoReturn:
    """Profile the memory of the scheduler: not available yet.

    Raises
    ------
    NotImplementedError
        Always.
    """
    refuse("memray_scheduler")


class MemorySampler:
    """Follow the memory of a cluster while a block runs: not available yet.

    Raises
    ------
    NotImplementedError
        Always.
    """

    def __init__(self) -> None:
        refuse("MemorySampler", "client.scheduler_info() tells the memory of each worker")
