"""`wait` for calls of actors, alone or among futures. May import: what `client.waiting` may."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastdist.client.actor import BaseActorFuture
from fastdist.client.future import Future
from fastdist.client.waiting import (
    DoneAndNotDoneFutures,
    raise_if_cancelled,
    settle,
    until_done,
    until_first_done,
)

if TYPE_CHECKING:
    from fastdist.client.client import Client


async def wait_with_calls(
    client: Client,
    futures: Sequence[Future],
    calls: Sequence[BaseActorFuture],
    timeout: float | None,
    return_when: str,
) -> Any:
    """What `wait` does if there are calls of actors among the futures.

    Raises
    ------
    TimeoutError
        If it takes longer than `timeout` seconds.
    """
    everything: list[Any] = [*futures, *calls]
    first = return_when == "FIRST_COMPLETED"
    if not (first and any(each.done() for each in everything)):
        waits: set[asyncio.Future[Any]] = {_end_of(call) for call in calls}
        if futures:
            waiting = until_first_done(client, futures) if first else until_done(client._table, futures)
            waits.add(asyncio.ensure_future(waiting))
        ended, pending = await asyncio.wait(
            waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED if first else asyncio.ALL_COMPLETED
        )
        for wait in pending:
            wait.cancel()
        if pending and not (first and ended):
            n_pending = sum(not each.done() for each in everything)
            raise TimeoutError(f"timed out after {timeout:g} s: {n_pending} of {len(everything)} are not done")
    done = {each for each in everything if each.done()}
    raise_if_cancelled(client, [each for each in done if isinstance(each, Future)])
    return DoneAndNotDoneFutures(done, set(everything) - done)


def _end_of(call: BaseActorFuture) -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()

    def on_done(ended: BaseActorFuture) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be gone by then
            loop.call_soon_threadsafe(settle, finished)

    call.add_done_callback(on_done)
    return finished
