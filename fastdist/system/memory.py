"""How much memory there is, how much a process uses, and how to give it back.

May import: nothing of fastdist.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
_CGROUP_ROOT = Path("/sys/fs/cgroup")


def total_memory() -> int:
    """Bytes of memory that this process may use.

    The smallest of the machine's memory, the limits of the control groups (version 1 and 2) that hold this
    process, and its resource limits.

    Example
    -------
    >>> total_memory() > 0
    True
    """
    machine = os.sysconf("SC_PHYS_PAGES") * PAGE_SIZE
    return min([machine, *control_group_limits("memory"), *_resource_limits()])


def process_memory(pid: int | None = None) -> int:
    """Resident bytes of process `pid` (of this one if None).

    Raises
    ------
    ProcessLookupError
        There is no such process.
    """
    try:
        with open(f"/proc/{'self' if pid is None else pid}/statm", "rb") as statistics:
            return int(statistics.read().split()[1]) * PAGE_SIZE
    except (OSError, IndexError):
        return _process_memory_elsewhere(os.getpid() if pid is None else pid)


def peak_memory(pid: int) -> int:
    """The most resident bytes that process `pid` has had so far.

    Raises
    ------
    ProcessLookupError
        There is no such process, or it has ended.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return _process_memory_elsewhere(pid)
    raise ProcessLookupError(f"process {pid} has no memory any more")


def own_peak_memory() -> int:
    """The most resident bytes that this process has had so far."""
    return from_maximum(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def from_maximum(ru_maxrss: int) -> int:
    """Bytes of what `getrusage` calls `ru_maxrss`, which has another unit on each system."""
    return ru_maxrss if sys.platform == "darwin" else ru_maxrss * 1024


def out_of_memory_kills(root: Path = _CGROUP_ROOT) -> dict[str, int]:
    """How many processes the system has killed for want of memory, by what was out of memory.

    The names are those of the control groups around this process that have a limit, and `the machine`.
    """
    counts = {}
    for folder in control_group_folders("memory", root):
        limits = (_read_number(folder / name) for name in ("memory.max", "memory.limit_in_bytes"))
        count = _counter(folder / "memory.events", "oom_kill")
        if count is None:
            count = _counter(folder / "memory.oom_control", "oom_kill")
        if count is not None and any(limit is not None for limit in limits):
            counts[f"the control group {folder.relative_to(root)}"] = count
    count = _counter(Path("/proc/vmstat"), "oom_kill")
    if count is not None:
        counts["the machine"] = count
    return counts


def _counter(path: Path, name: str) -> int | None:
    """A number in a file with a name and a number in each line."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    except (OSError, ValueError):
        return None
    return None


def give_back_memory() -> None:
    """Ask the C library to return freed memory to the system, where it knows how."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def control_group_limits(controller: str, root: Path = _CGROUP_ROOT, process: str = "self") -> list[int]:
    """Memory limits of every control group around this process, from its own up to the root."""
    limits = []
    for folder in control_group_folders(controller, root, process):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _read_number(folder / name)
            if limit is not None and limit > 0:
                limits.append(limit)
    return limits


def control_group_folders(controller: str, root: Path = _CGROUP_ROOT, process: str = "self") -> list[Path]:
    """Folders of the control groups around this process, for both versions of the interface."""
    try:
        lines = Path(f"/proc/{process}/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            base = root
        elif controller in controllers.split(","):
            base = root / controllers
            if not base.is_dir():
                base = root / controller
        else:
            continue
        inner = base / path.lstrip("/")
        # Inside a container the path is the host's and absent here; the root then shows the container's own
        # group.
        folders.extend(folder for folder in (inner, *inner.parents) if folder.is_relative_to(base))
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _resource_limits() -> list[int]:
    kinds = (resource.RLIMIT_RSS, resource.RLIMIT_AS, resource.RLIMIT_DATA)
    limits = (resource.getrlimit(kind)[0] for kind in kinds)
    return [limit for limit in limits if limit not in (resource.RLIM_INFINITY, 0)]


def _process_memory_elsewhere(pid: int) -> int:
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        raise ProcessLookupError(f"there is no process {pid}") from None
