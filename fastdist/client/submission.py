"""From `submit`, `map` and `get` to TASKS frames. May import: `_core`, `config`, `protocol`, `errors`."""

from __future__ import annotations

import functools
import io
import itertools
import pickle
import queue
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sized
from typing import Any

from fastdist import config
from fastdist._core.client.batch import TaskBatch
from fastdist._core.client.futures import FutureTable
from fastdist._core.codec.sizeof import sizeof
from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist._core.keys.hash import KeyMaker, function_name
from fastdist.client.future import Future
from fastdist.client.large_arguments import ArgumentPickler
from fastdist.client.options import unique
from fastdist.errors import SerializationError
from fastdist.protocol.functions import FunctionCache, SerializedFunction

#: Functions that the scheduler keeps for one client; beyond it the least recently used is dropped.
SENT_FUNCTIONS = 2_000
#: Data of more bytes that all tasks of a map share is not sent with each of them.
LARGE_ARGUMENT = 32_768
#: Where the classes of arrays and tables come from.
ARRAY_MODULES = ("numpy", "pandas", "pyarrow")


class SentFunctions:
    """Remembers which functions the scheduler has from this client; used under the submission lock only."""

    def __init__(self, limit: int = SENT_FUNCTIONS):
        self._limit = limit
        self._sent: OrderedDict[bytes, None] = OrderedDict()
        self._dropped: list[bytes] = []

    def is_new(self, digest: bytes) -> bool:
        """Whether the pickle of this function has to be sent (it counts as sent from then on)."""
        if digest in self._sent:
            self._sent.move_to_end(digest)
            return False
        self._sent[digest] = None
        if len(self._sent) > self._limit:
            self._dropped.append(self._sent.popitem(last=False)[0])
        return True

    @property
    def has_dropped(self) -> bool:
        """Whether `take_dropped` would give anything."""
        return bool(self._dropped)

    def take_dropped(self) -> bytes:
        """The hashes that the scheduler may forget, back to back."""
        dropped, self._dropped = self._dropped, []
        # One that came back in the meantime is in use.
        return b"".join(digest for digest in dropped if digest not in self._sent)

    def clear(self) -> None:
        """Forget everything: the scheduler is another one."""
        self._sent.clear()
        self._dropped.clear()


class KnownKeys(Collection[Any]):
    """The keys that a graph may need without having them, because this client has futures of them."""

    def __init__(self, table: FutureTable):
        self._table = table

    def __contains__(self, key: object) -> bool:
        return bool(self._table.find_key(encode_key(key)))

    def __iter__(self) -> Iterator[Any]:
        futures = map(self._table.future, self._table.live_ids())
        return (decode_key(future.key_bytes) for future in futures if future is not None)

    def __len__(self) -> int:
        return len(self._table)


class NamedTasks:
    """What the tasks do that have a key of the user's choice, so that no key means two different tasks.

    Parameters
    ----------
    table : FutureTable
    """

    def __init__(self, table: FutureTable):
        self._table = table
        self._contents: dict[int, bytes] = {}
        self._sweep_at = 1_000

    def add(self, futures: Iterable[Future], contents: Iterable[bytes | None]) -> None:
        """Remember what new tasks do; None for what has no name of its own."""
        for future, content in zip(futures, contents, strict=True):
            if content is not None:
                self._contents[future.id] = content
        if len(self._contents) > self._sweep_at:
            live = self._contents.keys() & set(self._table.live_ids())
            self._contents = {id: self._contents[id] for id in live}
            self._sweep_at = max(1_000, 2 * len(live))

    def check(self, future: Future, content: bytes | None) -> None:
        """Compare a call with the task that has its key already.

        Raises
        ------
        ValueError
            If they differ.
        """
        known = self._contents.get(future.id)
        if known is not None and content is not None and known != content:
            raise ValueError(
                f"the key {future.key!r} names another task already, with another function or other arguments; "
                "use another key, or release the futures of that task first"
            )


