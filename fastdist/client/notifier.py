"""Who wants to hear that a future is done: as_completed, done callbacks, awaits. May import: `_core`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable

from fastdist._core.client.futures import FutureTable
from fastdist.client.future import Future

#: Called with the ids that are done, once per STATE frame; in the thread that applied the frame.
Sink = Callable[[list[int]], object]


class Notifier:
    """Hands ids that are done to those who watch them.

    Parameters
    ----------
    table : FutureTable
    """

    def __init__(self, table: FutureTable):
        self._table = table
        self._sinks: dict[int, list[Sink]] = {}
        # A list may not be taken away between the look for it and the addition to it.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sinks)

    def watch(self, futures: Iterable[Future], sink: Sink) -> None:
        """Have `sink` called once for each of these futures when it is done; at once for those that are."""
        ready = []
        for future in futures:
            # First the sink, then the mark: whoever reports the id in between finds the sink.
            with self._lock:
                self._sinks.setdefault(future.id, []).append(sink)
            if not self._table.watch(future):
                ready.append(future.id)
        if ready:
            self.dispatch(ready)

    def dispatch(self, ids: list[int]) -> None:
        """Tell the sinks of these ids, which are done."""
        by_sink: dict[Sink, list[int]] = {}
        with self._lock:
            for id in ids:
                for sink in self._sinks.pop(id, ()):
                    by_sink.setdefault(sink, []).append(id)
        for sink, done in by_sink.items():
            sink(done)

    def dispatch_all(self) -> None:
        """Tell everybody: all futures are done."""
        self.dispatch(list(self._sinks))

    def unwatch(self, futures: Iterable[Future], sink: Sink) -> None:
        """Undo `watch` for futures that are not done."""
        with self._lock:
            for future in futures:
                sinks = self._sinks.get(future.id)
                if sinks is not None:
                    with contextlib.suppress(ValueError):
                        sinks.remove(sink)
                    if not sinks:
                        self._sinks.pop(future.id, None)
