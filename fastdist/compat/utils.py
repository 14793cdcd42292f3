"""Small functions that libraries import from dask.distributed's `utils`, `core` and `system`.

May import: every layer below; numpy, dask and tornado only when they are used.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import ipaddress
import logging
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from importlib import import_module
from traceback import format_tb
from types import TracebackType
from typing import Any

from fastdist import context
from fastdist._core.keys.canonical import encode_key, prefix_of
from fastdist.comm import addresses
from fastdist.config import parse_timedelta
from fastdist.loop import LoopThread, asyncio_loop_of, loop_thread_for
from fastdist.protocol import results
from fastdist.protocol.failures import dump_failure, load_failure
from fastdist.system.memory import total_memory
from fastdist.system.processors import processor_count
from fastdist.worker import memory as worker_memory

logger = logging.getLogger("fastdist.utils")

CPU_COUNT = processor_count()
MEMORY_LIMIT = total_memory()


class _ThreadState:
    """Where this thread is: it has the attributes only while a task executes in it."""

    @property
    def execution_state(self) -> dict[str, Any]:
        """The worker and its scheduler."""
        worker = context.current_worker.get()
        if worker is None:
            raise AttributeError("execution_state")
        return {"worker": worker.address, "scheduler": worker.scheduler_address}

    @property
    def key(self) -> Any:
        """The key of the task."""
        task = context.current_task.get()
        if task is None or task.key is None:
            raise AttributeError("key")
        return task.key


thread_state = _ThreadState()


def sync(
    loop: Any,
    func: Callable[..., Coroutine[Any, Any, Any]],
    *args: Any,
    callback_timeout: Any = None,
    **kwargs: Any,
) -> Any:
    """Run a coroutine function on an event loop that runs on another thread, and wait for its result.

    Parameters
    ----------
    loop : asyncio event loop or tornado IOLoop
        Such as `client.loop`.
    callback_timeout : number or str, optional
        How long to wait.

    Raises
    ------
    TimeoutError
        If it takes longer.
    RuntimeError
        On the thread of the loop itself, and if the loop does not run.
    """
    inner = asyncio_loop_of(loop)
    timeout = None if callback_timeout is None else parse_timedelta(callback_timeout)
    if asyncio._get_running_loop() is inner:
        raise RuntimeError("sync() would wait for the very event loop that it is called on: await the call instead")
    if not inner.is_running():
        raise RuntimeError("IOLoop is closed" if inner.is_closed() else "the event loop does not run")

    async def call() -> Any:
        result = func(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    with context.blocking():
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(call(), timeout), inner)
        return future.result()


class LoopRunner:
    """An event loop to live on: the running one, one that was given, or one on a thread of its own.

    Parameters
    ----------
    loop : event loop, optional
        One that runs already.
    asynchronous : bool
        Live on the running one.
    """

    def __init__(self, loop: Any = None, asynchronous: bool = False) -> None:
        self._asynchronous = asynchronous
        self._thread: LoopThread | None = None
        self._loop: Any = asyncio_loop_of(loop) if loop is not None else None
        if asynchronous and loop is None:
            self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Have the loop run."""
        if not self._asynchronous and self._thread is None:
            self._thread = loop_thread_for(self._loop)
            self._loop = self._thread.loop

    def stop(self, timeout: float = 10) -> None:
        """Leave the loop; a thread of its own ends when nobody needs it any more."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.release()

    def is_started(self) -> bool:
        """Whether `start` was called and `stop` was not."""
        return self._thread is not None

    def run_sync(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a coroutine function on the loop and wait for it."""
        was_started = self.is_started()
        self.start()
        try:
            return sync(self.loop, func, *args, **kwargs)
        finally:
            if not was_started:
                self.stop()

    @property
    def loop(self) -> Any:
        """The loop, with tornado's interface."""
        return None if self._loop is None else import_module("fastdist.compat.loops").io_loop(self._loop)