class Submitter:
    """Makes tasks out of calls, one batch per call.

    Parameters
    ----------
    table : FutureTable
        Where the futures live.
    send : callable
        Sends the body of a TASKS frame; from any thread, without waiting.
    make_room : callable, optional
        Waits while too much is unsent.
    release_now : callable, optional
        Sends the releases that piled up, so that a key which nobody holds any more can name another task.
    enqueue, push : callable, optional
        `send` in two steps: take the body of a frame, in order, and then, without the lock, send what was taken.
    """

    def __init__(
        self,
        table: FutureTable,
        send: Callable[[bytes], None],
        make_room: Callable[[], None] | None = None,
        release_now: Callable[[], object] | None = None,
        *,
        enqueue: Callable[[bytes], None] | None = None,
        push: Callable[[], None] | None = None,
    ):
        self.table = table
        self.lock = threading.RLock()
        self.sent_functions = SentFunctions()
        #: Whether tasks submit with it: then the newest submission goes first.
        self.nested = False
        self._send = send
        self._enqueue = enqueue or send
        self._push = push
        self._make_room = make_room
        self._release_now = release_now
        self._named = NamedTasks(table)
        self._frame_limit = config.get("comm.max-frame-bytes")
        self._functions = FunctionCache()
        self._pickle_arguments = ArgumentPickler()
        self._submissions = itertools.count(1)

    def new_batch(self, fifo_timeout: float, send: Callable[[bytes], None] | None = None) -> TaskBatch:
        """A batch for one submission; whoever makes it must `finish` or `abort` it."""
        batch = TaskBatch(
            self.table,
            send or self._send,
            self.lock,
            self._pickle_arguments,
            self.sent_functions.is_new,
            self._make_room,
            next(self._submissions),
            max(0, int(fifo_timeout * 1e6)),
            limit=self._frame_limit,
        )
        batch.nested = self.nested
        return batch

    def add_function(self, batch: TaskBatch, function: Callable[..., Any]) -> int:
        """Make a function known to a batch, pickled if need be; its number."""
        serialized = self.serialize_function(function)
        return batch.add_function(serialized.hash, serialized.payload)

    def serialize_function(self, function: Callable[..., Any]) -> SerializedFunction:
        """The bytes of a function; those of an importable one are remembered."""
        return self._functions.serialize_function(function)

    def submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        key: Any,
        pure: bool,
        options: bytes | None,
        fifo_timeout: float,
    ) -> Future:
        """One task; see `Client.submit`."""
        key_bytes = content = None
        if pure or key is not None:
            key_bytes = KeyMaker(function, kwargs).key(args)
        if key is not None:
            self.make_keys_free()
            content, key_bytes = key_bytes, encode_key(key)
        elif key_bytes is None:
            key_bytes = encode_key(f"{function_name(function)}-{uuid.uuid4()}")
        known = self.table.future(self.table.find_key(key_bytes))
        if known is not None:
            if key is not None:
                self._named.check(known, content)
            return known
        # Sent when the lock is free again: other threads are not to wait for the system.
        batch = self.new_batch(fifo_timeout, self._enqueue)
        try:
            number = self.add_function(batch, function)
            if options is None:
                future = batch.add(key_bytes, number, args, kwargs)
            else:
                future = batch.add(key_bytes, number, args, kwargs, batch.add_options(options))
            batch.finish()
        except SerializationError as error:
            batch.abort()
            raise name_task(error, f"the task {decode_key(key_bytes)!r}") from error.__cause__
        except BaseException:
            batch.abort()
            raise
        if self._push is not None:
            self._push()
        if content is not None:
            self._named.add((future,), (content,))
        return future

    def reference(self, key_bytes: bytes) -> Future:
        """A future of a task that exists already."""
        known = self.table.future(self.table.find_key(key_bytes))
        if known is not None:
            return known
        batch = self.new_batch(0)
        try:
            future = batch.add_reference(key_bytes)
            batch.finish()
        except BaseException:
            batch.abort()
            raise
        return future

    def map(
        self,
        function: Callable[..., Any],
        iterables: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        key: Any,
        pure: bool,
        options: bytes | None,
        fifo_timeout: float,
        batch_size: int | None,
    ) -> list[Future]:
        """One task per row; see `Client.map`."""
        check_iterables(iterables)
        expected = min(len(iterable) for iterable in iterables)
        contents: dict[bytes, bytes | None] = {}
        make_key, make_other_key = self._key_makers(function, kwargs, key, pure, expected, contents)
        rows: Iterator[tuple[Any, ...]] = zip(*iterables)  # noqa: B905 (the shortest one counts)
        if not batch_size or batch_size <= 1 or expected <= batch_size:
            batch_size = max(1, expected)
        if expected > 1 and kwargs:
            function, kwargs = bind_large(function, kwargs)
        futures: list[Future] = []
        for start in range(0, expected, batch_size):
            part = itertools.islice(rows, batch_size)
            size = min(batch_size, expected - start)
            futures += self._map_batch(
                function, part, size, make_key, make_other_key, kwargs, options, fifo_timeout
            )
        if contents:
            new = [future for future in futures if future.key_bytes in contents]
            self._named.add(new, (contents[future.key_bytes] for future in new))
        return futures

    def make_keys_free(self) -> None:
        """Let go of what nobody holds any more, so that its keys can name other tasks."""
        if self._release_now is not None and self.table.n_released:
            self._release_now()

    def _map_batch(
        self,
        function: Callable[..., Any],
        rows: Iterable[tuple[Any, ...]],
        expected: int,
        make_key: Callable[[tuple[Any, ...]], bytes | None],
        make_other_key: Callable[[], bytes],
        kwargs: dict[str, Any],
        options: bytes | None,
        fifo_timeout: float,
    ) -> list[Future]:
        batch = self.new_batch(fifo_timeout)
        try:
            number = self.add_function(batch, function)
            if options is None:
                futures = batch.map(rows, expected, make_key, make_other_key, kwargs, number)
            else:
                futures = batch.map(
                    rows, expected, make_key, make_other_key, kwargs, number, batch.add_options(options)
                )
            batch.finish()
        except SerializationError as error:
            batch.abort()
            raise name_task(error, f"a task of {function_name(function)}") from error.__cause__
        except BaseException:
            batch.abort()
            raise
        return futures

    def _key_makers(
        self,
        function: Callable[..., Any],
        kwargs: dict[str, Any],
        key: Any,
        pure: bool,
        expected: int,
        contents: dict[bytes, bytes | None],
    ) -> tuple[Callable[[tuple[Any, ...]], bytes | None], Callable[[], bytes]]:
        """What names each row, and what names a row that the first one has no name for."""
        if isinstance(key, list | tuple) and not isinstance(key, str):
            keys = [encode_key(each) for each in key]
            if len(keys) != expected:
                raise ValueError(f"key= has {len(keys)} keys for {expected} tasks")
            if not unique(keys):
                raise ValueError("key= names the same key twice; every task needs its own")
            self.make_keys_free()
            return self._named_keys(iter(keys), KeyMaker(function, kwargs), contents), _never_called
        prefix = key or function_name(function)
        counter = itertools.count()
        token = uuid.uuid4()

        def make_impure_key() -> bytes:
            return encode_key(f"{prefix}-{token}-{next(counter)}")

        if pure:
            maker = KeyMaker(function, kwargs, prefix)
            if maker.deterministic:
                return maker.key, make_impure_key
        return (lambda args: None), make_impure_key

    def _named_keys(
        self, keys: Iterator[bytes], maker: KeyMaker, contents: dict[bytes, bytes | None]
    ) -> Callable[[tuple[Any, ...]], bytes]:
        """Gives each row the next of the user's keys, and notes what the new tasks do."""

        def make_key(args: tuple[Any, ...]) -> bytes:
            key = next(keys)
            content = maker.key(args)
            known = self.table.future(self.table.find_key(key))
            if known is None:
                contents[key] = content
            else:
                self._named.check(known, content)
            return key

        return make_key


