"""Batches: rows, frames, duplicates, references, nesting. May import: _core, protocol, errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from fastdist._core.client.batch import TaskBatch
from fastdist._core.client.futures import FutureTable
from fastdist._core.codec.frames import ColumnReader
from fastdist._core.keys.canonical import encode_key
from fastdist.client.future import Future
from fastdist.errors import FrameError
from fastdist.protocol.arguments import pickle_arguments
from tests.core.client.frames import read_release, read_tasks

HASH, OTHER_HASH = b"h" * 16, b"o" * 16


class Harness:
    """A table whose frames end up in a list."""

    def __init__(self) -> None:
        self.table = FutureTable(Future, 1 << 20)
        self.frames: list[bytes] = []
        self.lock = threading.RLock()
        self.sent: set[bytes] = set()

    def is_new(self, digest: bytes) -> bool:
        is_new = digest not in self.sent
        self.sent.add(digest)
        return is_new

    def batch(self, **kwargs: Any) -> TaskBatch:
        return TaskBatch(self.table, self.frames.append, self.lock, pickle_arguments, self.is_new, **kwargs)

    def map(self, keys: list[bytes], **kwargs: Any) -> list[Any]:
        batch = self.batch(**kwargs)
        number = batch.add_function(HASH, b"pickle")
        names = iter(keys)
        futures = batch.map(
            [(i,) for i in range(len(keys))], len(keys), lambda args: next(names), fail, {}, number
        )
        batch.finish()
        return futures

    def is_unlocked(self) -> bool:
        taken: list[bool] = []

        def take() -> None:
            taken.append(self.lock.acquire(blocking=False))
            if taken[0]:
                self.lock.release()

        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
        return taken[0]


def fail() -> bytes:
    raise AssertionError("not to be called")


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_a_frame_has_a_row_for_each_task(harness: Harness) -> None:
    futures = harness.map([b"a", b"b"], submission=7, fifo_timeout=5)
    tasks = read_tasks(harness.frames[0])
    assert [row.id for row in tasks.rows] == [future.id for future in futures] == [1, 2]
    assert [row.key for row in tasks.rows] == [b"a", b"b"]
    assert [row.call([]) for row in tasks.rows] == [((0,), {}), ((1,), {})]
    assert [(row.flags, row.options, row.order) for row in tasks.rows] == [(3, None, 0), (3, None, 1)]
    assert (tasks.is_last, tasks.submission, tasks.fifo_timeout) == (True, 7, 5)
    assert tasks.functions == {HASH: b"pickle"}
    assert harness.is_unlocked()


def test_long_maps_stream_in_frames_that_keep_their_order(harness: Harness) -> None:
    futures = harness.map([b"%d" % number for number in range(25_000)])
    frames = [read_tasks(body) for body in harness.frames]
    assert [len(frame.rows) for frame in frames] == [10_000, 10_000, 5_000]
    assert [frame.is_last for frame in frames] == [False, False, True]
    assert [row.id for frame in frames for row in frame.rows] == [future.id for future in futures]
    assert [row.order for frame in frames for row in frame.rows] == list(range(25_000))
    assert [frame.functions[HASH] for frame in frames] == [b"pickle", b"", b""]


def test_frames_are_bounded_in_bytes(harness: Harness) -> None:
    batch = harness.batch(max_bytes=1_000)
    number = batch.add_function(HASH, b"")
    for i in range(5):
        batch.add(b"%d" % i, number, ("x" * 400,), {}, expected=5 - i)
    batch.finish()
    frames = [read_tasks(body) for body in harness.frames]
    assert [len(frame.rows) for frame in frames] == [2, 2, 1]
    assert [row.id for frame in frames for row in frame.rows] == [1, 2, 3, 4, 5]


def test_the_same_key_is_the_same_task(harness: Harness) -> None:
    first, second, third = harness.map([b"a", b"b", b"a"])
    (again,) = harness.map([b"a"])
    assert first.id == third.id == again.id != second.id
    assert len(harness.frames) == 1 and len(read_tasks(harness.frames[0]).rows) == 2


def test_ids_that_were_not_used_are_given_again(harness: Harness) -> None:
    futures = harness.map([b"a", b"a", b"a"]) + harness.map([b"b"])
    assert [future.id for future in futures] == [1, 1, 1, 2]


def test_futures_in_arguments_become_inputs(harness: Harness) -> None:
    x, y = harness.map([b"x", b"y"])
    batch = harness.batch()
    batch.add(b"z", batch.add_function(OTHER_HASH, b"g"), ([x, {"y": y}], x), {"k": (y,)})
    batch.finish()
    (row,) = read_tasks(harness.frames[1]).rows
    assert row.inputs == [x.id, y.id]
    assert row.call(["X", "Y"]) == ((["X", {"y": "Y"}], "X"), {"k": ("Y",)})


def test_arguments_that_need_pickle_take_the_other_way(harness: Harness) -> None:
    (x,) = harness.map([b"x"])
    batch = harness.batch()
    batch.add(b"z", batch.add_function(OTHER_HASH, b"g"), (Custom(3), [x]), {})
    batch.finish()
    (row,) = read_tasks(harness.frames[1]).rows
    assert row.inputs == [x.id]
    assert row.call(["X"]) == ((Custom(3), ["X"]), {})


class Custom:
    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Custom) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


def test_futures_of_others_and_released_ones_are_no_inputs(harness: Harness) -> None:
    (foreign,) = Harness().map([encode_key("x")])
    (mine,) = harness.map([encode_key("x")])
    batch = harness.batch()
    number = batch.add_function(HASH, b"")
    with pytest.raises(ValueError, match="another client"):
        batch.add(b"z", number, (foreign,), {})
    mine.release()
    harness.table.release_frame()
    with pytest.raises(ValueError, match="released"):
        batch.add(b"z", number, (mine,), {})
    batch.abort()
    assert harness.is_unlocked()


def test_inputs_are_held_until_their_frame_is_out(harness: Harness) -> None:
    (x,) = harness.map([b"x"])
    batch = harness.batch()
    z = batch.add(b"z", batch.add_function(HASH, b""), (x,), {}, expected=2)
    del x
    assert harness.table.release_frame() is None
    batch.finish()
    assert read_release(harness.table.release_frame() or b"")[0] == [1]
    assert z.state == 0


def test_options_travel_once_per_frame(harness: Harness) -> None:
    batch = harness.batch()
    number = batch.add_function(HASH, b"")
    options = batch.add_options(msgpack.packb({"retries": 2}))
    batch.add(b"a", number, (), {}, options, 3)
    batch.add(b"b", number, (), {}, expected=2)
    batch.add(b"c", number, (), {}, options)
    batch.finish()
    rows = read_tasks(harness.frames[0]).rows
    assert [row.options for row in rows] == [{"retries": 2}, None, {"retries": 2}]


def test_a_reference_has_no_work(harness: Harness) -> None:
    batch = harness.batch()
    future = batch.add_reference(b"elsewhere")
    batch.finish()
    (row,) = read_tasks(harness.frames[0]).rows
    assert (row.key, row.function, row.id) == (b"elsewhere", None, future.id)


def test_an_aborted_batch_leaves_nothing(harness: Harness) -> None:
    batch = harness.batch()
    number = batch.add_function(HASH, b"")
    futures = [batch.add(b"%d" % i, number, (), {}, expected=5 - i) for i in range(3)]
    batch.abort()
    assert harness.frames == [] and len(harness.table) == 0
    assert [future.status for future in futures] == ["cancelled"] * 3
    assert harness.table.release_frame() is None
    assert harness.is_unlocked()
    with pytest.raises(ValueError, match="finished"):
        batch.add(b"x", number, (), {})


def test_a_failing_send_unlocks(harness: Harness) -> None:
    def send(body: bytes) -> None:
        raise ConnectionError("gone")

    batch = TaskBatch(harness.table, send, harness.lock, pickle_arguments, harness.is_new)
    batch.add(b"a", batch.add_function(HASH, b""), (), {})
    with pytest.raises(ConnectionError):
        batch.finish()
    batch.abort()
    assert harness.is_unlocked()
    assert harness.table.open_batch is None


def test_room_is_made_before_each_frame_and_without_the_lock(harness: Harness) -> None:
    free: list[bool] = []
    harness.map([b"%d" % i for i in range(20_001)], make_room=lambda: free.append(harness.is_unlocked()))
    assert free == [True, True, True]


def test_submitting_while_pickling_keeps_dependencies_in_order(harness: Harness) -> None:
    batch = harness.batch()
    number = batch.add_function(HASH, b"")
    first = batch.add(b"first", number, (), {}, expected=3)
    batch.add(b"second", number, (Reentrant(lambda: harness.map([b"inner"])),), {}, expected=2)
    batch.add(b"third", number, (first,), {})
    batch.finish()
    keys = [[row.key for row in read_tasks(body).rows] for body in harness.frames]
    assert keys == [[b"first"], [b"inner"], [b"second", b"third"]]
    assert [read_tasks(body).is_last for body in harness.frames] == [False, True, True]
    assert harness.is_unlocked()


class Reentrant:
    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action

    def __reduce__(self) -> Any:
        self.action()
        return str, ("done",)


def test_numbers_that_were_not_given_are_refused(harness: Harness) -> None:
    batch = harness.batch()
    with pytest.raises(IndexError):
        batch.add(b"a", 3, (), {})
    with pytest.raises(ValueError, match="16 bytes"):
        batch.add_function(b"short", b"")
    with pytest.raises(TypeError):
        batch.add(None, 0, (), {})  # type: ignore[arg-type]
    batch.abort()
    assert harness.is_unlocked()


def test_threads_share_a_table(harness: Harness) -> None:
    import gc
    import sys

    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(1)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                futures = harness.map([b"%d" % (number % 4 * 100 + step * 10 + i) for i in range(20)])
                assert len({future.key_bytes for future in futures}) == 20
                del futures
                if harness.lock.acquire(blocking=False):
                    harness.table.release_frame()
                    harness.lock.release()
        except BaseException as error:
            errors.append(error)

    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)
    assert errors == []
    harness.table.release_frame()
    assert len(harness.table) == 0
    ids = [row.id for body in harness.frames for row in read_tasks(body).rows]
    assert len(set(ids)) == len(ids)


def test_functions_with_the_same_bytes_travel_once(harness: Harness) -> None:
    batch = harness.batch()
    numbers = [batch.add_function(HASH, b"pickle") for _ in range(3)]
    futures = [batch.add(str(i).encode(), number, (), {}) for i, number in enumerate(numbers)]
    batch.finish()
    rows = [row for body in harness.frames for row in read_tasks(body).rows]
    assert [row.function for row in rows] == [HASH] * len(futures)
    assert read_tasks(harness.frames[0]).functions == {HASH: b"pickle"}


def test_functions_with_the_same_bytes_share_a_frame(harness: Harness) -> None:
    batch = harness.batch()
    for key in (b"a", b"b", b"c"):
        batch.add(key, batch.add_function(HASH, b"pickle"), (), {}, expected=3)
    batch.finish()
    (body,) = harness.frames
    assert len(read_tasks(body).rows) == 3
    assert ColumnReader(body, 14).column_bytes(12) == HASH + b"pickle"


def test_frames_are_cut_by_the_bytes_of_functions_too(harness: Harness) -> None:
    batch = harness.batch(max_bytes=1000)
    for i in range(6):
        batch.add(bytes([i]), batch.add_function(bytes([i]) * 16, bytes(600)), (), {}, expected=6 - i)
    batch.finish()
    assert [len(read_tasks(body).rows) for body in harness.frames] == [2, 2, 2]


def test_a_task_over_the_limit_is_refused_and_leaves_nothing_behind(harness: Harness) -> None:
    batch = harness.batch(limit=1 << 20)
    number = batch.add_function(HASH, b"pickle")
    with pytest.raises(FrameError, match=r"comm\.max-frame-bytes"):
        batch.add(b"large", number, (bytes(1 << 20),))
    batch.abort()
    assert harness.frames == [] and not harness.table.find_key(b"large") and harness.is_unlocked()


def test_a_frame_that_cannot_be_sent_leaves_its_keys_free(harness: Harness) -> None:
    def refuse(body: bytes) -> None:
        raise OSError("nobody is there")

    batch = TaskBatch(harness.table, refuse, harness.lock, pickle_arguments, harness.is_new)
    with pytest.raises(OSError, match="nobody"):
        future = batch.add(b"key", batch.add_function(HASH, b"pickle"), ())
        batch.finish()
    assert future.status == "cancelled"
    assert not harness.table.find_key(b"key") and harness.is_unlocked()
