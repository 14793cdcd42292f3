"""Settings: where a value comes from, how it is understood, and how a wrong one is named."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdist import config
from fastdist.config import SETTINGS, parse_bytes, parse_timedelta, read_environment, sources, values
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
        ("FASTDIST_EVENT_LOOP", "trio", "neither 'asyncio' nor 'uvloop'"),
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


# -- files, dask, and what is said about them ----------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder for configuration files: an empty one, and no other files or variables."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.setenv("DASK_ROOT_CONFIG", str(tmp_path / "none"))
    (tmp_path / ".config" / "dask").mkdir(parents=True)
    (tmp_path / ".config" / "fastdist").mkdir()
    return tmp_path / ".config"


def run(program: str, **variables: str) -> str:
    """What a fresh process prints, its log included."""
    names = ("HOME", "XDG_CONFIG_HOME", "DASK_ROOT_CONFIG")
    environment = {"PYTHONPATH": ":".join(sys.path), **{name: os.environ[name] for name in names}, **variables}
    program = f"import logging, sys\nlogging.basicConfig(stream=sys.stdout)\nfrom fastdist import config\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files_and_variables_of_both_are_read_in_their_order(home: Path) -> None:
    (home / "dask" / "a.yaml").write_text(
        "distributed:\n  scheduler:\n    allowed-failures: 5\n    idle_timeout: 1m\n"
        "  comm:\n    timeouts: {connect: 7s, tcp: 8s}\nclient-name: ada\ntcp-timeout: 3s\n"
    )
    (home / "dask" / "b.json").write_text('{"distributed": {"scheduler": {"allowed-failures": 6}}}')
    (home / "fastdist" / "fastdist.yaml").write_text("comm.timeouts.tcp: 9s\nworker:\n  memory: {spill: false}\n")
    names = ["scheduler.allowed-failures", "scheduler.idle-timeout", "comm.timeouts.connect", "comm.timeouts.tcp"]
    names += ["worker.memory.spill", "worker.memory.pause", "client-name", "worker.resources"]
    printed = run(
        f"for name in {names}: print(config.get(name))\nconfig.report()\n"
        "print([name for name in ('dask', 'numpy') if name in sys.modules])",
        DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT="2m",
        DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="1s",
        DASK_DISTRIBUTED__WORKER__RESOURCES="{'GPU': 2}",
        DASK_DISTRIBUTED__WORKER__RESOURCES__Disk="1",
        FASTDIST_COMM__TIMEOUTS__CONNECT="4s",
        FASTDIST_WORKER__MEMORY__PAUSE="0.5",
    )
    assert printed.split("\n")[:-1] == [
        "6", "120.0", "4.0", "9.0", "False", "0.5", "ada", "{'GPU': 2.0, 'Disk': 1.0}", "[]",
    ]  # fmt: skip


def test_yaml_is_not_imported_for_files_in_which_all_is_commented_out(home: Path) -> None:
    (home / "dask" / "distributed.yaml").write_text("# distributed:\n#   version: 2\n\n---\n")
    assert run("config.load(); config.report(); print('yaml' in sys.modules)") == "False\n"


def test_what_dask_is_asked_in_vain_is_named_once_with_its_place(home: Path) -> None:
    file = home / "dask" / "x.yaml"
    file.write_text(
        "distributed:\n  schedular: {allowed-failures: 5}\n"
        "  scheduler: {work-stealing: false, work-stealing-interval: 1s, worker-saturation: many}\n"
        "  worker: {daemon: false}\njobqueue: {slurm: 1}\n"
    )
    printed = run(
        "config.report(); config.report(); print(config.get('scheduler.worker-saturation'))",
        DASK_DISTRIBUTED__ADMIN__PDB_ON_ERR="true",
    )
    *warnings, value = printed.strip().split("\n")
    assert value == "1.1"
    assert len(warnings) == 4
    assert (
        f"WARNING:fastdist.config:the setting 'distributed.schedular.allowed-failures' ({file}) is unknown and "
        "ignored; did you mean 'distributed.scheduler.allowed-failures'?"
    ) in warnings
    assert any("'distributed.scheduler.work-stealing: False'" in line and str(file) in line for line in warnings)
    assert any(f"'distributed.scheduler.worker-saturation' ({file}) is wrong" in line for line in warnings)
    assert any("pdb-on-err: True' (DASK_DISTRIBUTED__ADMIN__PDB_ON_ERR) has no effect" in line for line in warnings)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("scheduler: {alowed-failures: 3}", "did you mean 'scheduler.allowed-failures'"),
        ("scheduler: {allowed-failures: x}", r"fastdist\.yaml\) is wrong: 'x' is no whole number"),
        ("- 1", "must hold a mapping, not list"),
        ("a: [", "is no YAML"),
    ],
)
def test_a_mistake_in_our_own_file_is_an_error(home: Path, content: str, text: str) -> None:
    pytest.importorskip("yaml")
    (home / "fastdist" / "fastdist.yaml").write_text(content)
    found = sources.own_files(os.environ)
    assert found == [home / "fastdist" / "fastdist.yaml"]
    with pytest.raises(ConfigurationError, match=text):
        values._read_own({}, sources.read_own_files(os.environ))


def test_a_named_file_must_be_there_and_wins(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"FASTDIST_CONFIG names '/no/such', which is no file"):
        sources.own_files({"FASTDIST_CONFIG": "/no/such"})
    named = tmp_path / "named.json"
    named.write_text('{"distributed": {"scheduler": {"allowed-failures": 9}}}')
    assert run("print(config.get('scheduler.allowed-failures'))", FASTDIST_CONFIG=str(named)) == "9\n"


def test_a_setting_without_a_feature_is_not_set_silently() -> None:
    with pytest.raises(ConfigurationError, match=r"'scheduler\.work-stealing' has no effect: there is no feature"):
        config.set({"scheduler.work-stealing": False})
    assert not set(config.PLANNED) & set(SETTINGS) and not set(config.MOOT) & set(SETTINGS)


def test_dask_s_spelling_of_names_is_understood() -> None:
    with config.set({"distributed.scheduler.allowed_failures": 8}):
        assert config.get("distributed.scheduler.allowed-failures") == config.get("scheduler.allowed-failures") == 8
    with config.set({"distributed.admin.event-loop": "tornado"}):
        assert config.get("event-loop") == "asyncio"


class TestWithDask:
    """What `dask.config` says counts as soon as dask is imported, until it changes."""

    @pytest.fixture(autouse=True)
    def heed_dask(self, fresh: None) -> Iterator[None]:
        self.dask = pytest.importorskip("dask")
        state = values._loaded()
        state.heeds_dask = True
        values._said.clear()
        yield
        values._said.clear()

    def test_it_counts_while_it_is_set_and_less_than_our_own(self) -> None:
        with self.dask.config.set({"distributed.scheduler.allowed-failures": 7, "scheduler-address": "tcp://x:1"}):
            assert config.get("scheduler.allowed-failures") == 7
            assert config.get("scheduler-address") == "tcp://x:1"
            with config.set({"scheduler.allowed-failures": 1}):
                assert config.get("scheduler.allowed-failures") == 1
        assert config.get("scheduler.allowed-failures") == 3

    def test_wrong_and_vain_values_are_named(self, caplog: pytest.LogCaptureFixture) -> None:
        wanted = {"distributed.comm.timeouts.tcp": "soon", "distributed.admin.pdb-on-err": True, "distributed.x": 1}
        with self.dask.config.set(wanted):
            assert config.get("comm.timeouts.tcp") == 30
            config.report()
            config.report()
        told = [record.message for record in caplog.records]
        assert [text.partition(" (in dask.config)")[0] for text in sorted(told)] == [
            "the setting 'distributed.admin.pdb-on-err: True'",
            "the setting 'distributed.comm.timeouts.tcp'",
            "the setting 'distributed.x'",
        ]

    def test_the_defaults_of_dask_itself_are_nothing_to_report(self, caplog: pytest.LogCaptureFixture) -> None:
        pytest.importorskip("distributed")
        config.report()
        assert [record.message for record in caplog.records if "distributed" in record.message] == []

    def test_a_child_process_is_told_both_and_may_differ(self) -> None:
        with self.dask.config.set({"distributed.scheduler.allowed-failures": 7, "array.slicing": {"x": object()}}):
            told, text = config.for_child({"distributed": {"worker": {"memory": {"spill": 0.5}}}, "array.x": 1})
        assert (told["scheduler.allowed-failures"], told["worker.memory.spill"]) == (7, 0.5)
        assert text is not None
        tree = sources.inherited({config.INHERITED: text})
        assert tree["array"]["x"] == 1
        assert tree["distributed"]["worker"]["memory"]["spill"] == 0.5
        with pytest.raises(ConfigurationError, match=r"unknown setting 'worker\.zzz'"):
            config.for_child({"distributed.worker.zzz": 1})

    def test_libraries_find_the_defaults_that_they_ask_for(self, home: Path) -> None:
        program = (
            "config.publish_defaults(); import dask; config.publish_defaults(); config.publish_defaults()\n"
            "print(dask.config.get('distributed.comm.timeouts.connect'), len(dask.config.defaults))\n"
            "config.report(); print(config.get('comm.timeouts.connect'))"
        )
        first, second = run(program).split()[0], run(program).split()[-1]
        assert (first, second) == ("30s", "30.0")


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("worker.preload", "module", ["module"]),
        ("worker.preload", "['a', 'b']", ["a", "b"]),
        ("worker.preload-argv", [["a"], ["b", "c"]], [["a"], ["b", "c"]]),
        ("nanny.environ", {"A": 1, "B": "x", "C": None}, {"A": "1", "B": "x"}),
        ("worker.resources", "{'GPU': 2}", {"GPU": 2.0}),
        ("scheduler.idle-timeout", "null", None),
        ("scheduler.worker-saturation", float("inf"), float("inf")),
        ("comm.require-encryption", "true", True),
        ("client.direct-to-workers", 0, False),
    ],
)
def test_structured_values(name: str, value: Any, parsed: Any) -> None:
    with config.set({name: value}):
        assert config.get(name) == parsed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker.preload", 5),
        ("nanny.environ", ["A"]),
        ("nanny.environ", {"A": []}),
        ("worker.resources", {"GPU": True}),
        ("comm.require-encryption", "maybe"),
        ("client-name", 5),
    ],
)
def test_structured_values_of_the_wrong_type(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(name)):
        config.set({name: value})