def check_iterables(iterables: tuple[Any, ...]) -> None:
    """Raise TypeError unless all iterables have a length."""
    if not iterables:
        raise TypeError("map needs at least one collection of arguments after the function")
    for iterable in iterables:
        if isinstance(iterable, Iterator | queue.Queue):
            raise TypeError(
                f"map takes collections with a length, not {type(iterable).__name__}: "
                "make a list of it, or call submit in a loop"
            )
        if not isinstance(iterable, Sized):
            raise TypeError(f"map takes collections with a length, and {type(iterable).__name__} has none")


def bind_large(
    function: Callable[..., Any], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function with its large arguments, and the others: a function travels once for all of its tasks."""
    large = {
        name: value for name, value in kwargs.items() if sizeof(value) > LARGE_ARGUMENT and is_data(value)
    }
    if not large:
        return function, kwargs
    return functools.partial(function, **large), {name: kwargs[name] for name in kwargs if name not in large}


def is_data(value: Any) -> bool:
    """Whether a value is data without futures in it, and no object that tasks may want to change."""
    try:
        _DataPickler(io.BytesIO(), 5).dump(value)
    except (pickle.PicklingError, RecursionError):
        return False
    return True


class _DataPickler(pickle.Pickler):
    """Refuses all but builtin values and arrays. It is asked for objects of other classes only."""

    def reducer_override(self, value: Any) -> Any:
        if value is int:
            # What stands for an array, see below.
            return NotImplemented
        known = hasattr(value, "nbytes") or hasattr(value, "memory_usage")
        objects = getattr(getattr(value, "dtype", None), "hasobject", False)
        if objects or not known or type(value).__module__.partition(".")[0] not in ARRAY_MODULES:
            raise pickle.PicklingError(f"a {type(value).__name__} is no data")
        return int, ()


def _never_called() -> bytes:
    raise AssertionError("every row of this map has a key")


def name_task(error: SerializationError, task: str) -> SerializationError:
    """The same error with the task in its text."""
    error.args = (f"{task} cannot be sent: {error}",)
    return error
