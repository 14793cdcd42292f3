"""What a worker does when its memory fills: spill results, then stop starting tasks.

Fractions of the memory limit: above `target` bytes of results are spilled as they are stored (`SpillStore`),
above `spill` of process memory more are spilled, above `pause` no task is started; above `terminate` the
nanny restarts the process (`fastdist.nanny`).

May import: `fastdist.config`, `fastdist.system`, `fastdist.worker.spill`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from fastdist import config
from fastdist.config import parse_bytes
from fastdist.system.memory import give_back_memory, process_memory, total_memory
from fastdist.system.processors import processor_count
from fastdist.worker.spill import SpillStore

logger = logging.getLogger("fastdist.worker.memory")

#: Seconds between two garbage collections under pressure: each one stops all tasks.
COLLECTION_PAUSE = 10.0
#: Seconds between two warnings that execution pauses.
WARNING_PAUSE = 30.0
#: How much of an earlier need of unmanaged memory counts after one more look at the process.
UNMANAGED_DECAY = 0.9
#: Fraction of the memory limit that results may always use, however much the rest of the process takes.
MIN_TARGET = 0.1

def parse_memory_limit(
    limit: str | float | None, nthreads: int = 1, *, total: int | None = None, cores: int | None = None
) -> int | None:
    """Memory limit of a worker in bytes, or None for no limit.

    Parameters
    ----------
    limit:
        `"auto"` (the share of the system's memory that `nthreads` have in its processors), a fraction of the
        system's memory up to 1.0, a number of bytes, a text such as `"5GB"`, or 0 or None for no limit.
    nthreads:
        Threads of the worker.
    total, cores:
        What the system has; found out if None.

    Raises
    ------
    ValueError
        The limit is negative, not a number, or cannot be read.

    Example
    -------
    >>> parse_memory_limit("5GB")
    5000000000
    """
    if limit is None:
        return None
    whole = total_memory() if total is None else total
    if isinstance(limit, str):
        if limit.strip().lower() == "auto":
            share = min(1.0, nthreads / (processor_count() if cores is None else cores))
            return int(whole * share)
        if limit.strip().lower() == "none":
            return None
        number: float = _number(limit)
    else:
        number = limit
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"memory_limit must be 0 or more, not {limit!r}")
    if number == 0:
        return None
    if number < 1 or (number == 1 and not isinstance(number, int)):
        return int(whole * number)
    return min(int(number), whole)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return parse_bytes(text)


@dataclass(frozen=True)
class MemoryThresholds:
    """Fractions of the memory limit at which something happens; False or None switches one off.

    Raises
    ------
    ValueError
        A fraction is not between 0 and 1.
    """

    target: float | None = 0.60
    spill: float | None = 0.70
    pause: float | None = 0.80
    terminate: float | None = 0.95

    @classmethod
    def configured(cls) -> MemoryThresholds:
        """As the settings `worker.memory.*` say."""
        names = ("target", "spill", "pause", "terminate")
        return cls(*(config.get(f"worker.memory.{name}") for name in names))

    def __post_init__(self) -> None:
        for name in ("target", "spill", "pause", "terminate"):
            value = getattr(self, name)
            if value is False:
                object.__setattr__(self, name, None)
            elif value is not None and not 0 < value <= 1:
                raise ValueError(f"worker.memory.{name} must be between 0 and 1, or False; not {value!r}")


class MemoryManager:
    """Watches the memory of a worker process, spills its results, and pauses and resumes it.

    Parameters
    ----------
    memory_limit:
        Bytes, None for no limit (then nothing is watched).
    store:
        The worker's results.
    pause, resume:
        Called, on the event loop, when execution must stop and may go on.
    thresholds:
        The fractions of the limit.
    interval:
        Seconds between two looks.
    measure:
        Bytes of memory that this process uses.

    Example
    -------
    >>> manager = MemoryManager(None, SpillStore("/tmp", None), pause=print, resume=print)
    >>> manager.on_tick()
    >>> manager.paused
    False
    """

    def __init__(
        self,
        memory_limit: int | None,
        store: SpillStore,
        *,
        pause: Callable[[], object],
        resume: Callable[[], object],
        thresholds: MemoryThresholds | None = None,
        interval: float | None = None,
        measure: Callable[[], int] = process_memory,
    ) -> None:
        self.memory_limit = memory_limit
        self.store = store
        self.thresholds = thresholds or MemoryThresholds.configured()
        self.interval = config.get("worker.memory.monitor-interval") if interval is None else interval
        self.paused = False
        self._pause = pause
        self._resume = resume
        self._measure = measure
        self._spilling: threading.Thread | None = None
        self._stopped = False
        self._next_collection = 0.0
        self._next_warning = 0.0
        self._unmanaged = 0.0
        self._timer: asyncio.TimerHandle | None = None
        if memory_limit is not None and self.thresholds.target is not None and store.target is None:
            store.target = int(memory_limit * self.thresholds.target)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the memory every `interval` seconds from now on."""
        self._stopped = False
        if self.memory_limit is not None and self.interval > 0:
            self._timer = loop.call_later(self.interval, self._tick, loop)

    def stop(self) -> None:
        """Look no more, and wait for a spill that is under way."""
        self._stopped = True
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._spilling is not None:
            self._spilling.join()

    def on_tick(self) -> None:
        """Look once: pause or resume, and start to spill if there is need."""
        if self.memory_limit is None:
            return
        used = self._measure()
        self._pause_or_resume(used)
        self._leave_room(used)
        spill = self.thresholds.spill
        if spill is None or used <= spill * self.memory_limit:
            return
        if self._spilling is None or not self._spilling.is_alive():
            # Pickling and writing take long: the event loop must answer meanwhile.
            self._spilling = threading.Thread(target=self.spill, name="fastdist-spill", daemon=True)
            self._spilling.start()

    def _leave_room(self, used: int) -> None:
        """Let the store keep less where the rest of the process needs much.

        What is stored and what is not together then stay below the spill threshold while results are put,
        which is sooner than the next look at the process.
        """
        assert self.memory_limit is not None
        target, spill = self.thresholds.target, self.thresholds.spill
        if target is None:
            return
        allowed = target * self.memory_limit
        if spill is not None:
            # What was needed a moment ago for inputs on their way and for copies will be needed again.
            self._unmanaged = max(used - self.store.memory_bytes, self._unmanaged * UNMANAGED_DECAY)
            rest = spill * self.memory_limit - self._unmanaged
            allowed = min(allowed, max(MIN_TARGET * self.memory_limit, rest))
        self.store.target = int(allowed)

    def spill(self) -> int:
        """Spill the least recently used results until the process is below `target`; returns their bytes."""
        assert self.memory_limit is not None
        goal = (self.thresholds.target or self.thresholds.spill or 1.0) * self.memory_limit
        freed = 0
        while not self._stopped:
            excess = self._measure() - goal
            if excess <= 0:
                break
            batch = 0
            while batch < excess and not self._stopped:
                one = self.store.evict_one()
                if not one:
                    break
                batch += one
            if not batch:
                break
            freed += batch
            give_back_memory()
        if not freed and not self._stopped and time.monotonic() >= self._next_collection:
            # Nothing to spill: what fills the memory may be garbage in cycles.
            gc.collect()
            self._next_collection = time.monotonic() + COLLECTION_PAUSE
            give_back_memory()
        return freed

    def _pause_or_resume(self, used: int) -> None:
        assert self.memory_limit is not None
        fraction = self.thresholds.pause
        over = fraction is not None and used > fraction * self.memory_limit
        if over == self.paused:
            return
        self.paused = over
        percent = 100 * used / self.memory_limit
        if over:
            now = time.monotonic()
            level = logging.WARNING if now >= self._next_warning else logging.DEBUG
            self._next_warning = now + WARNING_PAUSE if level == logging.WARNING else self._next_warning
            logger.log(
                level,
                "worker uses %.0f %% of its memory limit (%d of %d bytes): no new tasks until it falls",
                percent,
                used,
                self.memory_limit,
            )
            self._pause()
        else:
            logger.info("worker is down to %.0f %% of its memory limit: it starts tasks again", percent)
            self._resume()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self.interval, self._tick, loop)
        self.on_tick()

    def __repr__(self) -> str:
        limit = "no limit" if self.memory_limit is None else f"{self.memory_limit} bytes"
        return f"<MemoryManager: {limit}, {'paused' if self.paused else 'running'}>"
