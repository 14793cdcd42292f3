"""What all of them share: a name, the client to ask through, blocking and awaited calls. May import: `client`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import uuid
from collections.abc import Callable, Coroutine, Generator
from typing import Any, ClassVar, TypeVar

from fastdist._core.keys.canonical import encode_key
from fastdist.client.current import _current_client, get_client
from fastdist.client.options import parse_seconds
from fastdist.context import blocking, current_task, current_worker
from fastdist.protocol import results

Self = TypeVar("Self", bound="Primitive")

#: Seconds that a task waits before it gives its slot to others.
BRIEFLY = 0.02
#: Seconds beyond a timeout within which the scheduler, which watches it, has to answer.
ANSWER_TIME = 30.0


class Primitive:
    """Something with a name that lives on the scheduler.

    It is bound to a client when it is made or first used: the one given, else the one of the task or of the context.
    A pickled one has its name only, and is bound where it is loaded.
    """

    #: What names that users leave out begin with.
    kind: ClassVar[str]

    def __init__(self, name: Any, client: Any) -> None:
        self.name = f"{self.kind}-{uuid.uuid4().hex}" if name is None or name == "" else name
        self._name = encode_key(tuple(self.name) if isinstance(self.name, list) else self.name)
        self._client = client
        self._bind()

    def _bind(self) -> Any:
        if self._client is None:
            try:
                self._client = get_client()
            except ValueError:
                return None
        return self._client

    @property
    def client(self) -> Any:
        """The client that is asked, or None if there is none yet."""
        return self._bind()

    def _call(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **options: Any) -> Any:
        """Run a coroutine function on the client's loop: wait for it, or give what is awaited."""
        client = self._needed_client()
        client._check_usable()

        async def started() -> Any:
            await client._started()
            return await function(*args)

        if current_task.get() is None or client.asynchronous or options:
            return client.sync(started, **options)
        return wait_in_task(asyncio.run_coroutine_threadsafe(started(), client._loop))

    def _needed_client(self) -> Any:
        client = self._bind()
        if client is None:
            raise RuntimeError(f"{self!r} has no client: make a fastdist.Client first, or use it inside of a task")
        return client

    async def _ask(self, op: str, *, timeout: float | None = None, **fields: Any) -> Any:
        """Ask the scheduler, which watches the timeout."""
        limit = None if timeout is None else max(0.0, timeout) + ANSWER_TIME
        return await self._client._connection.call(
            op, timeout=limit, **fields, **({} if timeout is None else {"wait_timeout": timeout})
        )

    def _later(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Have the client's loop do something that nobody waits for but its closing."""
        if self._client.status == "running":
            self._client._run_errand(function, *args)

    def _tell(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """As `_later`, for a call of the user: it needs a client, and has no effect if that is closed."""
        self._needed_client()
        self._later(function, *args)

    def __await__(self: Self) -> Generator[Any, None, Self]:
        async def ready() -> Self:
            return self

        return ready().__await__()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"


def wait_in_task(outcome: concurrent.futures.Future[Any]) -> Any:
    """Wait inside of a task, which gives its slot to others when that takes time.

    Not at once: a task that has got its lock would have to wait for a slot, and everybody else for the lock.
    """
    try:
        concurrent.futures.wait([outcome], BRIEFLY)
        if outcome.done():
            return outcome.result()
        with blocking():
            return outcome.result()
    except BaseException:
        outcome.cancel()
        raise


def worker_address() -> str | None:
    """The worker whose task this is called in: what the task holds ends with it."""
    worker = current_worker.get()
    return None if worker is None else str(worker.address)


def dump(value: Any) -> list[Any]:
    """A value as bytes."""
    return [b"".join(results.dumps(value))]


def load(client: Any, buffers: list[Any]) -> Any:
    """The value of such bytes; the futures in it belong to the client."""
    token = _current_client.set(client)
    try:
        return results.loads(buffers)
    finally:
        _current_client.reset(token)


def seconds(timeout: Any) -> float | None:
    """A timeout in seconds, not below 0."""
    value = parse_seconds(timeout)
    return None if value is None else max(0.0, value)
