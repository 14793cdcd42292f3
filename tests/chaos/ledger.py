"""The ledger of executions: one file to which every task of every process appends when it starts and ends.

A line is one `write`, so nothing of it is lost when its process is killed. May import: the standard library.
"""

from __future__ import annotations

import functools
import os
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@functools.lru_cache(maxsize=4)
def _descriptor(path: str, pid: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def note(path: str, event: str, key: str) -> None:
    """Append that the task `key` came to `event` (start or end) in this process."""
    pid = os.getpid()
    os.write(_descriptor(path, pid), f"{time.monotonic():.6f} {pid} {event} {key}\n".encode())


@dataclass
class Ledger:
    """What a ledger says: (time, pid) of the starts and ends of each key, in order."""

    starts: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """The ledger in a file; an empty one if there is none."""
        ledger = cls()
        for line in path.read_text().splitlines() if path.exists() else ():
            moment, pid, event, key = line.split(" ", 3)
            (ledger.starts if event == "start" else ledger.ends)[key].append((float(moment), int(pid)))
        return ledger

    def reruns(self) -> int:
        """How many executions there were beyond the first of each key."""
        return sum(len(times) - 1 for times in self.starts.values())

    def avoidable(self, dead: Iterable[int]) -> list[str]:
        """Keys that started again although a process that never died had finished them.

        That is a fault only for tasks whose results were wanted all the time: one that was released may have to
        be computed again for another.
        """
        gone = set(dead)
        found = []
        for key, ends in self.ends.items():
            survived = [moment for moment, pid in ends if pid not in gone]
            if survived and any(start > min(survived) for start, _ in self.starts[key]):
                found.append(key)
        return sorted(found)

    def recovery(self, dead: Iterable[int], since: float) -> float | None:
        """Seconds from `since` until the last task that a dead process had started started elsewhere."""
        gone = set(dead)
        waits = []
        for key, starts in self.starts.items():
            interrupted = [pid for _, pid in starts if pid in gone]
            done = {pid for _, pid in self.ends.get(key, ())}
            again = [moment for moment, pid in starts if moment > since and pid not in gone]
            if any(pid not in done for pid in interrupted) and again:
                waits.append(min(again) - since)
        return max(waits, default=None)
