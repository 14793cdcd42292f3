"""`print` and `warn` of tasks, forwarded logs, and logs on demand. May import: fastdist, pytest."""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import fastdist
from fastdist import Client, LocalCluster
from fastdist.builtin_plugins import ForwardOutput
from fastdist.client.event_calls import handle_print, handle_warn, is_shown_already
from fastdist.logs import LogRing

Eventually = Callable[..., Any]


def test_what_a_task_prints_appears_at_the_client(
    client: Client, capsys: pytest.CaptureFixture[str], eventually: Eventually
) -> None:
    client.submit(lambda: fastdist.print("one", 2, sep="-", end="!\n"), pure=False).result()
    seen: list[str] = []
    assert eventually(lambda: seen.append(capsys.readouterr().out) or "".join(seen) == "one-2!\n")


def test_what_a_task_prints_to_stderr_appears_on_stderr(
    client: Client, capsys: pytest.CaptureFixture[str], eventually: Eventually
) -> None:
    client.submit(lambda: fastdist.print("oh", file=sys.stderr), pure=False).result()
    seen: list[str] = []
    assert eventually(lambda: seen.append(capsys.readouterr().err) or "oh" in "".join(seen))


def test_outside_of_a_task_print_is_the_builtin(capsys: pytest.CaptureFixture[str]) -> None:
    other = io.StringIO()
    fastdist.print("a", "b", sep="+")
    fastdist.print("elsewhere", file=other)
    assert capsys.readouterr().out == "a+b\n"
    assert other.getvalue() == "elsewhere\n"


def test_a_task_cannot_print_to_another_file(client: Client) -> None:
    with pytest.raises(TypeError, match=r"stdout or sys\.stderr"):
        client.submit(lambda: fastdist.print("x", file=io.StringIO()), pure=False).result()


def test_print_refuses_a_separator_that_is_no_text() -> None:
    with pytest.raises(TypeError, match="sep must be"):
        fastdist.print("x", sep=1)  # type: ignore[arg-type]


def test_what_a_task_warns_of_is_warned_of_at_the_client(client: Client, eventually: Eventually) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.submit(lambda: fastdist.warn("mind the gap", DeprecationWarning), pure=False).result()
        assert eventually(lambda: caught)
    assert (str(caught[0].message), caught[0].category) == ("mind the gap", DeprecationWarning)


def test_events_noted_by_hand_are_printed_and_warned_of_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    handle_print((0.0, "by hand"))
    assert capsys.readouterr().out == "by hand\n"
    with pytest.warns(UserWarning, match="by hand"):
        handle_warn((0.0, "by hand"))
    with pytest.warns(UserWarning, match="no such class"):
        handle_warn((0.0, {"message": "no such class", "category": "nowhere.Missing"}))
    with pytest.raises(TypeError, match="no message of"):
        handle_print((0.0, {"args": 5}))
    with pytest.raises(TypeError, match="no message of"):
        handle_warn((0.0, {}))


