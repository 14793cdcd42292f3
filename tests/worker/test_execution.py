"""Execution threads on a worker core, with a fake connection and a loop in another thread."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from functools import partial

import pytest

from fastdist._core.codec.frames import DoneStatus
from fastdist._core.codec.values import decode_value
from fastdist._core.keys.canonical import encode_key
from fastdist._core.worker import inspect
from fastdist._core.worker.core import WorkerCore
from fastdist.context import get_current_task, get_worker
from fastdist.errors import CommClosedError, Reschedule
from fastdist.protocol.arguments import serialize_arguments
from fastdist.protocol.failures import load_failure
from fastdist.protocol.functions import FunctionCache
from fastdist.worker.executing import ExecutingPage, read_page
from fastdist.worker.execution import Execution
from fastdist.worker.store import DictStore, SplitStore
from tests.core.worker.frames import EPOCH, Done, Row, free_frame, read_done, read_type_names, run_frame

INLINE = 1
FINISHED, ERRED, STARTED = DoneStatus.DONE_FINISHED, DoneStatus.DONE_ERRED, DoneStatus.DONE_STARTED


class Reference:
    """Stands for an input in the arguments of a test's task."""


class OtherStore(DictStore):
    """A store whose dict the execution must not use directly."""


class Harness:
    """A core, its execution, a loop, and what was sent."""

    def __init__(self, threads: int = 1, **options) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop_thread = threading.Thread(target=self.loop.run_forever)
        self.loop_thread.start()
        self.core = WorkerCore(EPOCH, 1, slots=threads)
        self.rows: list[Done] = []
        self.type_names: list[str] = []
        self.frames: list[tuple[float, int]] = []
        self.changed = threading.Condition()
        self.store = options.pop("store", DictStore())
        self.functions: dict[object, int] = {}
        self.execution = Execution(
            self.core,
            self.store,
            send=self.send,
            loop=self.loop,
            measure=sys.getsizeof,
            worker="the worker",
            **options,
        )
        self.execution.start_threads(threads)

    def send(self, body: bytes) -> None:
        with self.changed:
            rows = read_done(body)
            self.rows += rows
            self.type_names += read_type_names(body)
            self.frames.append((time.monotonic(), len(rows)))
            self.changed.notify_all()

    def row(
        self, task_id: int, function, args=(), kwargs=None, inputs=(), **fields
    ) -> tuple[Row, dict[int, bytes]]:
        new = {}
        if function not in self.functions:
            self.functions[function] = len(self.functions) + 1
            new[self.functions[function]] = FunctionCache().serialize_function(function).payload
        references = [Reference() for _ in inputs]
        payload, _ = serialize_arguments((*args, *references), kwargs, Reference)
        row = Row(
            task_id,
            function=self.functions[function],
            key=encode_key(f"task-{task_id}"),
            arguments=payload,
            inputs={i: (0, []) for i in inputs},
            order=fields.pop("order", task_id),
            **fields,
        )
        return row, new

    def run(self, *tasks: tuple[Row, dict[int, bytes]]) -> None:
        functions = {number: pickled for _, new in tasks for number, pickled in new.items()}
        self.core.on_run(run_frame([row for row, _ in tasks], functions), time.monotonic())
        self.loop.call_soon_threadsafe(self.execution.expect_work)

    def submit(self, task_id: int, function, *args, **fields) -> None:
        self.run(self.row(task_id, function, args, **fields))

    def wait(self, n: int, status: DoneStatus | None = None) -> list[Done]:
        """The rows of this status, once there are `n`; without one, all but those of tasks that take long."""

        def found() -> list[Done]:
            if status is None:
                return [row for row in self.rows if row.status != STARTED]
            return [row for row in self.rows if row.status == status]

        with self.changed:
            assert self.changed.wait_for(lambda: len(found()) >= n, 20), f"{self.rows} instead of {n} rows"
            return found()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.execution.close)
        assert self.execution.join(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.loop_thread.join()
        self.loop.close()


@pytest.fixture
def make():
    made = []

    def make_harness(threads: int = 1, **options) -> Harness:
        made.append(Harness(threads, **options))
        return made[-1]

    yield make_harness
    for harness in made:
        harness.close()


def increment(x: int) -> int:
    return x + 1


def add(*numbers: int, more: int = 0) -> int:
    return sum(numbers) + more


def failing(x: int) -> None:
    raise ValueError(f"no {x}")


def test_a_result_is_stored_and_sent_inline(make) -> None:
    harness = make()
    harness.submit(1, increment, 41, flags=INLINE)
    (row,) = harness.wait(1)
    assert (row.task_id, row.attempt, row.status) == (1, 1, FINISHED)
    assert decode_value(row.payload) == 42
    assert row.size == sys.getsizeof(42)
    assert harness.type_names[row.type_number] == "int"
    assert harness.store.get(1) == 42


def test_a_result_is_not_sent_unless_asked_or_when_it_is_large(make) -> None:
    harness = make(inline_limit=100)
    harness.run(harness.row(1, increment, (1,)), harness.row(2, str.upper, ("x" * 200,), flags=INLINE))
    assert [row.payload for row in harness.wait(2)] == [b"", b""]
    assert harness.store.get(2) == "X" * 200


def test_in_one_process_only_immutable_scalars_are_sent(make) -> None:
    harness = make(by_reference=True)
    harness.run(harness.row(1, list, ("ab",), flags=INLINE), harness.row(2, increment, (1,), flags=INLINE))
    payloads = {row.task_id: row.payload for row in harness.wait(2)}
    assert payloads[1] == b""
    assert decode_value(payloads[2]) == 2


STORES = [DictStore, OtherStore, lambda: SplitStore(OtherStore(), 1), lambda: SplitStore(OtherStore(), 100)]


@pytest.mark.parametrize("store", STORES)
def test_inputs_come_from_the_store_in_their_order(make, store) -> None:
    harness = make(store=store())
    harness.run(
        harness.row(1, increment, (1,)),
        harness.row(2, increment, (10,)),
        harness.row(3, add, (100,), {"more": 1000}, inputs=(1, 2)),
    )
    harness.wait(3)
    assert harness.store.get(3) == 1113
    harness.execution.drop_values([1, 2, 3])
    assert len(harness.store) == 0


def test_an_exception_carries_the_frames_of_the_user_only(make) -> None:
    harness = make()
    harness.submit(1, failing, 7)
    (row,) = harness.wait(1)
    error = load_failure(row.payload)
    assert row.status == ERRED
    assert repr(error) == "ValueError('no 7')"
    assert error.__traceback__.tb_frame.f_code.co_name == "failing"
    assert 1 not in harness.store


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_no_exception_of_a_task_ends_the_thread(make, error: BaseException) -> None:
    harness = make()
    harness.submit(1, partial(raise_it, type(error), error.args))
    harness.submit(2, increment, 1)
    rows = harness.wait(2)
    assert [row.status for row in rows] == [ERRED, FINISHED]
    assert type(load_failure(rows[0].payload)) is type(error)


def raise_it(kind: type[BaseException], args: tuple = ()) -> None:
    raise kind(*args)


def test_a_task_can_ask_to_be_placed_again(make) -> None:
    harness = make()
    harness.submit(1, partial(raise_it, Reschedule))
    assert harness.wait(1)[0].status == DoneStatus.DONE_RESCHEDULE


def test_a_function_that_cannot_be_loaded_fails_its_tasks(make) -> None:
    harness = make()
    row, _ = harness.row(1, increment, (1,))
    harness.run((row, {row.function: b"no pickle"}))
    harness.submit(2, increment, 1)
    assert [row.status for row in harness.wait(2)] == [ERRED, ERRED]


def test_malformed_arguments_fail_the_task(make) -> None:
    harness = make()
    row, new = harness.row(1, increment, (1,))
    row.arguments = b"\x01"
    harness.run((row, new))
    assert harness.wait(1)[0].status == ERRED


def test_a_function_is_loaded_once_and_forgotten_when_told(make) -> None:
    harness = make()
    harness.submit(1, increment, 1)
    harness.submit(2, increment, 2)
    harness.wait(2)
    (loaded,) = harness.core.functions.values()
    assert type(loaded).__name__ == "Function"
    harness.core.on_free(free_frame([], [1]), 0.0)
    assert harness.core.functions == {}


def test_the_type_of_each_result_is_named_once(make) -> None:
    harness = make()
    for i in range(3):
        harness.submit(i + 1, increment, i)
    harness.submit(4, partial, increment)
    rows = harness.wait(4)
    assert harness.type_names == ["object", "int", "functools.partial"]
    assert [row.type_number for row in rows] == [1, 1, 1, 2]


def test_the_current_task_and_worker_are_known_inside_of_a_task_only(make) -> None:
    harness = make()
    harness.submit(1, tell_context)
    harness.wait(1)
    assert harness.store.get(1) == ("task-1", 1, "the worker")
    with pytest.raises(ValueError, match="no task"):
        get_current_task()
    with pytest.raises(ValueError, match="No worker"):
        get_worker()


def tell_context() -> tuple[object, int, object]:
    task = get_current_task()
    return task.key, task.attempt, get_worker()


# ----------------------------------------------------------------------------------------------------------
# Reports in time


def test_a_result_is_reported_while_the_next_task_computes(make) -> None:
    harness = make()
    release = threading.Event()
    events["release"] = release
    harness.run(harness.row(1, increment, (1,)), harness.row(2, wait_for, ("release",)))
    assert harness.wait(1, FINISHED)[0].task_id == 1
    (started,) = harness.wait(1, STARTED)
    assert (started.task_id, started.attempt) == (2, 1)
    release.set()
    harness.wait(2, FINISHED)
    assert sum(row.status == STARTED for row in harness.rows) == 1


def test_a_result_is_reported_in_time_beside_pure_python(make) -> None:
    harness = make()
    times = {}
    harness.run(harness.row(1, note_time, ()), harness.row(2, spin, (0.3,)))
    harness.wait(2, FINISHED)
    times["finished"] = harness.store.get(1)
    sent = harness.frames[0][0]
    assert sent - times["finished"] < 0.15


def test_results_gather_in_few_frames(make) -> None:
    harness = make()
    n = 5_000
    harness.run(*(harness.row(i, increment, (i,)) for i in range(1, n + 1)))
    assert [row.task_id for row in harness.wait(n)] == list(range(1, n + 1))
    assert len(harness.frames) < n / 20


events: dict[str, threading.Event] = {}


def wait_for(name: str) -> None:
    assert events[name].wait(20)


def note_time() -> float:
    return time.monotonic()


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


# ----------------------------------------------------------------------------------------------------------
# Threads and coroutines


def test_as_many_tasks_execute_at_once_as_there_are_threads(make) -> None:
    harness = make(threads=3)
    barriers["meet"] = threading.Barrier(3)
    harness.run(*(harness.row(i, meet, ("meet",)) for i in (1, 2, 3)))
    harness.wait(3, FINISHED)


barriers: dict[str, threading.Barrier] = {}


def meet(name: str) -> None:
    barriers[name].wait(20)


async def sleep_and_add(a: int, b: int = 0) -> tuple[int, object]:
    await asyncio.sleep(0)
    return a + b, get_current_task().key


async def fail_later() -> None:
    await asyncio.sleep(0)
    raise ValueError("later")


def test_coroutine_functions_run_on_the_loop(make) -> None:
    harness = make()
    harness.run(
        harness.row(1, sleep_and_add, (1,), {"b": 2}),
        harness.row(2, fail_later, ()),
        harness.row(3, increment, (1,)),
    )
    rows = {row.task_id: row for row in harness.wait(3)}
    assert harness.store.get(1) == (3, "task-1")
    assert repr(load_failure(rows[2].payload)) == "ValueError('later')"
    assert rows[3].status == FINISHED


def test_coroutines_take_slots(make) -> None:
    harness = make()
    events["never"] = threading.Event()
    harness.run(harness.row(1, wait_on_loop, ("never",)), harness.row(2, increment, (1,)))
    harness.wait(1, STARTED)
    assert inspect.state_counts(harness.core)["ready"] == 1
    events["never"].set()
    assert [row.task_id for row in harness.wait(2, FINISHED)] == [1, 2]


async def wait_on_loop(name: str) -> None:
    await asyncio.to_thread(events[name].wait)


def test_a_task_freed_while_it_executes_leaves_nothing_in_the_store(make) -> None:
    harness = make()
    events["free"] = threading.Event()
    harness.run(harness.row(1, wait_for, ("free",)))
    harness.wait(1, STARTED)
    harness.core.on_free(free_frame([1]), time.monotonic())
    events["free"].set()
    harness.submit(2, increment, 1)
    harness.wait(1, FINISHED)
    assert list(harness.store) == [2]
    assert inspect.state_of(harness.core, 1).name == "RELEASED"


def test_a_closed_connection_does_not_end_the_threads(make) -> None:
    harness = make()
    calls = threading.Event()

    def refuse(body: bytes) -> None:
        calls.set()
        raise CommClosedError("gone")

    execution = Execution(
        WorkerCore(EPOCH, 1), DictStore(), send=refuse, loop=harness.loop, measure=sys.getsizeof
    )
    execution.start_threads(1)
    row, new = harness.row(1, increment, (1,))
    execution.core.on_run(run_frame([row], new), time.monotonic())
    assert calls.wait(20)
    assert execution.threads[0].is_alive()
    execution.close()
    assert execution.join(20)


class BreakingConnection:
    """A connection whose reading breaks off just when a task was found."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK)
        self.reading = threading.Event()
        self.broke = threading.Event()

    def reader_descriptor(self) -> int:
        return -1 if self.broke.is_set() else self.descriptor

    def read_until(self, done, timeout: float | None) -> None:
        self.reading.set()
        while not done():
            pass
        self.broke.set()
        raise ValueError("broken")


def test_a_read_that_breaks_off_loses_no_task(make, caplog) -> None:
    connection = BreakingConnection()
    harness = make(comm=connection)
    assert connection.reading.wait(20)
    harness.submit(1, increment, 1)
    assert harness.wait(1)[0].status == FINISHED
    assert connection.broke.is_set()
    assert "stopped reading the connection" in caplog.text
    harness.submit(2, increment, 2)
    harness.wait(2)
    os.close(connection.descriptor)


def test_close_wakes_idle_threads_and_waits_for_busy_ones(make) -> None:
    harness = make(threads=2)
    events["busy"] = threading.Event()
    harness.run(harness.row(1, wait_for, ("busy",)))
    harness.wait(1, STARTED)
    harness.loop.call_soon_threadsafe(harness.execution.close)
    assert harness.execution.join(0.05) is False
    events["busy"].set()
    assert harness.execution.join(20) is True


def test_the_page_tells_what_executes(make, tmp_path) -> None:
    page = ExecutingPage(tmp_path / "executing")
    harness = make(page=page)
    events["page"] = threading.Event()
    assert read_page(page.path) == []
    harness.run(harness.row((7 << 32) | 5, wait_for, ("page",), attempt=3))
    harness.wait(1, STARTED)
    assert read_page(page.path) == [((7 << 32) | 5, 3)]
    events["page"].set()
    harness.wait(1, FINISHED)
    assert read_page(page.path) == []
    harness.execution.release_page()
    page.close()
    assert not os.path.exists(page.path)


def test_another_file_is_no_page(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"something")
    with pytest.raises(ValueError, match="not a page"):
        read_page(tmp_path / "file")


class Noisy:
    """Its end calls back into the worker core, as any user object's may."""

    core: WorkerCore | None = None

    def __del__(self) -> None:
        if Noisy.core is not None:
            inspect.state_counts(Noisy.core)
            inspect.held(Noisy.core)


def make_noisy(_: int) -> Noisy:
    return Noisy()


def test_threads_garbage_collection_and_frees_do_not_deadlock(make) -> None:
    harness = make(threads=32)
    Noisy.core = harness.core
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(1)
    try:
        n, step = 1_500, 50
        for first in range(1, n, step):
            ids = range(first, first + step)
            harness.run(*(harness.row(i, make_noisy, (i,)) for i in ids))
            harness.execution.drop_values(
                harness.core.on_free(free_frame(range(first, first + step, 2)), 0.0)
            )
        for _ in range(2000):
            if not any(inspect.state_counts(harness.core)[name] for name in ("ready", "executing")):
                break
            time.sleep(0.01)
        inspect.validate(harness.core)
        harness.execution.drop_values(harness.core.on_free(free_frame(range(1, n + step)), 0.0))
        assert len(harness.store) == 0
    finally:
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)
        Noisy.core = None
