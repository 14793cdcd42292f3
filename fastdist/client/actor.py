"""Actors: objects that stay on one worker, used from clients and tasks through a handle.

`client.submit(Class, ..., actor=True)` makes one. May import: `_core`, `rpc`, `protocol`, `context`, `errors`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from fastdist._core.keys.canonical import encode_key
from fastdist.client.current import find_client
from fastdist.client.future import Future
from fastdist.client.options import parse_seconds
from fastdist.context import blocking
from fastdist.errors import MessageError
from fastdist.protocol import results
from fastdist.protocol.arguments import serialize_arguments
from fastdist.protocol.failures import load_failure
from fastdist.rpc.peer import Reply
from fastdist.worker.actors import Home, host_of_this_thread

if TYPE_CHECKING:
    from fastdist.client.client import Client

#: After a call failed, the scheduler has this long to find out that the worker is gone.
LOST_PAUSE = 0.01
LOST_LOOKS = 200


class BaseActorFuture(ABC):
    """The result of a call of an actor's method."""

    @abstractmethod
    def result(self, timeout: Any = None) -> Any:
        """Wait for the call and return its result, or raise what it raised."""

    @abstractmethod
    def exception(self, timeout: Any = None) -> BaseException | None:
        """Wait for the call and return what it raised, or None."""

    @abstractmethod
    def done(self) -> bool:
        """Whether the call has ended."""

    @abstractmethod
    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Have `fn(future)` called when the call has ended, in whatever thread hears of it."""

    @abstractmethod
    def __await__(self) -> Generator[Any, None, Any]: ...

    @property
    def status(self) -> str:
        """`pending`, `finished` or `error`."""
        if not self.done():
            return "pending"
        return "finished" if self.exception() is None else "error"

    def cancelled(self) -> bool:
        """Never: calls of actors cannot be cancelled."""
        return False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def split_calls(futures: Iterable[Any]) -> tuple[list[BaseActorFuture], list[Any]]:
    """Calls of actors, and what is none."""
    calls: list[BaseActorFuture] = []
    others: list[Any] = []
    for each in futures:
        if isinstance(each, BaseActorFuture):
            calls.append(each)
        else:
            others.append(each)
    return calls, others


def find_calls(value: Any) -> list[BaseActorFuture]:
    """The calls of actors in a list, tuple or set, or the one that is given."""
    values = value if isinstance(value, list | tuple | set | frozenset) else [value]
    return split_calls(values)[0]


class EagerActorFuture(BaseActorFuture):
    """The result of a call that one actor made of another one on the same worker: it is there at once."""

    def __init__(self, value: Any = None, error: BaseException | None = None) -> None:
        self._value = value
        self._error = error

    def result(self, timeout: Any = None) -> Any:
        """The result."""
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self, timeout: Any = None) -> BaseException | None:
        """What the call raised, or None."""
        return self._error

    def done(self) -> bool:
        """True."""
        return True

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call `fn(self)` now."""
        fn(self)

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result()
        yield  # what makes it a generator


