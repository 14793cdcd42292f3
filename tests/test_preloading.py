"""Preloads: what counts as one, in which order they are set up and torn down, and what becomes of failures."""

from __future__ import annotations

import asyncio
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdist import config, preloading
from fastdist.preloading import PreloadManager, check_arguments, process_preloads, validate_preload_argv

NOTES = """\
def dask_setup(server):
    server.append('setup {name}')

async def dask_teardown(server):
    server.append('teardown {name}')
"""


def notes(name: str) -> str:
    return NOTES.replace("{name}", name)


def run_all(manager: PreloadManager, folder: str | None = None) -> None:
    async def run() -> None:
        await manager.start(None if folder is None else lambda: folder)
        await manager.teardown()

    asyncio.run(run())


@pytest.fixture(autouse=True)
def forget_modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("preload_"):
            del sys.modules[name]


def test_they_are_set_up_in_order_and_torn_down_in_reverse(tmp_path: Path) -> None:
    file = tmp_path / "preload_file.py"
    file.write_text(notes("file"))
    told: list[str] = []
    run_all(PreloadManager(told, [notes("text"), str(file)]))
    assert told == ["setup text", "setup file", "teardown file", "teardown text"]


def test_a_file_is_copied_and_can_be_imported_by_its_name(tmp_path: Path) -> None:
    file, folder = tmp_path / "preload_copied.py", tmp_path / "folder"
    folder.mkdir()
    file.write_text("def dask_setup(server): server.append(__name__)\n")
    told: list[str] = []
    run_all(PreloadManager(told, str(file)), str(folder))
    assert told == ["preload_copied"]
    assert sys.modules["preload_copied"].__file__ == str(folder / "preload_copied.py")


def test_a_module_is_imported_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "preload_named.py").write_text(notes("named"))
    monkeypatch.syspath_prepend(str(tmp_path))
    told: list[str] = []
    manager = process_preloads(told, "preload_named")
    assert [preload.name for preload in manager] == ["preload_named"] and told == []
    run_all(manager)
    assert told == ["setup named", "teardown named"]


def test_a_failing_setup_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    run_all(PreloadManager(told, ["def dask_setup(server): 1 / 0", notes("second")]))
    assert told == ["setup second", "teardown second"]
    assert "the setup of the preload def dask_setup(server): 1 / 0 failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_preload_that_cannot_be_loaded_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="preload_that_is_nowhere"):
        run_all(PreloadManager([], "preload_that_is_nowhere"))


COMMAND = """\
import click
@click.command()
@click.option("--size", type=int, default=1)
@click.argument("words", nargs=-1)
async def dask_setup(server, size, words):
    server.append((size, words))
"""


def test_a_click_command_gets_its_arguments() -> None:
    pytest.importorskip("click")
    told: list[Any] = []
    run_all(PreloadManager(told, [COMMAND, notes("other")], ["--size", "3", "a", "b"]))
    assert told == [(3, ("a", "b")), "setup other", "teardown other"]
    told.clear()
    run_all(PreloadManager(told, [COMMAND, COMMAND], [["x"], ["--size", "2"]]))
    assert told == [(1, ("x",)), (2, ())]
    with pytest.raises(ValueError, match="different lengths: 2 and 1"):
        PreloadManager(told, ["a", "b"], [["x"]])


def test_arguments_are_checked_before_anything_starts() -> None:
    click = pytest.importorskip("click")
    check_arguments([COMMAND], ["--size", "3"])
    with pytest.raises(ValueError, match="does not understand its arguments"):
        check_arguments([COMMAND], ["--what"])
    with pytest.raises(ValueError, match="only one preload may"):
        check_arguments([COMMAND, COMMAND + "\n"], [])
    context = click.Context(click.Command("daemon"))
    assert validate_preload_argv(context, None, ()) == ()
    with pytest.raises(click.NoSuchOption):
        validate_preload_argv(context, None, ("--x",))
    with pytest.raises(click.UsageError, match="follow --preload"):
        validate_preload_argv(context, None, ("x",))
    context.params["preload"] = (COMMAND,)
    assert validate_preload_argv(context, None, ("x",)) == ("x",)


@pytest.fixture
def server_that_hesitates(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[int]]]:
    """Answers with the codes in the list, then with a preload."""
    codes: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(codes.pop(0) if codes else 200)
            self.end_headers()
            self.wfile.write(notes("fetched").encode())

        def log_message(self, *unused: object) -> None:
            pass

    monkeypatch.setattr(preloading, "PAUSES", (0.0, 0.0))
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/preload", codes
        server.shutdown()
        thread.join()


def test_one_is_fetched_and_a_busy_server_is_asked_again(server_that_hesitates: tuple[str, list[int]]) -> None:
    address, codes = server_that_hesitates
    codes += [503, 429]
    told: list[str] = []
    run_all(PreloadManager(told, address))
    assert told == ["setup fetched", "teardown fetched"]
    codes.append(404)
    with pytest.raises(OSError, match="404"):
        run_all(PreloadManager(told, address))


def test_the_settings_name_them_unless_they_are_given() -> None:
    told: list[str] = []
    with config.set({"worker.preload": [notes("set")], "worker.preload-argv": []}):
        run_all(PreloadManager.configured(told, "worker", None, None))
        run_all(PreloadManager.configured(told, "worker", notes("given"), None))
        run_all(PreloadManager.configured(told, "worker", [], None))
    assert told == ["setup set", "teardown set", "setup given", "teardown given"]
