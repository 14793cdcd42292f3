"""Memory limits and what the worker does as it nears them."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import pytest

from fastdist import config
from fastdist.worker.memory import MemoryManager, MemoryThresholds, parse_memory_limit
from fastdist.worker.spill import SpillStore


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, None),
        (0, None),
        ("0", None),
        ("none", None),
        (500, 500),
        ("500", 500),
        (0.5, 500),
        ("0.5", 500),
        (1.0, 1000),
        ("auto", 500),
        ("0.6 kB", 600),
        ("5GB", 1000),
    ],
)
def test_memory_limits_are_understood(limit: object, expected: int | None) -> None:
    assert parse_memory_limit(limit, 2, total=1000, cores=4) == expected  # type: ignore[arg-type]


def test_auto_never_exceeds_the_memory_of_the_system() -> None:
    assert parse_memory_limit("auto", 64, total=1000, cores=4) == 1000


@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf"), "much", "5 bananas", ""])
def test_senseless_limits_are_refused(limit: object) -> None:
    with pytest.raises(ValueError):
        parse_memory_limit(limit, total=1000, cores=1)  # type: ignore[arg-type]


def test_thresholds_come_from_the_settings() -> None:
    with config.set({"worker.memory.pause": 0.5, "worker.memory.spill": False}):
        assert MemoryThresholds.configured() == MemoryThresholds(0.6, None, 0.5, 0.95)


@pytest.mark.parametrize("value", [0, -0.1, 1.1])
def test_a_threshold_outside_its_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="pause"):
        MemoryThresholds(pause=value)


class Process:
    """A worker process whose memory is what its store holds, and `extra`."""

    def __init__(self, folder: Path, limit: int | None = 1000, **thresholds: float) -> None:
        self.store = SpillStore(
            str(folder), None, dumps=lambda value: [pickle.dumps(value)], loads=pickle.loads
        )
        self.extra = 0
        self.calls: list[str] = []
        self.manager = MemoryManager(
            limit,
            self.store,
            pause=lambda: self.calls.append("pause"),
            resume=lambda: self.calls.append("resume"),
            thresholds=MemoryThresholds(**thresholds),
            interval=0.001,
            measure=lambda: self.store.memory_bytes + self.extra,
        )


def test_the_target_of_the_store_is_a_fraction_of_the_limit(tmp_path: Path) -> None:
    assert Process(tmp_path).store.target == 600
    assert Process(tmp_path, limit=None).store.target is None


def test_execution_pauses_above_and_resumes_below_the_pause_threshold_once_each(tmp_path: Path) -> None:
    process = Process(tmp_path)
    for extra in (790, 810, 990, 810, 800, 100):
        process.extra = extra
        process.manager.on_tick()
    process.manager.stop()
    assert process.calls == ["pause", "resume"]


def test_above_the_spill_threshold_values_are_spilled_until_the_target(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.extra = 300
    for number in range(5):
        process.store.put(number, number, 100)
    process.manager.on_tick()
    process.manager._spilling.join()
    assert process.store.memory_bytes == 300
    process.manager.stop()


def test_below_the_spill_threshold_nothing_is_spilled(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.extra = 200
    for number in range(5):
        process.store.put(number, number, 100)
    process.manager.on_tick()
    assert process.manager._spilling is None
    assert process.store.memory_bytes == 500


def test_the_store_keeps_less_where_the_rest_of_the_process_needs_much(tmp_path: Path) -> None:
    process = Process(tmp_path)
    for extra, target in ((50, 600), (300, 400), (0, 430), (680, 100), (5000, 100), (0, 100)):
        process.extra = extra
        process.manager.on_tick()
        assert process.store.target == target
    for _ in range(50):
        process.manager.on_tick()
    assert process.store.target == 600
    process.manager.stop()


def test_frequent_pauses_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    process = Process(tmp_path)
    for extra in (900, 0) * 5:
        process.extra = extra
        process.manager.on_tick()
    process.manager.stop()
    assert process.calls == ["pause", "resume"] * 5
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


def test_memory_that_no_value_holds_ends_the_spilling(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.extra = 900
    process.store.put(1, "a", 50)
    assert process.manager.spill() == 50
    assert process.manager.spill() == 0


def test_without_a_limit_nothing_happens(tmp_path: Path) -> None:
    process = Process(tmp_path, limit=None)
    process.extra = 10**12
    process.manager.on_tick()
    assert process.calls == []


def test_a_started_manager_looks_again_and_again_until_stopped(tmp_path: Path) -> None:
    process = Process(tmp_path)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        paused, resumed = loop.create_future(), loop.create_future()
        process.manager._pause = lambda: paused.set_result(None)
        process.manager._resume = lambda: resumed.set_result(None)
        process.manager.start(loop)
        process.extra = 900
        await paused
        process.extra = 0
        await resumed
        process.manager.stop()

    asyncio.run(asyncio.wait_for(main(), 10))
