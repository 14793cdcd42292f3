"""Workers and clients in processes of their own, without a nanny. May import: fastdist, tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fastdist
from fastdist import Client, LocalCluster
from tests.faults.waiting import until

ROOT = Path(fastdist.__file__).resolve().parent.parent
TESTS = Path(__file__).resolve().parent.parent.parent


def start_python(*arguments: str, **options: object) -> subprocess.Popen[str]:
    """A Python process that finds fastdist and the tests."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)])}
    return subprocess.Popen(
        [sys.executable, *arguments], env=environ, text=True, **{"stderr": subprocess.PIPE, **options}  # type: ignore[call-overload]
    )


class Daemons:
    """Daemons of workers without a nanny, for the scheduler of a cluster."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.cluster = cluster
        self.token_file = folder / "token"
        descriptor = os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(cluster.token.to_hex())
        self.processes: list[subprocess.Popen[str]] = []

    def start_worker(self, *options: str) -> subprocess.Popen[str]:
        """Start a worker; it registers in a moment."""
        process = start_python(
            "-m", "fastdist.cli.worker", self.cluster.scheduler_address, "--no-nanny", "--nthreads", "1",
            "--token-file", str(self.token_file), *options,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def wait_for(self, count: int) -> None:
        """Wait until this many workers are registered."""
        members = self.cluster.scheduler.members
        until(lambda: len(members.workers) == count, f"the registration of {count} workers")

    def replace_dead(self) -> None:
        """Start a worker for each that has ended."""
        for process in [process for process in self.processes if process.poll() is not None]:
            process.communicate(timeout=20)
            self.processes.remove(process)
            self.start_worker()

    def stop(self) -> None:
        """End them all."""
        for process in self.processes:
            process.kill()
            process.communicate(timeout=20)


@contextmanager
def workers_without_nannies(folder: Path, count: int, *options: str) -> Iterator[tuple[Client, Daemons]]:
    """A client of a scheduler in this process, whose workers are daemons."""
    cluster = LocalCluster(n_workers=0, processes=False, protocol="tcp", silence_logs=50)
    daemons = Daemons(cluster, folder)
    try:
        for _ in range(count):
            daemons.start_worker(*options)
        daemons.wait_for(count)
        with Client(cluster) as client:
            yield client, daemons
    finally:
        cluster.close()
        daemons.stop()
