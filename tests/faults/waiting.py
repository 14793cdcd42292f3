"""Waiting for what happens elsewhere: with a deadline, and a message when it does not.

May import: the standard library.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")

PATIENCE = 30.0
PAUSE = 0.005


def until(condition: Callable[[], Value], what: str = "the condition", patience: float = PATIENCE) -> Value:
    """Look again and again until the condition gives something true; returns that."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {patience:g} s")
        time.sleep(PAUSE)


class Gate:
    """A file that tasks of any process wait for, and a folder where they say that they are there.

    It pickles: a task gets it as an argument.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder

    def open(self) -> None:
        """Let everybody through who waits or comes."""
        (self.folder / "open").touch()

    def arrive(self, name: object) -> int:
        """Say that `name` is here; returns how often it was here before."""
        for count in range(1_000_000):
            try:
                (self.folder / f"{name}-{count}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return count
        raise AssertionError(f"{name} came a million times")

    def pass_through(self, name: object = "task") -> None:
        """Say that `name` is here and wait until the gate opens."""
        self.arrive(name)
        until(lambda: (self.folder / "open").exists(), f"the opening of {self.folder}")

    def arrivals(self, name: object = "task") -> int:
        """How often `name` came."""
        return len(list(self.folder.glob(f"{name}-*")))

    def wait_for(self, count: int, name: object = "task") -> None:
        """Wait until `name` came this often."""
        until(lambda: self.arrivals(name) >= count, f"{count} arrivals of {name}")


def tasks_of(client: Any) -> list[dict[str, Any]]:
    """The tasks of the scheduler of a client's cluster, read on its event loop: its core belongs to that thread."""

    async def read() -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = client.cluster.scheduler.core.tasks()
        return tasks

    found: list[dict[str, Any]] = client.cluster.sync(read)
    return found
