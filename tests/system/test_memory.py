"""What is known of the machine's memory and processors."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fastdist.system import memory, processors
from fastdist.system.memory import control_group_folders, control_group_limits, process_memory, total_memory


def test_the_memory_of_this_process_grows_with_what_it_holds() -> None:
    before = process_memory()
    block = b"x" * 50_000_000
    assert process_memory() - before > 40_000_000
    del block


def test_another_process_is_measured_by_its_id() -> None:
    assert process_memory(os.getpid()) == pytest.approx(process_memory(), rel=0.5)


def test_a_dead_process_has_no_memory() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(ProcessLookupError):
        process_memory(child.pid)


def test_the_total_is_at_most_that_of_the_machine() -> None:
    assert 0 < total_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_resource_limits_cut_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(kind: int) -> tuple[int, int]:
        return (12345 if kind == resource.RLIMIT_AS else resource.RLIM_INFINITY), resource.RLIM_INFINITY

    monkeypatch.setattr(memory.resource, "getrlimit", limit)
    assert total_memory() == 12345


def fake_process(tmp_path: Path, lines: str) -> str:
    """A name below /proc, or as good as, whose control groups are `lines`."""
    (tmp_path / "cgroup").write_text(lines)
    return f"../{tmp_path}"


def test_every_group_of_version_two_up_to_the_root_counts(tmp_path: Path) -> None:
    inner = tmp_path / "root" / "user" / "job"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("5000\n")
    process = fake_process(tmp_path, "0::/user/job\n")
    assert control_group_limits("memory", tmp_path / "root", process) == [5000]


def test_groups_of_version_one_count_below_their_controller(tmp_path: Path) -> None:
    inner = tmp_path / "root" / "memory" / "job"
    inner.mkdir(parents=True)
    (inner / "memory.limit_in_bytes").write_text("7000\n")
    (inner.parent / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    process = fake_process(tmp_path, "5:cpu,cpuacct:/job\n4:memory:/job\n")
    assert min(control_group_limits("memory", tmp_path / "root", process)) == 7000


def test_a_path_of_the_host_that_is_absent_in_the_container_leaves_the_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    process = fake_process(tmp_path, "0::/docker/abc\n")
    assert control_group_folders("memory", tmp_path / "root", process) == [tmp_path / "root"]


def test_quotas_cut_the_number_of_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(processors, "control_group_folders", lambda controller: [tmp_path])
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda pid: set(range(16)))
    assert processors.processor_count() == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert processors.processor_count() == 16


def test_quotas_of_version_one_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    monkeypatch.setattr(processors, "control_group_folders", lambda controller: [tmp_path])
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda pid: set(range(16)))
    assert processors.processor_count() == 3
    (tmp_path / "cpu.cfs_quota_us").write_text("-1\n")
    assert processors.processor_count() == 16


def test_kills_for_want_of_memory_are_counted_in_groups_with_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    limited, free = root / "job" / "limited", root / "job"
    limited.mkdir(parents=True)
    (limited / "memory.max").write_text("100000000\n")
    (limited / "memory.events").write_text("low 0\nmax 12\noom 4\noom_kill 3\noom_group_kill 9\n")
    (free / "memory.max").write_text("max\n")
    (free / "memory.events").write_text("oom 4\noom_kill 8\n")
    monkeypatch.setattr(memory, "control_group_folders", lambda controller, root: [limited, free])
    counts = memory.out_of_memory_kills(root)
    counts.pop("the machine", None)
    assert counts == {"the control group job/limited": 3}


def test_kills_are_counted_in_groups_of_version_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.limit_in_bytes").write_text("100000000\n")
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    monkeypatch.setattr(memory, "control_group_folders", lambda controller, root: [tmp_path])
    assert memory.out_of_memory_kills(tmp_path)["the control group ."] == 5
    (tmp_path / "memory.oom_control").write_text("oom_kill many\n")
    assert "the control group ." not in memory.out_of_memory_kills(tmp_path)