class ActorFuture(BaseActorFuture):
    """The result of a call of an actor's method, which runs or ran on the actor's worker.

    Examples
    --------
    >>> future = counter.increment()  # doctest: +SKIP
    >>> future.result()  # doctest: +SKIP
    1
    """

    def __init__(self, actor: Actor, answer: concurrent.futures.Future[Reply]) -> None:
        self._actor = actor
        self._answer = answer

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._answer.done()

    def result(self, timeout: Any = None) -> Any:
        """Wait for the call and return its result.

        Parameters
        ----------
        timeout : number or str, optional
            Seconds, or a text such as "500 ms".

        Raises
        ------
        TimeoutError
            If it does not end in time; the call goes on.
        RuntimeError
            If the worker of the actor was lost; also on the event loop, where it must be awaited.
        OSError
            If the worker cannot be reached.
        Exception
            What the method raised.
        """
        self._wait(parse_seconds(timeout))
        try:
            reply = self._answer.result()
        except OSError as error:
            for _ in range(LOST_LOOKS):
                if self._actor._is_lost():
                    break
                time.sleep(LOST_PAUSE)
            raise self._actor._gone() from error
        return self._value(reply)

    def exception(self, timeout: Any = None) -> BaseException | None:
        """Wait for the call and return what it raised, or None. Parameters and errors as of `result`."""
        self._wait(parse_seconds(timeout))
        try:
            self.result()
        except Exception as error:
            return error
        return None

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Have `fn(future)` called when the call has ended, in whatever thread hears of it."""
        self._answer.add_done_callback(lambda answer: fn(self))

    def _wait(self, timeout: float | None) -> None:
        if self._answer.done():
            return
        client = self._actor._client
        if client is not None and client.asynchronous:
            raise RuntimeError("on the event loop the result of an actor's method must be awaited")
        with blocking():
            done, _ = concurrent.futures.wait([self._answer], timeout)
        if not done:
            raise TimeoutError(f"timed out after {timeout:g} s: {self._actor!r} has not answered")

    def _value(self, reply: Reply) -> Any:
        status = reply.get("status")
        if status == "OK":
            return results.loads([reply.buffers[0]])
        if status == "error":
            raise load_failure(reply.buffers[0])
        if status == "lost":
            raise self._actor._gone(known=True)
        raise MessageError(f"a worker answered the call of an actor with the status {status!r}")

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result_async().__await__()

    async def _result_async(self) -> Any:
        try:
            with blocking():
                reply = await asyncio.shield(asyncio.wrap_future(self._answer))
        except OSError as error:
            for _ in range(LOST_LOOKS):
                if self._actor._is_lost():
                    break
                await asyncio.sleep(LOST_PAUSE)
            raise self._actor._gone() from error
        return self._value(reply)


class Actor:
    """A handle of an object that stays on one worker.

    Its methods are called there, plain ones one at a time and in the order of the calls, and give an `ActorFuture`;
    other attributes are fetched. Calls of one caller keep their order. A handle can be passed to tasks and to
    methods of actors. While somebody holds a handle or the future of the actor, it lives.

    Parameters
    ----------
    cls : type
        The class of the object.
    address : str
        Of its worker.
    key : str
        Of the task that made it.
    worker : Worker, optional
        For compatibility only: what runs on the worker itself is found without it.

    Examples
    --------
    >>> class Counter:
    ...     n = 0
    ...     def increment(self):
    ...         self.n += 1
    ...         return self.n
    >>> counter = client.submit(Counter, actor=True).result()
    >>> counter.increment().result()
    1
    >>> counter.n
    1
    """

    #: The handle at its home keeps the object: it is never put on disk.
    __fastdist_stays__ = True

    def __init__(self, cls: type, address: str, key: Any, worker: Any = None) -> None:
        self._cls = cls
        self._address = address
        self.key = key
        self._home: Home | None = None
        self._future: Future | None = None
        self._client: Client | None = None
        client = find_client()
        if client is not None:
            self._bind(client)

    @classmethod
    def _at_home(cls, kind: type, address: str, key: Any, home: Home) -> Actor:
        """The handle that the worker of the actor keeps: while it is there, so is the object."""
        actor = cls.__new__(cls)
        actor.__dict__.update(
            _cls=kind, _address=address, key=key, _home=home, _future=None, _client=None
        )
        return actor

    def _bind(self, client: Client) -> None:
        self._client = client
        self._future = Future(self.key, client)

    def _away(self) -> Actor:
        """A handle like this one for somebody else."""
        return Actor(self._cls, self._address, self.key)

    def __reduce__(self) -> tuple[Any, ...]:
        return Actor, (self._cls, self._address, self.key)

    def __dask_tokenize__(self) -> tuple[str, Any]:
        return ("fastdist.Actor", self.key)

    def __repr__(self) -> str:
        return f"<Actor: {self._cls.__name__}, key={self.key}>"

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(name for name in dir(self._cls) if not name.startswith("_"))})

    def __getattr__(self, name: str) -> Any:
        if (name.startswith("__") and name.endswith("__")) or "_cls" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if self._is_lost():
            raise self._gone()
        if callable(getattr(self._cls, name, None)):
            return _Method(self, name)
        ended, value = self._inline(lambda instance: getattr(instance, name))
        if ended:
            return value
        future = ActorFuture(self, self._send("actor-attribute", name, ()))
        client = self._asker()
        return future if client.asynchronous else future.result()

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BaseActorFuture:
        if self._is_lost():
            raise self._gone()
        separate_thread = kwargs.pop("separate_thread", True)
        if not inspect.iscoroutinefunction(getattr(self._cls, name)):
            try:
                ended, value = self._inline(lambda instance: getattr(instance, name)(*args, **kwargs))
            except Exception as error:
                return EagerActorFuture(error=error)
            if ended:
                return EagerActorFuture(value)
        payload, _ = serialize_arguments(args, kwargs or None, None)
        fields = {} if separate_thread else {"separate_thread": False}
        return ActorFuture(self, self._send("actor-execute", name, [payload], **fields))

    def _inline(self, function: Callable[[Any], Any]) -> tuple[bool, Any]:
        """Within a method of an actor of the same worker, use the object itself if that is possible."""
        host = host_of_this_thread()
        home = None
        if host is not None and host.worker.address == self._address:
            home = host.find(encode_key(self.key))
        if host is None or home is None:
            return False, None
        instance = home.instance
        return host.run_inline(home, lambda: function(instance))

    def _asker(self) -> Client:
        client = self._client or find_client()
        if client is None:
            raise RuntimeError(f"{self!r} has no client: make one in this process first")
        return client

    def _send(self, op: str, name: str, buffers: Any, **fields: Any) -> concurrent.futures.Future[Reply]:
        client = self._asker()
        client._check_usable()
        channel = client._actor_channel(self._address)
        return channel.call(op, buffers, actor=encode_key(self.key), name=name, **fields)

    def _is_lost(self) -> bool:
        return self._future is not None and self._future.status not in ("finished", "pending")

    def _gone(self, known: bool = False) -> Exception:
        if known or self._is_lost():
            status = "lost" if self._future is None else self._future.status
            return RuntimeError(f"Worker holding Actor was lost.  Status: {status}")
        return OSError(f"Unable to contact Actor's worker at {self._address}")


class _Method:
    """A method of an actor, to be called."""

    __slots__ = ("_actor", "_name")

    def __init__(self, actor: Actor, name: str) -> None:
        self._actor = actor
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> BaseActorFuture:
        return self._actor._call(self._name, args, kwargs)

    def __repr__(self) -> str:
        return f"<method {self._name} of {self._actor!r}>"
