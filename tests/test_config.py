"""Settings: where a value comes from, how it is understood, and how a wrong one is named."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from fastdist import config
from fastdist.config import SETTINGS, parse_bytes, parse_timedelta, read_environment
from fastdist.errors import ConfigurationError


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    with config.defaults():
        yield


def test_every_setting_has_a_default_of_its_type_a_meaning_and_a_variable_of_its_own() -> None:
    for setting in SETTINGS.values():
        assert setting.parse(setting.parse(setting.default)) == config.get(setting.name)
        assert setting.doc.endswith(".")
    assert len({setting.variable for setting in SETTINGS.values()}) == len(SETTINGS)


def test_set_changes_a_value_for_a_block_and_for_good() -> None:
    with config.set({"comm.timeouts.connect": "1 min", "scheduler.allowed-failures": 0}):
        assert config.get("comm.timeouts.connect") == 60
        with config.set({"comm.timeouts.connect": 2}):
            assert config.get("comm.timeouts.connect") == 2
        assert config.get("comm.timeouts.connect") == 60
        assert config.get("scheduler.allowed-failures") == 0
    assert config.get("comm.timeouts.connect") == 30
    config.set({"comm.timeouts.connect": "3s"})
    assert config.get("comm.timeouts.connect") == 3


def test_an_unknown_name_is_named_with_the_nearest_one() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'comm\.timeout\.connect'; did you mean 'comm\.timeouts\.connect'"
    ):
        config.get("comm.timeout.connect")
    with pytest.raises(ConfigurationError, match="unknown setting 'zzz'; there are "):
        config.set({"zzz": 1})
    assert config.get("zzz", 5) == 5


def test_a_wrong_value_changes_nothing() -> None:
    with pytest.raises(ConfigurationError, match=r"'comm\.high-water' is wrong: 'many' has the unknown unit"):
        config.set({"comm.timeouts.connect": 5, "comm.high-water": "many"})
    assert config.get("comm.timeouts.connect") == 30


def test_the_environment_is_read() -> None:
    assert read_environment(
        {
            "FASTDIST_COMM__TIMEOUTS__CONNECT": "100 ms",
            "FASTDIST_SCHEDULER__ALLOWED_FAILURES": "7",
            "FASTDIST_WORKER__MEMORY__SPILL": "false",
            "FASTDIST_TOKEN_FILE": "/somewhere",
            "PATH": "/bin",
        }
    ) == {"comm.timeouts.connect": 0.1, "scheduler.allowed-failures": 7, "worker.memory.spill": False}


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("FASTDIST_COMM__TIMEOUT__CONNECT", "1", "did you mean 'FASTDIST_COMM__TIMEOUTS__CONNECT'"),
        ("FASTDIST_COMM_TIMEOUTS_CONNECT", "1", "did you mean 'FASTDIST_COMM__TIMEOUTS__CONNECT'"),
        ("FASTDIST_COMM__TIMEOUTS__CONNECT", "soon", r"\(from FASTDIST_COMM__TIMEOUTS__CONNECT\) is wrong"),
        ("FASTDIST_SCHEDULER__ALLOWED_FAILURES", "-1", "no whole number"),
        ("FASTDIST_WORKER__MEMORY__TARGET", "1.5", "neither a fraction"),
        ("FASTDIST_EVENT_LOOP", "tornado", "neither 'asyncio' nor 'uvloop'"),
        ("FASTDIST_COMM__MAX_FRAME_BYTES", "4 GiB", "stays below 4 GiB"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        read_environment({variable: value})


def test_a_wrong_variable_is_named_at_the_first_use() -> None:
    program = "from fastdist import config\ntry: config.load()\nexcept ValueError as error: print(error)"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={"FASTDIST_COMM__HIGH_WATER": "lots", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "FASTDIST_COMM__HIGH_WATER" in result.stdout and "'lots'" in result.stdout


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0.5, 0.5), (3, 3.0), ("10s", 10.0), ("10", 10.0), ("100ms", 0.1), ("100 MS", 0.1),
        ("2 minutes", 120.0), ("1 hour", 3600.0), ("3 days", 259200.0), ("5us", 5e-6), ("5 µs", 5e-6),
        ("1e3 s", 1000.0), (".5m", 30.0), (datetime.timedelta(milliseconds=250), 0.25),
    ],
)  # fmt: skip
def test_durations(value: Any, seconds: float) -> None:
    assert parse_timedelta(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "x", "1 y", "-1s", -1, True, None, float("nan"), float("inf"), "1 2 s", [1]]
)
def test_what_is_no_duration(value: Any) -> None:
    with pytest.raises(ValueError):
        parse_timedelta(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (5, 5), ("5", 5), ("5 B", 5), ("1kB", 1000), ("1 KiB", 1024), ("64 MiB", 67108864),
        ("1.5 GiB", 1610612736), ("2e3", 2000), ("1 TB", 10**12), ("1Gi", 2**30), (1e6, 1_000_000),
    ],
)  # fmt: skip
def test_sizes(value: Any, size: int) -> None:
    assert parse_bytes(value) == size


@pytest.mark.parametrize("value", ["", "x", "1 XB", "-1", -1, True, None, float("inf"), [1]])
def test_what_is_no_size(value: Any) -> None:
    with pytest.raises(ValueError):
        parse_bytes(value)


def test_the_limits_of_connections_follow_the_settings() -> None:
    from fastdist.comm import Limits

    assert Limits.from_config() == Limits()
    with config.set({"comm.high-water": "1 MiB", "comm.timeouts.handshake": "2s", "comm.socket-backlog": 5}):
        limits = Limits.from_config()
        assert (limits.high_water, limits.handshake_timeout, limits.backlog) == (1 << 20, 2.0, 5)
