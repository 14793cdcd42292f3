"""What futures ask of their client: results, errors, callbacks. May import: what the client may."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from fastdist.client.future import Future
from fastdist.client.lifecycle import Lifecycle
from fastdist.client.options import parse_seconds
from fastdist.client.starting import resolve_type
from fastdist.client.waiting import block_until_done, until_done

logger = logging.getLogger("fastdist.client")


class FutureCalls(Lifecycle):
    """The part of Client that serves Future."""

    def _result_of(self, future: Future, timeout: Any) -> Any:
        self._check_fork()
        seconds = parse_seconds(timeout)
        if self.asynchronous:
            return self._on_my_loop(self._result_async(future, seconds))
        return self._gatherer.gather_blocking([future], self._run, False, seconds)[0]

    async def _result_async(self, future: Future, timeout: float | None = None) -> Any:
        if self._loop is not asyncio.get_running_loop():
            return await self._on_my_loop(self._result_async(future, timeout))
        await self._started()
        if not future.done():
            await until_done(self._table, [future], timeout)
        return (await self._gatherer.gather([future], False, timeout))[0]

    def _exception_of(self, future: Future, timeout: Any) -> Any:
        return self._ended(future, timeout, self._outcomes.error_of)

    def _traceback_of(self, future: Future, timeout: Any) -> Any:
        return self._ended(future, timeout, self._outcomes.traceback_of)

    def _ended(self, future: Future, timeout: Any, what: Callable[[Future], Any]) -> Any:
        self._check_fork()
        seconds = parse_seconds(timeout)
        if self.asynchronous:
            return self._on_my_loop(self._ended_async(future, seconds, what))
        block_until_done(self._table, [future], seconds, connection=self._connection)
        return what(future)

    async def _ended_async(self, future: Future, timeout: float | None, what: Callable[[Future], Any]) -> Any:
        await until_done(self._table, [future], timeout)
        return what(future)

    def _add_done_callback(self, future: Future, fn: Callable[[Future], Any]) -> None:
        self._check_fork()
        if self._callbacks is None:
            self._callbacks = concurrent.futures.ThreadPoolExecutor(1, "fastdist-callbacks")
        executor = self._callbacks

        def on_done(ids: list[int]) -> None:
            with contextlib.suppress(RuntimeError):  # the executor ends with the client
                executor.submit(_call_back, fn, future)

        self._notifier.watch([future], on_done)

    def _type_of(self, name: str | None) -> Any:
        return resolve_type(name)


def _call_back(fn: Callable[[Future], Any], future: Future) -> None:
    try:
        fn(future)
    except Exception:
        logger.exception("a callback of %r failed", future)
