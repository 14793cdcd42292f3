"""`Client.run` on a worker: call a function that is no task.

May import: layers L0 to L3.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from fastdist._core.codec.values import decode_call
from fastdist.context import current_worker
from fastdist.errors import MessageError
from fastdist.protocol import results
from fastdist.protocol.failures import dump_failure
from fastdist.protocol.functions import load_function
from fastdist.rpc import fields as check

Answer = tuple[dict[str, Any], list[Any]]


async def run_function(worker: Any, fields: dict[str, Any], buffers: list[Any], executor: Executor) -> Answer:
    """Call the function in the payloads: buffer 0 is its pickle, buffer 1 its arguments.

    A plain function runs in a thread of its own, so that the worker answers meanwhile; a coroutine function
    on the event loop. A parameter named `dask_worker` gets the worker. The answer's status is "OK" with the
    result, or "error" with the failure, as its only payload; with `wait` false it is "OK" and nothing.
    """
    if not 1 <= len(buffers) <= 2:
        raise MessageError(f"run needs a function and its arguments, not {len(buffers)} payloads")
    wait = check.flag(fields, "wait", default=True)
    call = _call(worker, bytes(buffers[0]), buffers[1] if len(buffers) == 2 else None, executor)
    if wait:
        return await call
    task = asyncio.get_running_loop().create_task(call)
    worker.background.add(task)
    task.add_done_callback(worker.background.discard)
    return {"status": "OK"}, []


async def _call(worker: Any, pickled: bytes, arguments: Any, executor: Executor) -> Answer:
    try:
        function = load_function(pickled)
        args, kwargs = decode_call(arguments, []) if arguments is not None else ((), None)
        kwargs = kwargs or {}
        if _takes_worker(function) and "dask_worker" not in kwargs:
            kwargs["dask_worker"] = worker
        result = await _execute(worker, function, args, kwargs, executor)
        return {"status": "OK"}, [b"".join(results.dumps(result))]
    except Exception as error:
        return {"status": "error"}, [dump_failure(error)]


async def _execute(
    worker: Any,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    executor: Executor,
) -> Any:
    context = contextvars.copy_context()
    context.run(current_worker.set, worker)
    if inspect.iscoroutinefunction(function):
        return await context.run(asyncio.ensure_future, context.run(function, *args, **kwargs))
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor, lambda: context.run(function, *args, **kwargs))


def _takes_worker(function: Callable[..., Any]) -> bool:
    try:
        return "dask_worker" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return False
