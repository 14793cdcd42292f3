"""What a cluster tells of itself: its workers, its logs, how it looks in terminals and notebooks.

May import: every layer below `deploy`.
"""

from __future__ import annotations

import asyncio
import datetime
import html
import time
from collections.abc import Mapping
from typing import Any

from fastdist.deploy.logs import Log, Logs
from fastdist.errors import WorkerStartTimeoutError
from fastdist.status import Status

#: Lines of its own log that a cluster keeps.
MAX_LOG_LINES = 1000
#: Seconds between two looks while `wait_for_workers` waits.
WORKERS_PAUSE = 0.01


class Information:
    """The part of Cluster that answers questions; the rest is in `fastdist.deploy.cluster`."""

    quiet: bool
    _log_lines: list[tuple[datetime.datetime, str]]
    _supports_scaling = True

    @property
    def scheduler_info(self) -> dict[str, Any]:
        """What the scheduler says of itself and its workers; empty before the cluster is started."""
        return {}

    @property
    def dashboard_link(self) -> str | None:
        """Address of the dashboard; there is none yet."""
        return None

    def _known_workers(self) -> dict[str, dict[str, Any]]:
        return dict(self.scheduler_info.get("workers", {}))

    @property
    def observed(self) -> set[Any]:
        """Names of the workers that are there."""
        return {worker["name"] for worker in self._known_workers().values()}

    @property
    def requested(self) -> set[Any]:
        """Names of the workers that were started."""
        return self.observed

    @property
    def plan(self) -> set[Any]:
        """Names of the workers that there should be."""
        return self.requested

    # -- workers ---------------------------------------------------------------------------------------------

    def adapt(self, Adaptive: Any = None, **kwargs: Any) -> Any:
        """Not available yet: scale by the load."""
        raise NotImplementedError("Cluster.adapt (adaptive scaling) is not available yet; use scale(n)")

    def wait_for_workers(self, n_workers: int, timeout: float | str | None = None) -> Any:
        """Wait until that many workers run.

        Raises
        ------
        WorkerStartTimeoutError
            If they do not within `timeout` seconds.
        """
        if not isinstance(n_workers, int) or n_workers < 1:
            raise ValueError(f"n_workers must be a positive int, not {n_workers!r}")
        return self.sync(self._wait_for_workers, n_workers, timeout)  # type: ignore[attr-defined]

    async def _wait_for_workers(self, n_workers: int, timeout: float | str | None) -> None:
        from fastdist.config import parse_timedelta

        seconds = None if timeout is None else parse_timedelta(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            info = await self._fresh_info()
            running = sum(
                worker.get("status", "running") == "running" for worker in info.get("workers", {}).values()
            )
            if running >= n_workers:
                return
            if deadline is not None and seconds is not None and time.monotonic() > deadline:
                raise WorkerStartTimeoutError(running, n_workers, seconds)
            await asyncio.sleep(WORKERS_PAUSE)

    async def _fresh_info(self) -> Mapping[str, Any]:
        """`scheduler_info`, asked for now."""
        return self.scheduler_info

    # -- logs ------------------------------------------------------------------------------------------------

    def _log(self, message: str) -> None:
        """Tell the user what happens, unless the cluster is `quiet`, and keep it for `get_logs`."""
        self._log_lines.append((datetime.datetime.now(), message))
        del self._log_lines[:-MAX_LOG_LINES]
        if not self.quiet:
            print(message)

    def get_logs(self, cluster: bool = True, scheduler: bool = True, workers: Any = True) -> Any:
        """The last lines of the logs.

        Parameters
        ----------
        cluster, scheduler : bool
            Whether to show those of this object and of the scheduler.
        workers : bool or list
            Whether to show those of the workers, or of which.

        Returns
        -------
        Logs
            Name -> text: "Cluster", "Scheduler", addresses of workers.
        """
        return self.sync(self._get_logs, cluster, scheduler, workers)  # type: ignore[attr-defined]

    async def _get_logs(self, cluster: bool, scheduler: bool, workers: Any) -> Logs:
        logs = Logs()
        if cluster:
            logs["Cluster"] = Log("\n".join(line for _, line in self._log_lines))
        if scheduler:
            logs["Scheduler"] = _as_log(await self._scheduler_logs())
        if workers:
            chosen = None if workers is True else list(workers)
            for address, lines in (await self._worker_logs(chosen)).items():
                logs[address] = _as_log(lines)
        return logs

    async def _scheduler_logs(self) -> Any:
        return (await self.scheduler_comm.call("get-logs"))["lines"]  # type: ignore[attr-defined]

    async def _worker_logs(self, workers: list[str] | None) -> dict[str, Any]:
        reply = await self.scheduler_comm.call("get-worker-logs", workers=workers)  # type: ignore[attr-defined]
        return dict(reply["logs"])

    # -- for people ------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        workers = self._known_workers().values()
        limits = [worker.get("memory_limit") or 0 for worker in workers]
        memory = f", memory={format_bytes(sum(limits))}" if limits and all(limits) else ""
        threads = sum(worker.get("nthreads", 0) for worker in workers)
        name, address = self.name, self.scheduler_address  # type: ignore[attr-defined]
        return f"{type(self).__name__}({name}, {address!r}, workers={len(limits)}, threads={threads}{memory})"

    def _html_rows(self) -> dict[str, str]:
        workers = self._known_workers().values()
        limits = [worker.get("memory_limit") or 0 for worker in workers]
        return {
            "Scheduler": self.scheduler_address,  # type: ignore[attr-defined]
            "Dashboard": self.dashboard_link or "none",
            "Workers": str(len(workers)),
            "Total threads": str(sum(worker.get("nthreads", 0) for worker in workers)),
            "Total memory": format_bytes(sum(limits)) if limits and all(limits) else "no limit",
            "Status": self.status.name,  # type: ignore[attr-defined]
        }

    def _repr_html_(self, cluster_status: Any = None) -> str:
        rows = dict(self._html_rows())
        if isinstance(cluster_status, Status):
            rows["Status"] = cluster_status.name
        cells = "".join(
            f"<tr><td style='text-align: left'><b>{html.escape(name)}</b></td>"
            f"<td style='text-align: left'>{html.escape(value)}</td></tr>"
            for name, value in rows.items()
        )
        title = f"{type(self).__name__} {self.name}"  # type: ignore[attr-defined]
        return f"<div><h3>{html.escape(title)}</h3><table>{cells}</table></div>"

    def _ipython_display_(self, **kwargs: Any) -> None:
        from IPython.display import display

        display({"text/plain": repr(self), "text/html": self._repr_html_()}, raw=True)


def _as_log(lines: Any) -> Log:
    # The newest come first.
    return Log("\n".join(str(line[-1]) for line in reversed(list(lines))))


def format_bytes(count: int) -> str:
    """A size for people.

    Examples
    --------
    >>> format_bytes(8_000_000_000)
    '7.45 GiB'
    """
    size = float(count)
    for unit in ("B", "kiB", "MiB", "GiB", "TiB"):
        if size < 1024 * 0.9 or unit == "TiB":
            break
        size /= 1024
    return f"{count} B" if unit == "B" else f"{size:.2f} {unit}"