class SyncMethodMixin:
    """`sync` for a class with the attributes `loop` and `_asynchronous`: blocking or awaitable, as its user is."""

    loop: Any
    _asynchronous: bool = False

    @property
    def asynchronous(self) -> bool:
        """Whether calls are awaited: of an asynchronous object, and on its event loop."""
        try:
            return asyncio.get_running_loop() is asyncio_loop_of(self.loop) or self._asynchronous
        except RuntimeError:
            return self._asynchronous

    def sync(
        self,
        func: Callable[..., Coroutine[Any, Any, Any]],
        *args: Any,
        asynchronous: bool | None = None,
        callback_timeout: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The coroutine of the function where calls are awaited; else its result."""
        if asynchronous or (asynchronous is None and self.asynchronous):
            return func(*args, **kwargs)
        return sync(self.loop, func, *args, callback_timeout=callback_timeout, **kwargs)


def iscoroutinefunction(f: object) -> bool:
    """Whether calling it gives a coroutine."""
    return inspect.iscoroutinefunction(f)


def import_term(name: str) -> Any:
    """What a dotted name stands for.

    Examples
    --------
    >>> import_term("math.sin")
    <built-in function sin>
    """
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute) if module else import_module(attribute)


def key_split(key: Any) -> str:
    """The part of a key that names its function.

    Examples
    --------
    >>> key_split("inc-0123456789abcdef0123456789abcdef")
    'inc'
    """
    return prefix_of(encode_key(key)) or "Other"


def nbytes(frame: Any) -> int:
    """The bytes of a buffer."""
    return int(frame.nbytes) if hasattr(frame, "nbytes") else memoryview(frame).nbytes


def get_ip(host: str = "8.8.8.8", port: int = 80) -> str:
    """The address that this machine uses to reach another one."""
    return addresses.local_address_for(host, port)


def ensure_ip(hostname: str) -> str:
    """The number of a host, which may be a number already.

    Examples
    --------
    >>> ensure_ip("127.0.0.1")
    '127.0.0.1'
    """
    try:
        ipaddress.ip_address(hostname)
        return hostname
    except ValueError:
        return str(socket.getaddrinfo(hostname, None, type=socket.SOCK_STREAM)[0][4][0])


def parse_ports(port: int | str | None) -> list[int | None]:
    """The ports that a number, a range `"first:last"` or nothing stands for.

    Examples
    --------
    >>> parse_ports("8000:8002")
    [8000, 8001, 8002]
    """
    return [None] if port is None else list(addresses.parse_ports(port))


def parse_memory_limit(
    memory_limit: str | float | None,
    nthreads: int,
    total_cores: int = CPU_COUNT,
    *,
    logger: logging.Logger = logger,
) -> int | None:
    """Bytes that a worker may use, or None for no limit.

    Parameters
    ----------
    memory_limit : str, number or None
        Such as `"auto"`, `"4 GiB"`, or a fraction of this machine's memory.
    nthreads, total_cores : int
        The worker's share of the processors, for `"auto"`.
    logger : Logger
        Is told, at the level DEBUG, what became of the limit: never more than this machine has.
    """
    limit = worker_memory.parse_memory_limit(memory_limit, nthreads, cores=total_cores)
    logger.debug("the memory limit %r is %s bytes", memory_limit, limit)
    return limit


def coerce_to_address(o: Any) -> str:
    """An address with its scheme, of a text or a pair of host and port."""
    if isinstance(o, (list, tuple)):
        host, port = o
        o = f"{addresses.bracketed(host)}:{port}"
    return str(addresses.parse_address(o))


def format_dashboard_link(host: str, port: int) -> str:
    """Where a dashboard would be: not available yet.

    Raises
    ------
    NotImplementedError
        Always: there is no dashboard.
    """
    raise NotImplementedError("format_dashboard_link: there is no dashboard yet")


@contextlib.contextmanager
def _logged(name: str) -> Iterator[None]:
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except Exception:
        logger.exception("%s failed", name)
        raise


def log_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function, or coroutine function, whose exceptions are logged before they go on.

    Examples
    --------
    >>> @log_errors
    ... def divide(a, b):
    ...     return a / b
    """
    name = getattr(function, "__qualname__", repr(function))
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            with _logged(name):
                return await function(*args, **kwargs)

        return call_async

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _logged(name):
            return function(*args, **kwargs)

    return call


# -- exceptions as messages ----------------------------------------------------------------------------------


def error_message(e: BaseException, status: str = "error") -> dict[str, Any]:
    """A message that carries an exception: with `status`, `exception`, `traceback` and the texts of both."""
    return {
        "status": status,
        "exception": dump_failure(e),
        "traceback": None,
        "exception_text": repr(e),
        "traceback_text": "".join(format_tb(e.__traceback__)),
    }


def clean_exception(
    exception: Any, traceback: Any = None, **kwargs: Any
) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """Class, exception and traceback of an exception or of the bytes of one in a message."""
    error = load_failure(exception) if isinstance(exception, (bytes, bytearray, memoryview)) else exception
    if isinstance(error, str):
        error = Exception(error)
    return type(error), error, traceback if isinstance(traceback, TracebackType) else error.__traceback__


def serialize(x: Any, serializers: Any = None, on_error: str = "message") -> tuple[dict[str, Any], list[Any]]:
    """Turn an object into a header and frames, as `deserialize` takes them.

    Raises
    ------
    NotImplementedError
        If other ways than pickle are asked for.
    SerializationError
        If the object cannot be turned into bytes.
    """
    if serializers is not None and "pickle" not in serializers:
        raise NotImplementedError(f"serialize(serializers={serializers!r}): there is pickle only")
    return {"serializer": "pickle"}, list(results.dumps(x))


def deserialize(header: Mapping[str, Any], frames: list[Any], deserializers: Any = None) -> Any:
    """The object of a header and frames that `serialize` gave."""
    if header.get("serializer") != "pickle":
        raise TypeError(f"frames of the serializer {header.get('serializer')!r} cannot be read; there is pickle only")
    return results.loads(frames)
