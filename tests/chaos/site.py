"""A cluster of daemons for one cell: a scheduler, workers with nannies, proxies before them, and client processes.

May import: psutil; tests.chaos.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

from tests.chaos import network, workloads
from tests.chaos.proxy import Proxy

Value = TypeVar("Value")

N_WORKERS = 3
#: The variable by which a process is known as one of a cell.
MARK = "CHAOS_CELL"
_DUMP_STACKS = "import faulthandler, signal; faulthandler.register(signal.SIGUSR1, all_threads=True)"


class Site:
    """The processes of one cell."""

    def __init__(self, folder: Path, *, system: str, memory_limit: int, journal: bool, disk: int) -> None:
        self.folder = folder
        self.system = system
        self.journal = journal
        self.memory_limit = memory_limit
        self.mark = secrets.token_hex(8)
        self.ledger = folder / "ledger"
        self.dead: set[int] = set()
        self.victims = (1, 2)
        self._resources = contextlib.ExitStack()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._clients = 0
        self.hosts = network.Hosts(N_WORKERS) if network.is_private() else None
        self.host = network.HUB if self.hosts else "127.0.0.1"
        self.port = _free_port(self.host)
        self.disk = folder / "disk"
        self.disk.mkdir()
        if self.hosts:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", str(self.disk)], check=True)
        self._write_token()
        proxy = Proxy(self.host, self.port, listen=self.host)
        client_proxy = Proxy(self.host, self.port, listen=self.host)
        self.proxy = self._resources.enter_context(proxy)
        self.client_proxy = self._resources.enter_context(client_proxy)
        self.scheduler = self._start_scheduler()
        self._await_scheduler()
        for index in range(N_WORKERS):
            self._workers.append(self._start_worker(index))

    # ---- starting ------------------------------------------------------------------------------------------

    def _write_token(self) -> None:
        path = self.folder / "token"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(32))

    def _environ(self) -> dict[str, str]:
        return {
            **os.environ,
            MARK: self.mark,
            "FASTDIST_TOKEN_FILE": str(self.folder / "token"),
            "CHAOS_SYSTEM": self.system,
            "CHAOS_WORKERS": str(N_WORKERS),
            "PYTHONFAULTHANDLER": "1",
            # Nothing can compute again what was scattered: its copies are to stay on all workers.
            "FASTDIST_SCHEDULER__ACTIVE_MEMORY_MANAGER__START": "False",
            "DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__START": "False",
        }

    def _start(self, name: str, *command: str, host: int | None = None) -> subprocess.Popen[bytes]:
        prefix = self.hosts.prefix(host) if self.hosts and host is not None else []
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                [*prefix, sys.executable, *command], env=self._environ(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    def _start_scheduler(self) -> subprocess.Popen[bytes]:
        place = ["--host", self.host, "--port", str(self.port), "--preload", _DUMP_STACKS]
        if self.system == "distributed":
            return self._start("scheduler", "-m", "distributed.cli.dask_scheduler", "--no-dashboard", *place)
        if self.journal:
            place += ["--journal", str(self.disk / "journal")]
        return self._start("scheduler", "-m", "fastdist.cli.scheduler", *place)

    def _await_scheduler(self) -> None:
        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return True
            return False

        until(answers, "the scheduler's answer")

    def _start_worker(self, index: int) -> subprocess.Popen[bytes]:
        options = [
            f"tcp://{self.host}:{self.proxy.port}", "--nthreads", "1", "--name", f"w{index}",
            "--memory-limit", str(self.memory_limit), "--local-directory", str(self.disk), "--nworkers", "1",
            "--host", self.hosts.address(index) if self.hosts else "127.0.0.1", "--preload", _DUMP_STACKS,
        ]  # fmt: skip
        module = "distributed.cli.dask_worker" if self.system == "distributed" else "fastdist.cli.worker"
        if self.system == "distributed":
            options.append("--no-dashboard")
        return self._start(f"w{index}", "-m", module, *options, host=index)

    def start_client(self, workload: str) -> tuple[subprocess.Popen[bytes], Path]:
        """A process that runs a workload, and the file that it writes in the end."""
        self._clients += 1
        result = self.folder / f"client-{self._clients}.json"
        address = f"tcp://{self.host}:{self.client_proxy.port}"
        process = self._start(
            f"client-{self._clients}", "-m", "tests.chaos.work", workload, address, str(self.ledger), str(result)
        )
        return process, result

    # ---- what faults need ----------------------------------------------------------------------------------

    def nanny_pid(self, index: int) -> int:
        """The nanny of a worker."""
        return self._workers[index].pid

    def worker_pid(self, index: int) -> int:
        """The process of a worker: the child of its nanny that has run the longest of those that live."""

        def child() -> int:
            children = psutil.Process(self._workers[index].pid).children()
            alive = [one for one in children if one.status() != psutil.STATUS_ZOMBIE and "tracker" not in _line(one)]
            return max(alive, key=lambda one: one.memory_info().rss).pid if alive else 0

        return until(child, f"the process of worker {index}")

    def kill(self, pid: int) -> None:
        """kill -9, and remember that this process is dead."""
        self.dead.add(pid)
        os.kill(pid, signal.SIGKILL)

    def restart_scheduler(self) -> None:
        """What a supervisor does: start it again with the same arguments."""
        self.scheduler.wait(10)
        self.scheduler = self._start_scheduler()

    def replace_nanny(self, index: int) -> None:
        """What a supervisor does with a daemon of workers that is gone."""
        self._workers[index].wait(10)
        self._workers[index] = self._start_worker(index)

    # ---- the end -------------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Every process of this cell that lives."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and process.pid != os.getpid() and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def dump(self) -> None:
        """Have every process write its stacks into its log."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                # Children that are not ours (resource trackers, say) would die of it.
                if any(word in _line(process) for word in ("fastdist", "distributed", "tests.chaos")):
                    process.send_signal(signal.SIGCONT)
                    process.send_signal(signal.SIGUSR1)
        time.sleep(1)

    def close(self) -> list[str]:
        """SIGTERM to all daemons; returns the commands of processes that are still there 10 s later."""
        for daemon in (*self._workers, self.scheduler):
            with contextlib.suppress(ProcessLookupError):
                daemon.send_signal(signal.SIGCONT)
                daemon.terminate()
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for daemon in (*self._workers, self.scheduler):
                daemon.poll()
            time.sleep(0.05)
        names = [f"{process.pid}: {_line(process)}" for process in left]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._resources.close()
        if self.hosts:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=False)
            self.hosts.close()
        return names


def until(condition: Callable[[], Value], what: str, patience: float = 30.0) -> Value:
    """Look again and again until the condition gives something true; returns that."""
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(psutil.Error):
            found = condition()
            if found:
                return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {patience:g} s")
        time.sleep(0.01)


def memory_limit(workload: str) -> int:
    """The memory of a worker."""
    return workloads.W6_LIMIT if workload == "W6" else 1 << 30


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
