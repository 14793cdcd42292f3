"""What tasks print, log and warn of: at clients, and afterwards. May import: fastdist, pytest, the standard library."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import fastdist
from fastdist import Client, LocalCluster
from fastdist.scheduler.extensions import output as kept_output
from fastdist.worker import output


def talks(x: int) -> int:
    print("printed", x)
    print("no end", x, end="")
    print("to stderr", x, file=sys.stderr)
    logging.getLogger("mine").warning("logged %d", x)
    warnings.warn(f"warned {x}", stacklevel=1)
    return x


@pytest.fixture
def watcher(cluster: LocalCluster) -> Iterator[Client]:
    """A client that shows what tasks write."""
    with Client(cluster, forward_output=True, set_as_default=False) as client:
        yield client


def test_what_a_task_writes_is_kept_with_time_worker_and_stream(client: Client, eventually: Any) -> None:
    future = client.submit(talks, 1)
    assert future.result() == 1
    assert eventually(lambda: len(future.logs()) >= 6)
    lines = future.logs()
    assert [line.text for line in lines if line.stream == "stdout"] == ["printed 1", "no end 1"]
    assert [line.text for line in lines if line.stream == "log"] == ["WARNING - mine - logged 1"]
    errors = [line.text for line in lines if line.stream == "stderr"]
    assert errors[0] == "to stderr 1"
    assert any("UserWarning: warned 1" in line for line in errors)
    assert {line.worker for line in lines} <= {"0", "1"}
    assert all(abs(line.time - time.time()) < 60 for line in lines)
    assert str(lines[0]) == "printed 1"


def test_a_client_that_asked_for_it_shows_the_lines(
    watcher: Client, capsys: pytest.CaptureFixture[str], eventually: Any
) -> None:
    shown: list[str] = []
    errors: list[str] = []

    def all_there() -> bool:
        out, err = capsys.readouterr()
        shown.extend(out.splitlines())
        errors.extend(err.splitlines())
        return any("no end 2" in line for line in shown)

    future = watcher.submit(talks, 2)
    worker = str(watcher.scheduler_info()["workers"][next(iter(watcher.who_has([future]).values()))[0]]["name"]) \
        if future.result() == 2 else ""
    assert eventually(all_there)
    assert shown == [f"[{worker} | {future.key}] printed 2", f"[{worker} | {future.key}] no end 2"]
    assert f"[{worker} | {future.key}] WARNING - mine - logged 2" in errors
    assert f"[{worker} | {future.key}] to stderr 2" in errors


def counts(n: int, name: str) -> None:
    for i in range(n):
        print(name, i)


def test_the_lines_of_each_task_come_in_order(
    watcher: Client, capsys: pytest.CaptureFixture[str], eventually: Any
) -> None:
    shown: list[str] = []
    futures = [watcher.submit(counts, 200, name) for name in "abcd"]
    watcher.gather(futures)

    def all_there() -> bool:
        shown.extend(capsys.readouterr().out.splitlines())
        return len(shown) >= 800

    assert eventually(all_there)
    for name in "abcd":
        numbers = [int(line.split()[-1]) for line in shown if f"] {name} " in line]
        assert numbers == list(range(200))


def says(text: str) -> None:
    print(text)


def test_a_client_shows_its_own_tasks_and_not_those_of_others(
    watcher: Client, client: Client, capsys: pytest.CaptureFixture[str], eventually: Any
) -> None:
    mine = {"of the watcher", "nobody holds it", "in a graph", "the end"}
    texts: set[str] = set()

    def all_seen() -> bool:
        texts.update(line.partition("] ")[2] for line in capsys.readouterr().out.splitlines())
        return texts >= mine

    held = watcher.submit(says, "of the watcher")
    watcher.submit(says, "nobody holds it").result()
    client.submit(says, "of somebody else").result()
    client.get({"z": (says, "in a graph of somebody else")}, "z")
    watcher.get({"x": (says, "in a graph"), "y": (id, "x")}, "y")
    held.result()
    assert eventually(lambda: len(client.cluster.scheduler.extensions["output"].kept) > 4)
    watcher.submit(says, "the end").result()
    assert eventually(all_seen)
    assert texts == mine


def test_who_submitted_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_output, "MAX_TURNS", 4)
    submitters, first = kept_output.Submitters(), kept_output.FIRST_SUBMISSION
    for turn in range(1, 7):
        submitters.note(first + 10 * turn, turn)
    assert [submitters.find(first + 10 * turn + 9) for turn in range(1, 7)] == [None, None, 3, 4, 5, 6]
    assert submitters.find(first - 5) is None, "a task made it"


def test_fastdist_print_is_shown_once(
    watcher: Client, capsys: pytest.CaptureFixture[str], eventually: Any
) -> None:
    shown: list[str] = []

    def says() -> None:
        fastdist.print("just once")

    def last() -> None:
        print("the last line")

    watcher.submit(says).result()
    watcher.submit(last).result()

    def there() -> bool:
        shown.extend(capsys.readouterr().out.splitlines())
        return any("the last line" in line for line in shown)

    assert eventually(there)
    assert sum("just once" in line for line in shown) == 1


def test_the_output_of_a_task_outlives_its_worker(client: Client, eventually: Any) -> None:
    def prints_and_dies() -> None:
        print("last words")
        os._exit(3)

    future = client.submit(prints_and_dies, pure=False)
    assert eventually(lambda: "last words" in [line.text for line in future.logs()])
    future.cancel()


def test_a_task_that_writes_too_much_is_cut_and_the_rest_counted(client: Client, eventually: Any) -> None:
    n = 4_000
    future = client.submit(counts, n, "much")
    future.result()

    def found() -> tuple[int, int]:
        lines = future.logs()
        dropped = [int(line.text.split()[1]) for line in lines if line.stream == "note"]
        return sum(line.stream == "stdout" for line in lines), sum(dropped)

    assert eventually(lambda: sum(found()) == n)
    kept, dropped = found()
    assert kept >= output.BURST
    assert dropped > 0


def test_what_is_not_written_by_a_task_is_not_taken(client: Client) -> None:
    def speaks() -> str:
        print("from no task")
        return "done"

    client.run(speaks)
    future = client.submit(abs, -7)
    assert future.result() == 7
    assert future.logs() == []


def test_a_long_line_is_cut(client: Client, eventually: Any) -> None:
    future = client.submit(print, "x" * (output.MAX_LINE + 100))
    future.result()
    assert eventually(future.logs)
    assert len(future.logs()[0].text) < output.MAX_LINE + 100


def test_what_is_kept_is_bounded(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_output, "MAX_TASK_BYTES", 100)
    monkeypatch.setattr(kept_output, "MAX_TOTAL_BYTES", 250)
    kept = kept_output.Output(cluster.scheduler)
    for i in range(10):
        for key in (b"a", b"b", b"c", b"d"):
            kept._keep(key, bytes([i]) * 40)
            assert kept.n_bytes == sum(len(each) for ring in kept.kept.values() for each in ring) <= 250
    assert b"d" in kept.kept
    assert list(kept.kept[b"d"]) == [b"\x08" * 40, b"\x09" * 40]


def test_a_wrong_value_is_refused_at_the_call(cluster: LocalCluster) -> None:
    with pytest.raises(TypeError, match="forward_output= must be True or False"):
        Client(cluster, forward_output="yes")  # type: ignore[arg-type]




def test_a_worker_in_this_process_keeps_the_output_as_well(
    capsys: pytest.CaptureFixture[str], eventually: Any
) -> None:
    before = sys.stdout, sys.stderr
    with Client(n_workers=2, threads_per_worker=1, processes=False) as client:
        future = client.submit(talks, 4)
        assert eventually(lambda: len(future.logs()) >= 3)
        print("not by a task")
        texts = [line.text for line in future.logs()]
        assert texts[0] == "printed 4" and {"to stderr 4", "no end 4"} <= set(texts)
        assert "not by a task" not in texts
    assert (sys.stdout, sys.stderr) == before
    out, err = capsys.readouterr()
    assert "printed 4" in out.splitlines() and "to stderr 4" in err.splitlines(), "they appear where they did"


def test_streams_that_others_have_changed_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", first)
    shared = output.SharedStreams()
    shared.take()
    shared.take()
    assert sys.stdout.wrapped is first
    shared.give_back()
    print("still ours")
    monkeypatch.setattr(sys, "stdout", second)
    shared.give_back()
    assert sys.stdout is second
    assert first.getvalue() == "still ours\n"