def test_a_client_can_decline_what_tasks_print(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    client.unsubscribe_topic("print")
    client.submit(lambda: fastdist.print("unheard"), pure=False).result()
    client.get_events("print")
    assert capsys.readouterr().out == ""


def test_records_of_a_logger_of_the_workers_are_handled_at_the_client(
    client: Client, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        logging.getLogger("mylibrary").warning("low on %s", "paper")
        logging.getLogger("mylibrary").info("below the level")

    client.forward_logging("mylibrary", logging.WARNING)
    address = client.submit(work, pure=False)
    address.result()

    def found() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name == "mylibrary"]

    assert eventually(found)
    (record,) = found()
    assert record.getMessage() == "low on paper"
    assert record.worker in client.scheduler_info()["workers"]  # type: ignore[attr-defined]
    client.unforward_logging("mylibrary")
    client.submit(work, pure=False).result()
    client.get_events("print")
    assert len(found()) == 1
    with pytest.raises(ValueError, match="no handler for the topic"):
        client.unforward_logging("mylibrary")


def test_the_text_of_a_forwarded_exception_comes_along(
    client: Client, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        try:
            raise KeyError("lost")
        except KeyError:
            logging.getLogger("other").exception("failed")

    client.forward_logging("other")
    client.submit(work, pure=False).result()
    assert eventually(lambda: any(record.name == "other" for record in caplog.records))
    record = next(record for record in caplog.records if record.name == "other")
    assert "KeyError: 'lost'" in (record.exc_text or "")
    client.unforward_logging("other")


def test_what_worker_processes_write_can_be_forwarded(
    client: Client, capsys: pytest.CaptureFixture[str], eventually: Eventually
) -> None:
    def work() -> None:
        sys.stdout.write("plain ")
        sys.stdout.write("text\n")

    client.register_plugin(ForwardOutput())
    client.submit(work, pure=False).result()
    seen: list[str] = []
    assert eventually(lambda: seen.append(capsys.readouterr().out) or "plain text\n" in "".join(seen))
    client.unregister_worker_plugin("forward-output")


# -- logs on demand ---------------------------------------------------------------------------------------------------


def test_the_logs_of_scheduler_and_workers_come_newest_first(client: Client) -> None:
    def log() -> None:
        for number in range(3):
            logging.getLogger("fastdist.worker").warning("line %d", number)

    logging.getLogger("fastdist.scheduler").warning("here is the scheduler")
    assert client.get_scheduler_logs(1)[0][0] == "WARNING"
    assert "here is the scheduler" in client.get_scheduler_logs(1)[0][1]
    client.run(log)
    logs = client.get_worker_logs(2)
    assert set(logs) == set(client.scheduler_info()["workers"])
    for lines in logs.values():
        assert [line.rpartition(" - ")[2] for _, line in lines] == ["line 2", "line 1"]
    (address, *_) = logs
    assert set(client.get_worker_logs(workers=[address])) == {address}


def test_a_ring_of_lines_is_bounded_and_lets_go_of_its_logger() -> None:
    logger = logging.getLogger("ring-of-a-test")
    with LogRing("ring-of-a-test", length=2) as ring:
        for number in range(3):
            logger.error("line %d", number)
    logger.error("after")
    assert [line[-6:] for _, line in ring.lines()] == ["line 2", "line 1"]
    assert [line[-6:] for _, line in ring.lines(1, start=1)] == ["line 1"]
    assert logger.handlers == []


def test_a_ring_does_not_silence_a_program_without_logging(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("alone")
    logger.propagate = False
    try:
        with LogRing("alone", length=2):
            logger.warning("still seen")
    finally:
        logger.propagate = True
    assert "still seen" in capsys.readouterr().err


def test_what_the_worker_shows_on_the_same_terminal_is_not_shown_again(monkeypatch: pytest.MonkeyPatch) -> None:
    host, pid = socket.gethostname(), os.getpid()
    message = {"args": ("x",), "file": None, "process": (host, 1, pid)}
    assert is_shown_already({**message, "process": (host, pid, 1)}), "the worker is in this process"
    assert not is_shown_already({**message, "process": (host, 1, 1)}), "the worker is another's child"
    assert not is_shown_already({**message, "process": ("elsewhere", pid, pid)}), "the worker is on another machine"
    assert not is_shown_already("noted by hand")
    assert not is_shown_already({**message, "process": None})
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert not is_shown_already(message), "a notebook reads what this process prints, not its children"
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with open(1, "w", closefd=False) as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert is_shown_already(message)
        assert not is_shown_already({**message, "file": 2})


def test_a_client_of_an_address_does_not_print_again_what_a_worker_in_its_process_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (
        LocalCluster(n_workers=1, processes=False, protocol="tcp") as cluster,
        Client(cluster.scheduler_address, security=cluster.security) as client,
    ):
        heard: list[object] = []
        printed = client._event_handlers["print"]
        client.subscribe_topic("print", lambda event: (printed(event), heard.append(event)))
        client.submit(lambda: fastdist.print("once"), pure=False).result(timeout=10)
        deadline = time.monotonic() + 10
        while not heard and time.monotonic() < deadline:
            client.get_events("print")
        assert len(heard) == 1
    assert capsys.readouterr().out == "once\n"
