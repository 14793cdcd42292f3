"""Main module of a worker's child process: `python -m fastdist.worker.process SOCKET PARENT`.

The child watches its parent before all else, imports what a worker needs while the parent still prepares,
then reads its configuration from the inherited socket. It never imports the `__main__` of the user.

May import: `fastdist.system`, `fastdist.worker`, `fastdist.comm`.
"""

from __future__ import annotations

import sys

from fastdist.system.parent_watch import remove_at_parent_death, watch_parent

if __name__ == "__main__":
    watch_parent(int(sys.argv[2]))

import asyncio
import atexit
import contextlib
import faulthandler
import importlib
import logging
import os
import socket
import types
from collections.abc import Callable, Coroutine
from typing import Any, cast

from fastdist import config as settings
from fastdist.late_imports import after_import
from fastdist.system.channel import Channel, Message, receive
from fastdist.system.scratch import remove_folder
from fastdist.system.signals import on_termination

#: Class of the worker, when the configuration names no other.
DEFAULT_WORKER_CLASS = "fastdist.worker.worker:Worker"

#: What connects dask with clients.
DASK_BRIDGE = "fastdist.client.dask_bridge"

#: Seconds between two chances of the interpreter to switch threads: the loop must answer beside a computing
# task.
SWITCH_INTERVAL = 0.0005

#: Seconds that tasks get to end when the worker is closed; their results are lost either way.
TASK_GRACE = 0.5

#: Exit code of a worker that could not start.
START_FAILED_EXIT_CODE = 1


def main(arguments: list[str]) -> int:
    """Run the worker until it is closed; returns the exit code of the process."""
    # The parent reads the stack of a crash from the error output.
    faulthandler.enable()
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    control.setblocking(True)
    with contextlib.suppress(ImportError):
        # Loaded before the configuration arrives; the error, if any, comes again where it is reported.
        load_class(None)
    config = receive(control)
    if config is None:
        return 0
    _prepare(config)
    with control:
        code = _run(_serve(config, control))
    # The parent removes it too; but the parent may have died a moment ago, and this end overtakes the native
    # watch.
    remove_folder(config["scratch"])
    return code


def _run(coroutine: Coroutine[Any, Any, int]) -> int:
    from fastdist.loop import new_event_loop

    return new_event_loop().run_until_complete(coroutine)


def _prepare(config: Message) -> None:
    from fastdist.worker.output import capture_output

    sys.path[:] = config["sys_path"]
    for name, value in config["restore_environ"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    settings.set(config["settings"])
    sys.setswitchinterval(SWITCH_INTERVAL)
    sys.argv = config["argv"]
    remove_at_parent_death(config["scratch"])
    logging.basicConfig(format=settings.get("admin.log-format"))
    logging.getLogger("fastdist").setLevel(config["log_level"])
    capture_output()
    serve_dask()


def serve_dask() -> None:
    """Have dask find the cluster inside of tasks, once they import it; for processes that hold only workers."""
    # The bridge lives in the client's layer, which is loaded only where dask is.
    after_import("dask.config", lambda module: importlib.import_module(DASK_BRIDGE).serve_tasks(module))


async def _serve(config: Message, control: socket.socket) -> int:
    """Start the worker, tell the parent, and wait for the end that parent, signal or scheduler demand."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[str] = loop.create_future()

    def ask_to_stop(reason: str) -> None:
        if not stop.done():
            stop.set_result(reason)

    def on_message(message: Message) -> None:
        if message["op"] != "close":
            raise ValueError(f"a worker process cannot {message['op']!r}")
        ask_to_stop(message["reason"])

    channel = Channel(control, loop, on_message, lambda: ask_to_stop("the parent closed the control socket"))
    on_termination(lambda number: ask_to_stop(f"signal-{number}"), loop)
    def tell_started(worker: Any) -> None:
        channel.send({"op": "started", "address": worker.address, "executing_page": _page_of(worker)})

    try:
        worker = await _unless_stopped(_start(config, tell_started), stop)
    except Exception as error:
        channel.send({"op": "failed", "error_type": type(error).__name__, "error": _describe(error)})
        return START_FAILED_EXIT_CODE
    if worker is None:
        return 0
    # A class without `before_work` has not told it; twice is harmless.
    tell_started(worker)
    finished = asyncio.ensure_future(worker.finished())
    await asyncio.wait([finished, stop], return_when=asyncio.FIRST_COMPLETED)
    # Told before the worker closes: whatever happens from now on, it is not to be started again.
    reason = stop.result() if stop.done() else _reason_of(worker)
    restart = not stop.done() and bool(getattr(worker, "restart_wanted", False))
    cut_off = not stop.done() and bool(getattr(worker, "was_cut_off", False))
    channel.send({"op": "closing", "reason": reason, "restart": restart, "cut_off": cut_off})
    closing = asyncio.ensure_future(worker.close(reason=reason))
    await asyncio.wait([closing], timeout=TASK_GRACE)
    if closing.done():
        closing.result()
    return 0


async def _start(config: Message, before_work: Callable[[Any], None]) -> Any:
    from fastdist.comm.token import Token

    worker_class = load_class(config["worker_class"])
    token = None if config["token"] is None else Token.from_hex(config["token"], config["token_origin"])
    worker = worker_class(
        config["scheduler_address"],
        token=token,
        insecure=config["insecure"],
        nanny=config["nanny"],
        **config["options"],
    )
    # The parent must know where to look for the culprit before the first task can end this process.
    worker.before_work = before_work
    return await worker


async def _unless_stopped(coroutine: Any, stop: asyncio.Future[str]) -> Any:
    """The result of the coroutine, or None if the stop comes first."""
    starting = asyncio.ensure_future(coroutine)
    await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait([starting])
        return None
    return starting.result()


def _reason_of(worker: Any) -> str:
    return str(getattr(worker, "close_reason", None) or "the worker closed")


def _page_of(worker: Any) -> str | None:
    """Path of the page that tells what this worker executes, which the parent reads after a sudden end."""
    path = getattr(worker, "executing_page_path", None)
    return None if path is None else str(path)


def load_class(name: str | None) -> Callable[..., Any]:
    """The worker class of an import name `module:name`; the usual one if None."""
    module, _, attribute = (name or DEFAULT_WORKER_CLASS).partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return cast("Callable[..., Any]", found)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _end(code: int) -> None:
    """Leave without waiting for threads of tasks that never end."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _leave_main() -> None:
    """Make `__main__` an empty module: what tasks start by multiprocessing must not import this one again."""
    sys.modules["fastdist.worker.process"] = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")


if __name__ == "__main__":
    _leave_main()
    _end(main(sys.argv[1:]))
