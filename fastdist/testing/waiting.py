"""Waits that end. May import: `compat`, the servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any


def _give_up(timeout: float, fail_func: Callable[[], Any] | None) -> None:
    import pytest

    if fail_func is not None:
        fail_func()
    pytest.fail(f"the condition did not hold within {timeout:g} s")


def poll_for(
    predicate: Callable[[], Any],
    timeout: float = 15,
    fail_func: Callable[[], Any] | None = None,
    period: float = 0.05,
) -> None:
    """Look again and again until a condition holds; the test fails after the timeout.

    Parameters
    ----------
    predicate : callable
        Gives something true in the end.
    timeout : float
        Seconds to wait at most.
    fail_func : callable, optional
        Called before the test fails, to say more.
    period : float
        Seconds between two looks.
    """
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            _give_up(timeout, fail_func)
        time.sleep(period)


async def async_poll_for(
    predicate: Callable[[], Any],
    timeout: float = 15,
    fail_func: Callable[[], Any] | None = None,
    period: float = 0.05,
) -> None:
    """As `poll_for`, while the event loop goes on."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            _give_up(timeout, fail_func)
        await asyncio.sleep(period)


async def wait_for_state(
    key: Any, state: str | Collection[str], dask_worker: Any, *, interval: float = 0.01
) -> None:
    """Wait until a task is in a state, or in one of several, on a scheduler or a worker in this process.

    There is no timeout of its own: tests have one. What it waited for is printed when that interrupts it.
    """
    wanted = (state,) if isinstance(state, str) else tuple(state)
    server = getattr(dask_worker, "state", None) if hasattr(dask_worker, "nthreads") else dask_worker
    if server is None or not hasattr(server, "tasks"):
        raise TypeError(f"expected a Scheduler or a Worker, not {dask_worker!r}")
    try:
        while key not in server.tasks or server.tasks[key].state not in wanted:  # noqa: ASYNC110
            await asyncio.sleep(interval)
    except (asyncio.CancelledError, asyncio.TimeoutError):
        found = server.tasks[key].state if key in server.tasks else "not there"
        print(f"{key!r} is {found} on {dask_worker.address}; expected {' or '.join(wanted)}")
        raise


async def padded_time(before: float = 0.05, after: float = 0.05) -> float:
    """The time of day, certainly later than what happened before, and earlier than what comes next."""
    await asyncio.sleep(before)
    now = time.time()
    await asyncio.sleep(after)
    return now
