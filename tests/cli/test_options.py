"""The command lines: what is accepted, what is refused, and what it comes to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastdist import config
from fastdist.cli import common, scheduler, worker
from fastdist.cli import worker as worker_module


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tls-ca-file", "x"],
        ["--tls-cert", "x"],
        ["--tls-key", "x"],
        ["--dashboard"],
        ["--dashboard-address", ":9999"],
        ["--dashboard-prefix", "/x"],
        ["--protocol", "ws"],
        ["--jupyter"],
    ],
)
def test_the_scheduler_exits_with_2_and_names_what_is_not_built(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        scheduler.main(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nanny-port", "3000"],
        ["--scheduler-sni", "x"],
        ["--tls-cert", "x"],
        ["--dashboard"],
    ],
)
def test_the_worker_exits_with_2_and_names_what_is_not_built(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        worker.main(["tcp://127.0.0.1:1", *arguments])
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_options_that_do_no_harm_are_accepted() -> None:
    command_line = scheduler.parser()
    harmless = "--no-dashboard --no-jupyter --no-show --dashboard-address :0 --protocol tcp"
    options = command_line.parse_args(harmless.split())
    common.refuse_unbuilt(command_line, options, "jupyter")
    command_line = worker.parser()
    options = command_line.parse_args(["tcp://x:1", "--no-dashboard"])
    common.refuse_unbuilt(command_line, options)


SETUP_WITH_OPTIONS = """\
import click
@click.command()
@click.option("--size", type=int)
@click.argument("words", nargs=-1)
def dask_setup(server, size, words): pass
"""


def test_what_is_no_option_goes_to_the_preload_in_order(tmp_path: Path) -> None:
    preload = tmp_path / "with_options.py"
    preload.write_text(SETUP_WITH_OPTIONS)
    given = ["tcp://x:1", "--nthreads", "3", "--preload", str(preload), "--size", "5", "a", "--no-nanny", "b"]
    options = common.parse_arguments(worker.parser(), given)
    assert (options.scheduler, options.nthreads, options.nanny) == ("tcp://x:1", 3, False)
    assert options.preload_argv == ["--size", "5", "a", "b"]
    (one,) = worker.worker_options(options)
    assert (one["preload"], one["preload_argv"]) == ([str(preload)], options.preload_argv)
    options = common.parse_arguments(scheduler.parser(), ["--preload", str(preload), "a", f"--port={1}"])
    assert (options.port, options.preload_argv) == (1, ["a"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--size", "5"], "unrecognized arguments: --size 5; arguments for a preload need --preload"),
        (["--preload", "no_such_module_at_all"], "No module named 'no_such_module_at_all'"),
        (["--preload", "def dask_setup(server): pass", "x"], "no preload takes the arguments x"),
        (["--preload", SETUP_WITH_OPTIONS, "--size", "many"], "the preload does not understand its arguments"),
    ],
)
def test_arguments_that_nobody_takes_are_refused(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        scheduler.main(arguments)
    assert ended.value.code == 2
    assert text in capsys.readouterr().err


def options_of(*arguments: str) -> list[dict[str, object]]:
    return worker.worker_options(worker.parser().parse_args(["tcp://x:1", *arguments]))


def test_one_worker_with_all_processors_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "processor_count", lambda: 8)
    (only,) = options_of()
    assert (only["nthreads"], only["name"], only["port"], only["memory_limit"]) == (8, None, None, "auto")


@pytest.mark.parametrize(
    ("nworkers", "expected"), [("3", (3, 2)), ("-1", (8, 1)), ("-7", (2, 4)), ("auto", (4, 2))]
)
def test_several_workers_share_the_processors(
    nworkers: str, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "processor_count", lambda: 8)
    workers = options_of(f"--nworkers={nworkers}")
    assert (len(workers), workers[0]["nthreads"]) == expected


def test_names_get_a_suffix_and_a_numeric_name_is_a_number() -> None:
    assert [one["name"] for one in options_of("--nworkers", "2", "--name", "w")] == ["w-0", "w-1"]
    assert options_of("--name", "7")[0]["name"] == 7


def test_a_range_of_ports_is_shared() -> None:
    two = options_of("--nworkers", "2", "--worker-port", "3000:3005")
    assert [one["port"] for one in two] == [3000, 3001]
    assert options_of("--worker-port", "3000:3005")[0]["port"] == "3000:3005"


def test_resources_are_numbers_by_name() -> None:
    assert options_of("--resources", "GPU=2 MEM=10e9")[0]["resources"] == {"GPU": 2.0, "MEM": 10e9}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nworkers", "0"],
        ["--nworkers", "many"],
        ["--nworkers", "auto", "--nthreads", "2"],
        ["--nworkers", "2", "--no-nanny"],
        ["--contact-address", "tcp://x:1"],
        ["--listen-address", "tcp://0.0.0.0:9000", "--host", "x"],
        ["--listen-address", "tcp://0.0.0.0:9000", "--nworkers", "2"],
        ["--worker-port", "3000:3001", "--nworkers", "3"],
        ["--resources", "GPU"],
        ["--resources", "GPU=many"],
    ],
)
def test_contradictions_are_refused(arguments: list[str]) -> None:
    with pytest.raises(ValueError):
        options_of(*arguments)


def test_the_listen_address_gives_host_and_port() -> None:
    (only,) = options_of("--listen-address", "tcp://0.0.0.0:9000", "--contact-address", "tcp://me:9000")
    assert (only["host"], only["port"], only["contact_address"]) == ("0.0.0.0", 9000, "tcp://me:9000")


def test_the_scheduler_is_found_by_argument_file_or_setting(tmp_path: Path) -> None:
    parse = worker.parser().parse_args
    assert worker.find_scheduler(parse(["tcp://x:1"])) == "tcp://x:1"
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": "tcp://y:2"}))
    assert worker.find_scheduler(parse(["--scheduler-file", str(file)])) == "tcp://y:2"
    with pytest.raises(ValueError, match="not both"):
        worker.find_scheduler(parse(["tcp://x:1", "--scheduler-file", str(file)]))
    with config.set({"scheduler-address": "tcp://z:3"}):
        assert worker.find_scheduler(parse([])) == "tcp://z:3"
    with pytest.raises(ValueError, match="scheduler-file"):
        worker.find_scheduler(parse([]))
    file.write_text("{}")
    with pytest.raises(ValueError, match="no address"):
        worker.find_scheduler(parse(["--scheduler-file", str(file)]))


def test_insecure_and_a_token_file_contradict_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    command_line = scheduler.parser()
    with pytest.raises(SystemExit):
        common.choose_token(command_line, command_line.parse_args(["--insecure", "--token-file", "x"]))
    assert "contradict" in capsys.readouterr().err


def test_a_missing_token_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command_line = scheduler.parser()
    missing = str(tmp_path / "missing")
    with pytest.raises(SystemExit) as ended:
        common.choose_token(command_line, command_line.parse_args(["--token-file", missing]))
    assert ended.value.code == 2
    assert missing in capsys.readouterr().err


def test_the_pid_file_lives_as_long_as_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with common.pid_file(str(path)):
        assert int(path.read_text()) > 0
    assert not path.exists()


@pytest.mark.parametrize("module", ["scheduler", "worker"])
def test_help_and_version_need_no_network(module: str) -> None:
    for option in ("--help", "--version"):
        command = [sys.executable, "-m", f"fastdist.cli.{module}", option]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f"fastdist-{module}" in done.stdout
        assert done.stderr == ""
