"""The actors of a worker: objects that stay where they were made, and the calls of their methods.

Plain methods run in threads for actors, one call at a time on the whole worker and in the order in which they came; a
method that waits for something (`context.blocking`) lets calls of other actors run meanwhile. Coroutine methods run
on the event loop. May import: layers L0 to L3.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from fastdist import config
from fastdist._core.codec.values import decode_call
from fastdist._core.keys.canonical import decode_key
from fastdist.context import current_task, current_worker
from fastdist.errors import CommClosedError, MessageError, TooManyThreadsError
from fastdist.protocol import results
from fastdist.protocol.failures import dump_failure
from fastdist.rpc import fields as check

Answer = tuple[dict[str, Any], list[Any]]

#: Seconds after which a thread that has nothing to do ends, unless it is the last one.
IDLE_SECONDS = 10.0

CLOSED = "the worker of the actor closes"

_this_thread = threading.local()


class Home:
    """An actor on its worker.

    Parameters
    ----------
    key : bytes
        Canonical bytes of the key of its task.
    instance : object
        The object itself.
    """

    def __init__(self, key: bytes, instance: Any) -> None:
        self.key = key
        self.instance = instance
        #: The thread that runs a method of it, or 0.
        self.thread = 0
        #: Calls that came while a method waits.
        self.waiting: deque[Call] = deque()


class Call:
    """A method that is to be called, and who hears of it."""

    def __init__(self, home: Home, name: str, arguments: Any) -> None:
        self.home = home
        self.name = name
        self.arguments = arguments
        self.answer: concurrent.futures.Future[Answer] = concurrent.futures.Future()

    def run(self) -> Answer:
        """Call the method; the answer has the result or what was raised."""
        try:
            args, kwargs = decode_call(self.arguments, [])
            result = getattr(self.home.instance, self.name)(*args, **(kwargs or {}))
            return _result(result)
        except BaseException as error:
            return _failure(error)


class ActorTask:
    """What `fastdist.context.current_task` is while a method of an actor runs.

    Parameters
    ----------
    host : ActorHost
        Whose slot it takes.
    """

    task_id = attempt = 0

    def __init__(self, host: ActorHost) -> None:
        self.worker = host.worker
        self.home: Home | None = None
        self._host = host
        self._depth = 0

    @property
    def key(self) -> Any:
        """The key of the actor."""
        return None if self.home is None else decode_key(self.home.key)

    def give_slot_back(self) -> bool:
        """Let methods of other actors run."""
        if self.home is None or self.home.thread != threading.get_ident():
            return False
        if self._depth == 0:
            self._host.leave_slot()
        self._depth += 1
        return True

    def take_slot(self) -> None:
        """Undo `give_slot_back`."""
        self._depth -= 1
        if self._depth == 0:
            self._host.take_slot()

    def secede(self) -> None:
        """Not for actors: their methods run one at a time."""
        raise ValueError("a method of an actor cannot secede: it takes no slot of a task")

    rejoin = secede


class ActorHost:
    """The actors of one worker.

    Parameters
    ----------
    worker : Worker
        What `get_worker` gives in their methods.
    """

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self._max_threads = config.get("worker.max-threads")
        self._homes: weakref.WeakValueDictionary[bytes, Home] = weakref.WeakValueDictionary()
        self._changed = threading.Condition()
        self._queue: deque[Call] = deque()
        self._running = False
        self._returning = 0
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._homes)

    def add(self, key: bytes, instance: Any) -> Home:
        """Make an object an actor; it is one until nobody holds the home that this gives."""
        home = self._homes[key] = Home(key, instance)
        return home

    def find(self, key: bytes) -> Home | None:
        """The actor of this key, if it is (still) here."""
        return self._homes.get(key)

    def instances(self) -> dict[bytes, Any]:
        """The objects by key."""
        return {key: home.instance for key, home in self._homes.items()}

    def handlers(self) -> dict[str, Any]:
        """The operations of clients and workers."""
        return {"actor-execute": self.execute, "actor-attribute": self.attribute}

    # -- operations: in the order in which messages come -------------------------------------------------------------

    def execute(self, peer: Any, fields: dict[str, Any], buffers: list[Any]) -> Any:
        """Call a method: `actor`, `name`; buffer 0 is the payload of its arguments."""
        home = self._find(fields)
        name = check.text(fields, "name", 1024)
        if home is None:
            return {"status": "lost"}
        call = Call(home, name, buffers[0])
        method = getattr(type(home.instance), name, None)
        if inspect.iscoroutinefunction(method):
            return asyncio.ensure_future(_until_closed(self._await(call)))
        if not check.flag(fields, "separate_thread", default=True):
            return self._context().run(call.run)
        return _until_closed(asyncio.wrap_future(self.submit(call)))

    def attribute(self, peer: Any, fields: dict[str, Any], buffers: list[Any]) -> Any:
        """The value of an attribute, at once: `actor`, `name`."""
        home = self._find(fields)
        if home is None:
            return {"status": "lost"}
        name = check.text(fields, "name", 1024)
        try:
            return self._context().run(lambda: _result(getattr(home.instance, name)))
        except BaseException as error:
            return _failure(error)

    def _find(self, fields: dict[str, Any]) -> Home | None:
        key = fields.get("actor")
        if type(key) is not bytes:
            raise MessageError(f"actor must be the bytes of a key, not {key!r}")
        return self.find(key)

    def _context(self) -> contextvars.Context:
        context = contextvars.copy_context()
        context.run(current_worker.set, self.worker)
        context.run(current_task.set, None)
        return context

    async def _await(self, call: Call) -> Answer:
        current_worker.set(self.worker)
        current_task.set(None)
        try:
            args, kwargs = decode_call(call.arguments, [])
            return _result(await getattr(call.home.instance, call.name)(*args, **(kwargs or {})))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return _failure(error)

    # -- threads -----------------------------------------------------------------------------------------------------

    def submit(self, call: Call) -> concurrent.futures.Future[Answer]:
        """Have a method called after those that came before."""
        with self._changed:
            if self._closed:
                raise CommClosedError(CLOSED)
            self._queue.append(call)
            if not self._running:
                self._call_a_thread()
        return call.answer

    def _call_a_thread(self) -> None:
        """See to it that a thread looks at the queue; the lock is held."""
        if self._idle:
            self._changed.notify_all()
        elif not self._returning:
            if len(self._threads) >= self._max_threads:
                raise TooManyThreadsError(len(self._threads))
            name = f"fastdist-actors-{self.worker.name}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except BaseException:
                self._threads.discard(thread)
                raise

    def _run(self) -> None:
        task = ActorTask(self)
        _this_thread.host = self
        current_worker.set(self.worker)
        current_task.set(task)
        while True:
            with self._changed:
                call = self._next()
                if call is None:
                    self._threads.discard(threading.current_thread())
                    return
            task.home = call.home
            answer = call.run()
            task.home = None
            with self._changed:
                self._free(call.home)
                self._running = False
                if self._returning or self._idle:
                    self._changed.notify_all()
            if not call.answer.cancelled():
                call.answer.set_result(answer)
            del call, answer

    def _next(self) -> Call | None:
        """The next call, when it may run; None when the thread is not needed any more. The lock is held."""
        while not self._closed:
            if not self._running and not self._returning:
                call = self._take()
                if call is not None:
                    return call
            self._idle += 1
            woken = self._changed.wait(IDLE_SECONDS)
            self._idle -= 1
            if not woken and not self._queue and len(self._threads) > 1:
                return None
        return None

    def _take(self) -> Call | None:
        while self._queue:
            call = self._queue.popleft()
            if call.home.thread:
                call.home.waiting.append(call)
            elif call.answer.set_running_or_notify_cancel():
                call.home.thread = threading.get_ident()
                self._running = True
                return call
        return None

    def _free(self, home: Home) -> None:
        home.thread = 0
        self._queue.extendleft(reversed(home.waiting))
        home.waiting.clear()

    def run_inline(self, home: Home, function: Callable[[], Any]) -> tuple[bool, Any]:
        """Call `function`, which uses the actor, within the method that this thread runs.

        Returns
        -------
        tuple of bool and object
            False and nothing if another method of that actor waits: then it must be asked in the usual way.
        """
        with self._changed:
            outermost = not home.thread
            if home.thread not in (0, threading.get_ident()):
                return False, None
            home.thread = threading.get_ident()
        try:
            return True, function()
        finally:
            if outermost:
                with self._changed:
                    self._free(home)

    def leave_slot(self) -> None:
        """The method of this thread waits: methods of other actors may run."""
        with self._changed:
            if self._queue:
                self._call_a_thread()
            self._running = False
            self._changed.notify_all()

    def take_slot(self) -> None:
        """The method of this thread goes on, when no other one runs."""
        with self._changed:
            self._returning += 1
            while self._running and not self._closed:
                self._changed.wait()
            self._returning -= 1
            self._running = True

    def close(self) -> None:
        """Run nothing any more; what has not started is not answered."""
        with self._changed:
            self._closed = True
            waiting = [*self._queue, *(call for home in self._homes.values() for call in home.waiting)]
            self._queue.clear()
            self._changed.notify_all()
        for call in waiting:
            if call.answer.set_running_or_notify_cancel():
                call.answer.set_exception(CommClosedError(CLOSED))

    def join(self, timeout: float) -> None:
        """Wait for the threads to end, for at most `timeout` seconds each."""
        for thread in list(self._threads):
            thread.join(timeout)


async def _until_closed(answer: Awaitable[Answer]) -> Answer:
    """An answer; whoever asked hears it, too, when the connection closes before."""
    try:
        return await answer
    except asyncio.CancelledError:
        raise CommClosedError(CLOSED) from None


def host_of_this_thread() -> ActorHost | None:
    """The worker whose actor's method this thread runs, if it does."""
    return getattr(_this_thread, "host", None)


def _result(value: Any) -> Answer:
    return {"status": "OK"}, [b"".join(results.dumps(value))]


def _failure(error: BaseException) -> Answer:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return {"status": "error"}, [dump_failure(error.with_traceback(traceback))]
