"""A child ends when its parent does, whatever the child is doing."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import fastdist

ROOT = os.path.dirname(os.path.dirname(fastdist.__file__))

CHILD = """
import os, signal, sys, threading, subprocess
from fastdist.system.parent_watch import watch_parent, remove_at_parent_death
watch_parent(int(sys.argv[1]))
"""

IDLE = "import time; time.sleep(60)"
HOLDING_THE_GIL = """
sys.setswitchinterval(1e6)
while True:
    pass
"""


def start_family(tmp_path: Path, child: str, then: str) -> tuple[subprocess.Popen[bytes], int]:
    """A parent that starts a child, prints the child's id once it watches, and goes on with `then`."""
    child_file = tmp_path / "child.py"
    child_file.write_text(textwrap.dedent(child))
    parent = f"""
import os, subprocess, sys, threading, time, signal
def start():
    global process
    process = subprocess.Popen([sys.executable, {str(child_file)!r}, str(os.getpid())],
    start_new_session=True,
                               stdout=subprocess.PIPE, env={{**os.environ, "PYTHONPATH": {ROOT!r}}})
    process.stdout.readline()
    print(process.pid, flush=True)
{textwrap.dedent(then)}
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def wait_for_end(pid: int, seconds: float) -> bool:
    """Whether the process ends in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def runs(pid: int) -> bool:
    """Whether there is such a process and it is more than an entry that nobody fetched."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize("work", [IDLE, HOLDING_THE_GIL], ids=["idle", "holding the GIL"])
def test_a_child_ends_within_a_second_after_its_parent_was_killed(tmp_path: Path, work: str) -> None:
    parent, child = start_family(
        tmp_path, CHILD + "print('ready', flush=True)\n" + work, "start(); time.sleep(60)"
    )
    with parent:
        assert not wait_for_end(child, 0.05)
        parent.kill()
    assert wait_for_end(child, 1.0)


def test_a_child_survives_the_thread_that_started_it(tmp_path: Path) -> None:
    parent, child = start_family(
        tmp_path,
        CHILD + "print('ready', flush=True)\n" + IDLE,
        "thread = threading.Thread(target=start); thread.start(); thread.join(); time.sleep(60)",
    )
    with parent:
        assert not wait_for_end(child, 0.3)
        parent.kill()
    assert wait_for_end(child, 1.0)


def test_a_watch_that_starts_after_the_death_of_the_parent_ends_the_process() -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    child = subprocess.run(
        [sys.executable, "-c", CHILD + IDLE, str(dead.pid)],
        env={**os.environ, "PYTHONPATH": ROOT},
        timeout=20,
        check=False,
    )
    assert child.returncode == 79


def test_the_folder_and_what_the_child_started_go_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "base" / "scratch"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("x")
    (folder / "link").symlink_to(tmp_path)
    started = f"""
grandchild = subprocess.Popen(["sleep", "60"])
remove_at_parent_death({str(folder)!r})
open({str(tmp_path / "grandchild")!r}, "w").write(str(grandchild.pid))
print("ready", flush=True)
"""
    parent, child = start_family(tmp_path, CHILD + started + IDLE, "start(); time.sleep(60)")
    with parent:
        parent.kill()
    assert wait_for_end(child, 2.0)
    assert not folder.parent.exists()
    assert tmp_path.exists()
    grandchild = int((tmp_path / "grandchild").read_text())
    deadline = time.monotonic() + 5
    while runs(grandchild) and time.monotonic() < deadline:
        os.sched_yield()
    assert not runs(grandchild)


def test_only_one_parent_is_watched_and_a_path_must_fit() -> None:
    code = CHILD + textwrap.dedent(
        """
        for call in (lambda: watch_parent(os.getppid()), lambda: remove_at_parent_death("/" + "x" * 5000)):
            try:
                call()
            except (RuntimeError, ValueError) as error:
                print(type(error).__name__)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(os.getpid())],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.split() == ["RuntimeError", "ValueError"]
