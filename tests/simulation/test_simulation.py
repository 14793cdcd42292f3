"""The simulator itself, some seeds, and those that failed once. May import: fastdist.testing.simulation."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fastdist.testing.simulation import Scenario, assert_seed_passes, run_seed
from fastdist.testing.simulation.faults import EVERY_KIND
from fastdist.testing.simulation.worker import Machine
from fastdist.testing.simulation.workloads import MAKERS


@pytest.mark.parametrize("seed", range(40))
def test_seeds_pass(seed: int) -> None:
    assert_seed_passes(seed)


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_each_workload_survives_kills(kind: str) -> None:
    report = assert_seed_passes(
        5,
        graphs=[(kind, 150)],
        machines=[Machine(f"m{number}", 2, nanny=True) for number in range(4)],
        faults=["kill_worker"],
        fault_rate=20.0,
        seconds=0.05,
        actions=8,
    )
    assert report.faults and report.executed


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_each_fault_happens(kind: str) -> None:
    machines = [Machine(f"m{number}", 2, spilled=0.5) for number in range(3)]
    report = assert_seed_passes(
        3, faults=[kind], fault_rate=10.0, graphs=[("random", 100)], machines=machines, actions=10, seconds=0.02
    )
    assert report.faults


@pytest.mark.parametrize("kind", ["kill_worker", "cut_client", "kill_client", "wall"])
def test_scattered_data_arrives_or_is_told_to_be_lost(kind: str) -> None:
    for seed in range(4):
        machines = [Machine(f"m{number}", 2) for number in range(3)]
        report = assert_seed_passes(
            seed, scattered=0.8, faults=[kind], fault_rate=10.0, graphs=[("tree", 60)], machines=machines, n_clients=3
        )
        assert report.executed


@pytest.mark.parametrize("kind", ["kill_worker", "cut_worker", "freeze_worker"])
def test_policies_of_retries_are_kept_under_faults(kind: str) -> None:
    for seed in range(4):
        machines = [Machine(f"m{number}", 2) for number in range(3)]
        report = assert_seed_passes(
            seed, special=0.5, faults=[kind], fault_rate=5.0, graphs=[("random", 100)], machines=machines, seconds=1e-3
        )
        assert report.executed


def test_the_same_seed_gives_the_same_trace_in_another_process() -> None:
    """The order of sets and dicts of text differs between processes: nothing may depend on it."""
    seed = next(seed for seed in range(100) if Scenario.drawn(seed).fault_rate > 1)
    code = f"from fastdist.testing.simulation import run_seed; print(run_seed({seed}).trace)"
    traces = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert traces == {run_seed(seed).trace}
    assert run_seed(seed + 1).trace not in traces


# Seeds that failed once, each with what was wrong.


def test_dependents_of_what_is_retried_are_told_that_they_are_pending() -> None:
    assert_seed_passes(86, fault_rate=0.0, scattered=0.0)


def test_data_that_is_scattered_again_is_not_freed_for_what_it_was() -> None:
    assert_seed_passes(5396)


def test_whoever_retries_what_another_client_cancelled_and_made_anew_gets_an_answer() -> None:
    assert_seed_passes(11608)


def test_data_of_a_worker_that_another_one_cannot_reach_is_not_lost() -> None:
    for seed in (602, 1230):
        assert_seed_passes(seed, faults=["wall"])


def test_data_is_given_up_that_a_client_announced_which_never_heard_where_to_put_it() -> None:
    assert_seed_passes(520633474)
