"""What questions about the cluster are answered with: dicts that show themselves as tables, views of futures.

May import: `_core`, `errors`, the futures of this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from fastdist._core.keys.canonical import decode_key, encode_key

if TYPE_CHECKING:
    from fastdist.client.future import Future
    from fastdist.client.lifecycle import Lifecycle

#: Rows of a table in a notebook.
SHOWN_ROWS = 100
BYTE_UNITS = ((1 << 50, "PiB"), (1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "kiB"))


class HasWhat(dict[str, list[Any]]):
    """The keys that each worker holds, by the address of the worker."""

    def _repr_html_(self) -> str:
        rows = [(address, len(keys), shortened(map(str, keys))) for address, keys in self.items()]
        return html_table(("Worker", "Keys", ""), rows)


class WhoHas(dict[Any, list[str]]):
    """The addresses of the workers that hold the data of each key."""

    def _repr_html_(self) -> str:
        rows = [(key, len(workers), shortened(workers)) for key, workers in self.items()]
        return html_table(("Key", "Copies", "Workers"), rows)


class SchedulerInfo(dict[str, Any]):
    """The scheduler and its workers."""

    def _repr_html_(self) -> str:
        facts = [
            ("Scheduler", self.get("address", "")),
            ("Workers", self.get("n_workers", 0)),
            ("Threads", self.get("total_threads", 0)),
            ("Memory", format_bytes(self.get("total_memory", 0))),
        ]
        workers = [
            (
                worker.get("name"),
                address,
                worker.get("nthreads"),
                format_bytes(worker.get("memory_limit") or 0),
                worker.get("status"),
            )
            for address, worker in self.get("workers", {}).items()
        ]
        table = html_table(("Name", "Address", "Threads", "Memory", "Status"), workers) if workers else ""
        return html_table(("", ""), facts) + table


def format_bytes(n: float) -> str:
    """A number of bytes for people.

    Examples
    --------
    >>> format_bytes(16_642_998_272)
    '15.50 GiB'
    """
    for factor, unit in BYTE_UNITS:
        if n >= factor * 0.9:
            return f"{n / factor:.2f} {unit}"
    return f"{n:.0f} B"


def shortened(texts: Iterable[str], limit: int = 5) -> str:
    """The first texts of many."""
    listed = list(texts)
    return ", ".join(listed[:limit]) + (", ..." if len(listed) > limit else "")


def html_table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A table for notebooks; of many rows, the first ones."""

    def cells(kind: str, texts: tuple[Any, ...]) -> str:
        inner = "".join(f"<{kind} style='text-align: left'>{escape(str(text))}</{kind}>" for text in texts)
        return f"<tr>{inner}</tr>"

    more = f"<p>... and {len(rows) - SHOWN_ROWS} more</p>" if len(rows) > SHOWN_ROWS else ""
    titles = cells("th", head) if any(head) else ""
    return f"<table>{titles}{''.join(cells('td', row) for row in rows[:SHOWN_ROWS])}</table>{more}"


class FutureState:
    """What a client knows of one task."""

    __slots__ = ("_future",)

    def __init__(self, future: Future):
        self._future = future

    @property
    def key(self) -> Any:
        """The key of the task."""
        return self._future.key

    @property
    def status(self) -> str | None:
        """As of `Future`."""
        return self._future.status

    @property
    def type(self) -> Any:
        """As of `Future`."""
        return self._future.type

    @property
    def exception(self) -> BaseException | None:
        """The exception of a task that failed or was cancelled, else None."""
        return self._future.exception() if self._future.done() else None

    @property
    def traceback(self) -> Any:
        """The traceback of a task that failed, else None."""
        return self._future.traceback() if self._future.done() else None

    def done(self) -> bool:
        """Whether the task ended, well or not."""
        return self._future.done()

    def __repr__(self) -> str:
        return f"<FutureState: {self.status}>"


def in_use(future: Future | None) -> Future | None:
    """The future, unless it is the only one of its task: then nobody but this look has one."""
    return future if future is not None and future.references > 1 else None


class TasksView(Mapping[Any, Any]):
    """The tasks that a client has futures of, by key; looked up at each access, nothing is copied.

    Parameters
    ----------
    client : Client
        The client.
    look : callable
        What a future becomes.
    """

    def __init__(self, client: Lifecycle, look: Callable[[Future], Any]):
        self._client = client
        self._look = look

    def _find(self, key: Any) -> Future | None:
        table: Any = self._client._table
        try:
            id = table.find_key(encode_key(key))
        except TypeError:
            return None
        return in_use(table.future(id)) if id else None

    def __getitem__(self, key: Any) -> Any:
        future = self._find(key)
        if future is None:
            raise KeyError(key)
        return self._look(future)

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not None

    def __iter__(self) -> Iterator[Any]:
        table: Any = self._client._table
        for id in table.live_ids():
            future = in_use(table.future(id))
            # What is cancelled has no key of its own any more.
            key = future.key_bytes if future is not None and table.find_key(future.key_bytes) == id else None
            # While whoever iterates looks at it, it must not count.
            del future
            if key is not None:
                yield decode_key(key)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))
