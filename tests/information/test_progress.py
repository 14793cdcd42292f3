"""The progress bar of terminals. May import: fastdist, pytest."""

from __future__ import annotations

import io
import re
import threading
from typing import Any

import pytest

from fastdist import Client, progress, wait

started = threading.Event()
released = threading.Event()


class Terminal(io.StringIO):
    """A file that lines can be drawn over in."""

    def isatty(self) -> bool:
        return True


def hold(x: int) -> int:
    started.set()
    assert released.wait(10)
    return x


def test_the_bar_ends_complete_and_names_the_functions(client: Client) -> None:
    out = io.StringIO()
    futures = client.map(abs, range(10))
    total = client.submit(sum, futures)
    assert progress(total, file=out) is None
    lines = out.getvalue().splitlines()
    assert total.done()
    assert {line.split("| ")[-1] for line in lines} == {"abs 10/10", "sum 1/1"}
    assert all("100% Completed" in line and f"[{'#' * 40}]" in line for line in lines)


def test_a_terminal_is_drawn_over(client: Client) -> None:
    started.clear()
    released.clear()
    out = Terminal()
    future = client.submit(hold, 1)
    drawing = threading.Thread(target=progress, args=(future,), kwargs={"file": out, "interval": 0.01})
    drawing.start()
    assert started.wait(10)
    while "\x1b[1F" not in out.getvalue():
        drawing.join(0.01)
    released.set()
    drawing.join(10)
    assert "0% Completed" in out.getvalue()
    assert re.search(r"\x1b\[1F\x1b\[2K\[#+\] \| 100% Completed .* hold 1/1\n$", out.getvalue())


def test_what_was_done_before_counts_only_if_asked(client: Client) -> None:
    done = client.map(abs, range(5))
    wait(done)
    out = io.StringIO()
    progress(done, complete=False, file=out)
    assert "5/5" not in out.getvalue()
    progress(done, file=out)
    assert "abs 5/5" in out.getvalue()


def test_failures_are_counted(client: Client) -> None:
    out = io.StringIO()
    progress(client.map(divmod, [1, 1], [1, 0]), file=out)
    assert "divmod 1/2, 1 failed" in out.getvalue()


@pytest.mark.parametrize("multi", [True, False])
def test_groups_can_come_from_a_function_of_keys(client: Client, multi: bool) -> None:
    out = io.StringIO()
    futures = client.map(abs, range(4), key=[("a", 0), ("a", 1), ("b", 0), ("b", 1)])
    progress(futures, group_by=lambda key: key[0], multi=multi, file=out)
    found = {line.split("| ")[-1] for line in out.getvalue().splitlines()}
    assert found == ({"a 2/2", "b 2/2"} if multi else {"all 4/4"})


def test_bad_arguments_are_refused(client: Client) -> None:
    future: Any = client.submit(abs, -1)
    with pytest.raises(ValueError, match="group_by"):
        progress(future, group_by="colour")
    with pytest.raises(ValueError, match="no future"):
        progress([])
    with pytest.raises(TypeError, match="unexpected"):
        progress(future, colour="red")
    for refused in ({"notebook": True}, {"group_by": "spans"}):
        with pytest.raises(NotImplementedError):
            progress(future, **refused)
