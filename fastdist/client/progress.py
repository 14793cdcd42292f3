"""A progress bar for terminals. May import: what the client may."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from fastdist.client.containers import find_futures
from fastdist.client.future import Future
from fastdist.client.options import parse_seconds

if TYPE_CHECKING:
    from fastdist.client.client import Client

#: (name, tasks, done, failed) of a group.
Counts = list[tuple[str, int, int, int]]
#: Groups that have a line of their own.
MAX_LINES = 15
#: Looking takes this share of the time at most, however many tasks there are.
LOOKING_SHARE = 0.05


def progress(
    *futures: Any,
    notebook: bool | None = None,
    multi: bool = True,
    complete: bool = True,
    group_by: Any = "prefix",
    **kwargs: Any,
) -> Any:
    """Show how far futures, and all that they need, have come, until they are done.

    Parameters
    ----------
    *futures : Future or collection
        What to look at.
    notebook : bool, optional
        Widgets are not available yet; in a notebook the bar is text, too.
    multi : bool
        Whether each group has a bar of its own.
    complete : bool
        Whether what was done before counts.
    group_by : str or callable
        `"prefix"` (the name of the function), or a function from the key of a future to the name of its group; with a
        function, only the futures themselves are counted.
    **kwargs
        `interval` (seconds between two looks), `width` (of a bar), `file` (where to write).

    Returns
    -------
    None; with an asynchronous client, an awaitable of it.

    Raises
    ------
    ValueError
        If `group_by` is something else, or there are no futures.
    NotImplementedError
        If widgets or groups by span are asked for.
    TypeError
        If there is another argument.

    Examples
    --------
    >>> progress(client.map(abs, range(1000)))  # doctest: +SKIP
    [########################################] | 100% Completed |   0.1 s | abs 1000/1000
    """
    if notebook:
        raise NotImplementedError("progress(notebook=True) is not available yet: leave it out for a bar of text")
    if group_by == "spans":
        raise NotImplementedError("progress(group_by='spans') is not available yet")
    if group_by != "prefix" and not callable(group_by):
        raise ValueError(f"group_by= can be 'prefix' or a function of keys, not {group_by!r}")
    bar = TextBar(multi=multi, **kwargs)
    found = find_futures(list(futures))
    if not found:
        raise ValueError("there is no future to look at")
    client = found[0]._client()
    client._check_usable()
    if group_by == "prefix":
        return client.sync(_follow, client, found, bar, complete)
    if not complete:
        found = [future for future in found if not future.done()]
    return client.sync(_follow_groups, found, bar, group_by)


async def _follow(client: Client, futures: list[Future], bar: TextBar, complete: bool) -> None:
    """Ask the scheduler, which knows what the futures need."""
    keys = [future.key_bytes for future in futures]
    call = client._connection.call
    number = (await call("start-progress", keys=keys, complete=bool(complete)))["number"]
    with bar.drawn():
        while True:
            began = time.monotonic()
            counts = [tuple(row) for row in (await call("get-progress", number=number))["counts"]]
            ended = all(future.done() for future in futures)
            bar.draw(counts)
            if ended:
                break
            await asyncio.sleep(max(bar.interval, (time.monotonic() - began) / LOOKING_SHARE))
    await call("stop-progress", number=number)


async def _follow_groups(futures: list[Future], bar: TextBar, group_by: Callable[[Any], Any]) -> None:
    groups: dict[str, list[Future]] = {}
    for future in futures:
        groups.setdefault(str(group_by(future.key)), []).append(future)
    with bar.drawn():
        while True:
            began = time.monotonic()
            counts = [(name, *_count(members)) for name, members in groups.items()]
            bar.draw(counts)
            if all(done + failed == total for _, total, done, failed in counts):
                return
            await asyncio.sleep(max(bar.interval, (time.monotonic() - began) / LOOKING_SHARE))


def _count(futures: list[Future]) -> tuple[int, int, int]:
    states = [future.status for future in futures]
    n_finished = states.count("finished")
    return len(states), n_finished, len(states) - n_finished - states.count("pending")


class TextBar:
    """Lines of text that are drawn over themselves; where that is not possible, one line at the end.

    Parameters
    ----------
    multi : bool
        Whether each group has a line.
    interval : number or str
        Seconds between two looks.
    width : int
        Characters of a bar.
    file : text file
        Where to write.
    """

    def __init__(self, multi: bool = True, interval: float | str = 0.1, width: int = 40, file: TextIO | None = None):
        self.interval = parse_seconds(interval, "interval") or 0.1
        self._multi = multi
        self._width = width
        self._file = sys.stdout if file is None else file
        self._in_place = self._file.isatty()
        self._started = time.monotonic()
        self._n_lines = 0
        self._lines: list[str] = []

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Leave the last state on the screen at the end."""
        try:
            yield
        finally:
            if self._lines and not self._in_place:
                self._file.write("\n".join(self._lines) + "\n")
            self._file.flush()

    def draw(self, counts: Counts | list[Any]) -> None:
        """Show these counts."""
        self._lines = self.lines(counts)
        if not self._in_place:
            return
        up = f"\x1b[{self._n_lines}F" if self._n_lines else ""
        self._file.write(up + "".join(f"\x1b[2K{line}\n" for line in self._lines))
        self._file.flush()
        self._n_lines = len(self._lines)

    def lines(self, counts: Counts | list[Any]) -> list[str]:
        """The text for these counts."""
        total = added_up("all", counts)
        rows = [*counts[:MAX_LINES]] if self._multi else [total]
        if self._multi and len(counts) > MAX_LINES:
            rest = counts[MAX_LINES:]
            rows.append(added_up(f"{len(rest)} others", rest))
        return [self._line(*row) for row in rows or [total]]

    def _line(self, name: str, total: int, done: int, failed: int) -> str:
        share = done / total if total else 1.0
        bar = "#" * int(self._width * share)
        elapsed = time.monotonic() - self._started
        text = f"[{bar:<{self._width}}] | {int(100 * share):3d}% Completed | {elapsed:5.1f} s | {name} {done}/{total}"
        return f"{text}, {failed} failed" if failed else text


def added_up(name: str, counts: Counts | list[Any]) -> tuple[str, int, int, int]:
    """Many groups as one."""
    return name, sum(row[1] for row in counts), sum(row[2] for row in counts), sum(row[3] for row in counts)
