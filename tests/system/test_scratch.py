"""Temporary folders: private, locked by their owner, and gone with it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import fastdist
from fastdist.system.scratch import ScratchFolder, remove_abandoned, user_folder

ROOT = os.path.dirname(os.path.dirname(fastdist.__file__))


def test_a_folder_is_private_and_made_at_first_use(tmp_path: Path) -> None:
    folder = ScratchFolder("worker", tmp_path)
    assert not folder.exists
    assert not list(tmp_path.iterdir())
    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(user_folder(tmp_path)).st_mode) == 0o700
    assert os.path.basename(folder.path).startswith("worker-")
    folder.remove()


def test_removing_takes_the_content_and_the_empty_folder_above(tmp_path: Path) -> None:
    one, other = ScratchFolder("worker", tmp_path), ScratchFolder("worker", tmp_path)
    with open(os.path.join(one.path, "file"), "w") as file:
        file.write("x")
    assert os.path.isdir(other.path)
    one.remove()
    one.remove()
    assert os.listdir(user_folder(tmp_path)) == [os.path.basename(other.path)]
    other.remove()
    assert not list(tmp_path.iterdir())


def test_the_next_folder_removes_those_of_dead_owners_only(tmp_path: Path) -> None:
    code = (
        "import sys, os; from fastdist.system.scratch import ScratchFolder;"
        "print(ScratchFolder('dead', sys.argv[1]).path, flush=True); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    left = done.stdout.strip()
    assert os.path.isdir(left)
    with ScratchFolder("alive", tmp_path) as alive:
        assert os.path.isdir(alive.path)
        assert not os.path.exists(left)
        with ScratchFolder("another", tmp_path) as another:
            assert os.path.isdir(another.path)
            assert os.path.isdir(alive.path)
            assert remove_abandoned(tmp_path) == []


def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    os.mkdir(user_folder(tmp_path), 0o700)
    os.chmod(user_folder(tmp_path), 0o770)
    with pytest.raises(PermissionError, match="mode is 0770"):
        _ = ScratchFolder("worker", tmp_path).path


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    os.symlink(tmp_path / "elsewhere", user_folder(tmp_path))
    with pytest.raises(PermissionError, match="not a plain folder"):
        _ = ScratchFolder("worker", tmp_path).path


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.mkdir(user_folder(tmp_path), 0o700)
    os.chown(user_folder(tmp_path), 12345, -1)
    with pytest.raises(PermissionError, match="belongs to user 12345"):
        _ = ScratchFolder("worker", tmp_path).path


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_does_not_remove_the_folder_of_its_parent(tmp_path: Path) -> None:
    with ScratchFolder("worker", tmp_path) as folder:
        path = folder.path
        child = os.fork()
        if child == 0:
            folder.remove()
            os._exit(0)
        os.waitpid(child, 0)
        assert os.path.isdir(path)
