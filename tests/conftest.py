"""What all tests share: their modules can be imported, nobody reads the user's settings, nothing leaks.

May import: the standard library, pytest.
"""

from __future__ import annotations

import contextlib
import gc
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# At the end, so that an installed fastdist comes before the source tree.
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

LEAK_PATIENCE = 5.0
HARMLESS_FILES = ("/dev/null", "/dev/urandom", "/dev/random")
#: Threads that live as long as the process by design of somebody else.
HARMLESS_THREADS = ("pydevd", "OpenBLAS", "loky")


def pytest_report_header() -> str:
    """Say which fastdist is tested: the installed wheel or the source tree."""
    import fastdist

    return f"fastdist: {Path(fastdist.__file__).parent}"


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests and their children find an empty config folder and none of the user's variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("FASTDIST_", "DASK_"))]:
            patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


class Resources:
    """What this process holds of the machine at one moment."""

    def __init__(self) -> None:
        self.files = dict(open_files())
        self.threads = {
            thread.ident: thread.name
            for thread in threading.enumerate()
            if thread.is_alive() and not thread.name.startswith(HARMLESS_THREADS)
        }
        self.children = dict(child_processes())
        self.shared_memory = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()

    def leaked_since(self, before: Resources) -> list[str]:
        """What is here now and was not `before`."""
        leaks = [
            f"file {number}: {target}"
            for number, target in self.files.items()
            if before.files.get(number) != target
        ]
        leaks += [f"thread {name}" for ident, name in self.threads.items() if ident not in before.threads]
        leaks += [
            f"process {pid}: {command}"
            for pid, command in self.children.items()
            if pid not in before.children
        ]
        leaks += [f"/dev/shm/{name}" for name in self.shared_memory - before.shared_memory]
        return leaks


def open_files() -> Iterator[tuple[int, str]]:
    """The descriptors of this process and what they lead to."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{name}")
            is_own_listing = target.startswith("/proc/")
            if target not in HARMLESS_FILES and not is_own_listing and not is_regular_under_tmp(target):
                yield int(name), target


def is_regular_under_tmp(target: str) -> bool:
    """Whether it is a plain file: pytest's capture and hypothesis' database reopen theirs at will."""
    try:
        return stat.S_ISREG(os.stat(target.removesuffix(" (deleted)")).st_mode)
    except OSError:
        return target.endswith(" (deleted)") and not target.startswith("/memfd:")


def child_processes() -> Iterator[tuple[int, str]]:
    """The processes that this one started and that have not ended."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):
            for pid in Path(f"/proc/self/task/{thread}/children").read_text().split():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                    yield int(pid), command or "(ended, and nobody waited for it)"


@pytest.fixture(scope="module", autouse=True)
def no_leaks() -> Iterator[None]:
    """Each module of tests gives back the files, threads, processes and shared memory that it took."""
    before = Resources()
    yield
    deadline = time.monotonic() + LEAK_PATIENCE
    while True:
        gc.collect()
        leaks = Resources().leaked_since(before)
        if not leaks or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert not leaks, "left behind:\n" + "\n".join(leaks)
