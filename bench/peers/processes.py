"""What the kernel says about processes, and the daemons that a peer needs. Linux only.

May import: the standard library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Cluster:
    """A running cluster: the object that takes work, and the processes by their role."""

    client: Any
    roles: dict[str, list[int]]


def cpu_seconds(pid: int) -> float:
    """The time that the threads of a process have spent on a core, to the nanosecond."""
    nanoseconds = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread ended between the two reads
    return nanoseconds / 1e9


def cpu_by_role(roles: dict[str, list[int]]) -> dict[str, float]:
    """Seconds on a core for each role."""
    return {role: sum(cpu_seconds(pid) for pid in pids) for role, pids in roles.items()}


def memory_bytes(pid: int) -> int:
    """The proportional set size of a process."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the kernel does not report the memory of process {pid}")


def reset_peak(pid: int) -> None:
    """Have the kernel forget the most memory that a process ever had."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most memory that a process had since `reset_peak`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the kernel does not report the peak memory of process {pid}")


def settled_memory(pid: int, patience: float = 5.0) -> int:
    """The memory of a process once it has stopped moving for half a second."""
    deadline = time.monotonic() + patience
    last = memory_bytes(pid)
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = memory_bytes(pid)
        if abs(now - last) < 64 * 1024:
            return now
        last = now
    return last


def descendants(pid: int) -> dict[int, str]:
    """The processes below `pid`, with their command lines."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found: dict[int, str] = {}
    for candidate in parents:
        ancestor = candidate
        while ancestor in parents and ancestor != pid:
            ancestor = parents[ancestor]
        if ancestor == pid and candidate != pid:
            try:
                found[candidate] = Path(f"/proc/{candidate}/cmdline").read_text().replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


@contextmanager
def daemons(
    folder: Path, scheduler: Sequence[str], worker: Sequence[str]
) -> Iterator[tuple[str, dict[str, list[int]]]]:
    """Run a scheduler and two workers, each `python -m` with these words; yields address and roles."""
    contact = folder / "scheduler.json"
    running: list[subprocess.Popen[bytes]] = []
    try:
        running.append(_start(folder, "scheduler", [*scheduler, "--scheduler-file", str(contact)]))
        address = _wait_for_address(contact, running[0], folder)
        for name in ("worker-0", "worker-1"):
            running.append(_start(folder, name, [*worker, "--name", name, "--scheduler-file", str(contact)]))
        pids = [process.pid for process in running]
        yield address, {"scheduler": pids[:1], "worker": pids[1:], "client": [os.getpid()]}
    except Exception:
        _show_logs(folder)
        raise
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(folder: Path, name: str, words: Sequence[str]) -> subprocess.Popen[bytes]:
    with open(folder / f"{name}.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _wait_for_address(contact: Path, scheduler: subprocess.Popen[bytes], folder: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and scheduler.poll() is None:
        try:
            address = json.loads(contact.read_text())["address"]
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.02)
        else:
            return str(address)
    raise RuntimeError(f"the scheduler did not write {contact} (exit code {scheduler.poll()})")


def _show_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        text = log.read_text(errors="replace")[-2000:]
        if text:
            print(f"--- {log.name}\n{text}", file=sys.stderr)


def timed_in_fresh_process(statement: str, setup: str = "pass") -> float:
    """The seconds that one statement takes in a new interpreter."""
    code = (
        f"import time\n{setup}\nstart = time.perf_counter()\n{statement}\nprint(time.perf_counter() - start)"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=120
        )
    return float(done.stdout.split()[-1])


def timed_session(module: str, start: str) -> dict[str, float]:
    """The seconds of an import, from `start` (it makes `client`) to a first result, and of closing."""
    code = f"""
import time
t0 = time.perf_counter()
{module}
t1 = time.perf_counter()
{start}
assert client.submit(pow, 2, 10).result() == 1024
t2 = time.perf_counter()
client.close()
t3 = time.perf_counter()
print(t1 - t0, t2 - t1, t3 - t2)
"""
    with tempfile.TemporaryDirectory() as folder:
        # dask's workers import the main module again, so it has to be a guarded file
        script = Path(folder) / "session.py"
        body = "".join(f"    {line}\n" for line in code.strip().splitlines())
        script.write_text(f"if __name__ == '__main__':\n{body}")
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    if done.returncode != 0:
        raise RuntimeError(f"a session failed:\n{done.stderr[-2000:]}")
    imported, first, closed = (float(word) for word in done.stdout.split()[-3:])
    return {"import": imported, "first result": first, "close": closed}
