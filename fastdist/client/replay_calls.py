"""The calls of Client that run a task again in this process, for a debugger. May import: what the client may."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, cast

from fastdist._core.codec.values import decode_call
from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist.client.containers import find_futures
from fastdist.client.future import Future
from fastdist.client.lifecycle import Lifecycle
from fastdist.client.waiting import until_done
from fastdist.protocol.functions import load_function
from fastdist.tasks.evaluate import InExecutor

Work = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class ReplayCalls(Lifecycle):
    """The part of Client that runs tasks locally."""

    gather: Callable[..., Any]

    def recreate_task_locally(self, future: Any) -> Any:
        """Run a task in this thread, with the inputs that it has in the cluster; for looking into it with a debugger.

        Parameters
        ----------
        future : Future or key
            The task; whether it has ended does not matter.

        Returns
        -------
        object
            What the function returns.

        Raises
        ------
        KeyError
            If there is no such task.
        ValueError
            If it is scattered data.
        Exception
            What the function raises.

        Examples
        --------
        >>> client.recreate_task_locally(client.submit(abs, -1))
        1
        """
        return self._run_here(*self.sync(self._fetch_work, getattr(future, "key", future)))

    def recreate_error_locally(self, future: Any) -> Any:
        """Run the task that failed again in this thread: the one of this future, or that which it got its error from.

        Parameters
        ----------
        future : Future or collection
            What failed; it is waited for.

        Raises
        ------
        ValueError
            If nothing failed.
        Exception
            What the function raises.

        Examples
        --------
        >>> client.recreate_error_locally(client.submit(divmod, 1, 0))  # doctest: +SKIP
        Traceback (most recent call last):
        ZeroDivisionError: integer division or modulo by zero
        """
        return self._run_here(*self.sync(self._fetch_failed, future))

    async def _fetch_failed(self, future: Any) -> Work:
        futures = find_futures(future)
        await until_done(self._table, futures)
        for each in futures:
            if each.status == "error":
                return await self._fetch_work(each.key, cause=True)
        raise ValueError("no task failed: recreate_task_locally runs one that did not")

    async def _fetch_work(self, key: Any, cause: bool = False) -> Work:
        """What a task executes, with its inputs; with `cause`, what the task executes that it has its error from."""
        await self._started()
        owner = cast(Any, self)
        kept: list[Future] = []
        while True:
            reply = await self._connection.call("get-work", key=encode_key(key))
            futures: list[Future] = [Future(decode_key(bytes(name)), owner) for name in reply["inputs"]]
            await until_done(self._table, futures)
            failed = next((each for each in futures if each.status == "error"), None)
            if failed is None or not cause:
                break
            # What it needs must not be released meanwhile.
            kept.append(failed)
            key = failed.key
        inputs = await self._gatherer.gather(futures)
        args, kwargs = decode_call(reply.buffers[1], list(inputs))
        return load_function(reply.buffers[0]), args, kwargs or {}

    def _run_here(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(function, InExecutor):
            function = function.function
        if inspect.iscoroutinefunction(function):
            return asyncio.run(function(*args, **kwargs))
        return function(*args, **kwargs)
