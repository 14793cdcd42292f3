"""A cluster whose scheduler is a process of its own, too.

May import: every layer below `deploy`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdist.aliases import names_of
from fastdist.client.starting import read_scheduler_file
from fastdist.deploy.process import ProcessInterface, import_class
from fastdist.deploy.spec import SpecCluster

#: Seconds for the process to start, and to end after a signal.
START_TIMEOUT = 30.0
END_TIMEOUT = 5.0
PAUSE = 0.01


class Subprocess(ProcessInterface):
    """A server in a child process, described as `fastdist.cli.spec` reads it.

    Parameters
    ----------
    spec : dict
        {"cls": dotted name, "opts": keywords}.
    arguments : list of str
        Positional arguments of the class.
    name : optional
        What the cluster calls it.
    """

    def __init__(self, spec: Mapping[str, Any], arguments: list[str] | None = None, name: Any = None) -> None:
        super().__init__(name=name)
        self._spec = dict(spec)
        self._arguments = list(arguments or [])
        self.process: subprocess.Popen[bytes] | None = None

    def _launch(self) -> None:
        command = [sys.executable, "-m", "fastdist.cli.spec", *self._arguments]
        command += ["--spec", json.dumps(self._spec), "--parent", str(os.getpid())]
        # The end of the parent, or Ctrl-C in its terminal, is its own affair: it closes its cluster.
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, start_new_session=True, env=self._environ()
        )

    def _environ(self) -> dict[str, str] | None:
        """The environment of the process; None for that of this one."""
        return None

    async def close(self, **kwargs: Any) -> None:
        """Ask the process to end, and make sure that it does."""
        process, self.process = self.process, None
        if process is not None:
            for sign in (signal.SIGINT, signal.SIGKILL):
                if process.poll() is None:
                    process.send_signal(sign)
                if await _ended(process, END_TIMEOUT):
                    break
        await super().close()


class SubprocessScheduler(Subprocess):
    """A scheduler in a child process.

    Parameters
    ----------
    scheduler_kwargs : mapping, optional
        Keywords of `Scheduler`.
    """

    def __init__(self, scheduler_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__({"cls": "fastdist.Scheduler", "opts": dict(scheduler_kwargs or {})}, name="scheduler")

    async def start(self) -> None:
        """Start the process and learn its address."""
        with tempfile.TemporaryDirectory(prefix="fastdist-cluster-") as folder:
            path = os.path.join(folder, "scheduler.json")
            self._spec["opts"]["scheduler_file"] = path
            self._launch()
            assert self.process is not None
            reading = asyncio.ensure_future(read_scheduler_file(Path(path), START_TIMEOUT))
            try:
                while not reading.done():
                    if self.process.poll() is not None:
                        raise RuntimeError(f"the scheduler's process ended with exit code {self.process.returncode}")
                    await asyncio.wait([reading], timeout=PAUSE)
                self.address = reading.result()
            except BaseException:
                reading.cancel()
                await self.close()
                raise
        await super().start()


def SubprocessCluster(
    host: str | None = None,
    scheduler_port: int = 0,
    scheduler_kwargs: Mapping[str, Any] | None = None,
    dashboard_address: str | None = ":8787",
    worker_class: str = "distributed.Nanny",
    n_workers: int | None = None,
    threads_per_worker: int | None = None,
    worker_kwargs: Mapping[str, Any] | None = None,
    silence_logs: int | str | bool = logging.WARN,
    **kwargs: Any,
) -> SpecCluster:
    """A cluster on this machine whose scheduler is a process of its own, as the workers are.

    It shows the user's own token, so that other programs of the user may connect.

    Parameters
    ----------
    host : str, optional
        Where the scheduler listens; 127.0.0.1 by default.
    scheduler_port : int
        0 for any.
    scheduler_kwargs, worker_kwargs : mapping, optional
        Further keywords of the scheduler, which must be JSON, and of the workers.
    dashboard_address : str, optional
        There is no dashboard; see `Scheduler`.
    worker_class : str
        Dotted name of the class of the workers: a kind of Nanny.
    n_workers, threads_per_worker : int, optional
        How many, with how many threads each; by default as many as suit the processors.
    silence_logs, **kwargs
        As of `SpecCluster`.

    Examples
    --------
    >>> with SubprocessCluster(n_workers=2) as cluster, Client(cluster) as client:  # doctest: +SKIP
    ...     client.submit(sum, [1, 2]).result()
    3
    """
    from fastdist.deploy.local import _counts
    from fastdist.nanny import Nanny

    cls = import_class(worker_class)
    if not (isinstance(cls, type) and issubclass(cls, Nanny)):
        raise NotImplementedError(f"SubprocessCluster(worker_class={worker_class!r}): only kinds of Nanny are built")
    n_workers, threads = _counts(n_workers, threads_per_worker, True)
    options = {"nthreads": threads, "host": host or "127.0.0.1", **(worker_kwargs or {})}
    options["silence_logs"] = None if silence_logs is False else silence_logs
    worker = {"cls": cls, "options": options}
    scheduler_options = {
        "host": host or "127.0.0.1",
        "port": scheduler_port,
        "dashboard_address": dashboard_address,
        **(scheduler_kwargs or {}),
    }
    return SpecCluster(
        workers=dict.fromkeys(range(n_workers), worker),
        scheduler={"cls": SubprocessScheduler, "options": {"scheduler_kwargs": scheduler_options}},
        worker=worker,
        name=kwargs.pop("name", "SubprocessCluster"),
        silence_logs=silence_logs,
        **kwargs,
    )


async def _ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while process.poll() is None:
        if loop.time() > deadline:
            return False
        await asyncio.sleep(PAUSE)
    return True

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
