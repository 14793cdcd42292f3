"""The execution of tasks.

Each execution thread takes ready tasks from the worker core, one after the other: it loads the function, decodes the
arguments, calls, stores the result and appends a row to the open DONE frame. The event loop has no part in that. A
thread that finds no task sends what has gathered and sleeps without the GIL.

May import: `fastdist._core`, `fastdist.protocol`, `fastdist.context`, `fastdist.errors`, the
values, reports and stops of this folder.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport DONE_RESCHEDULE, DONE_RETRACTED
from fastdist._core.codec.values cimport decode_arguments
from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker cimport slots
from fastdist._core.worker.model cimport RUN_INLINE, TaskRecord, arguments_of
from fastdist.worker.interrupting cimport OVERDUE, REPORTED, Attempt, Stopper
from fastdist.worker.reports cimport PLACES, busy_word, clock
from fastdist.worker.values cimport Values

import contextvars
from asyncio import CancelledError
import inspect
import logging
import threading
from _thread import get_ident

from fastdist._core.keys.canonical import decode_key
from fastdist._core.worker.inspect import key_of
from fastdist.context import current_task, current_worker
from fastdist.errors import Reschedule, TaskInterrupted, TooManyThreadsError
from fastdist.protocol.failures import dump_failure
from fastdist.protocol.functions import load_function
from fastdist.worker.interrupting import timeout_of
from fastdist.worker.retrying import verdict_on

logger = logging.getLogger("fastdist.worker")

cdef enum:
    SPARE_THREADS = 8           # that outlive the waits for which they were started
    FAILURES_BIT = 2            # the upper bits of a record's flags count the earlier failures

cdef object THIS_FILE = "execution.pyx"


@cython.final
cdef class Function:
    """A function of tasks, loaded."""

    def __cinit__(self, object call):
        self.call = call
        self.is_coroutine = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
            getattr(type(call), "__call__", None)
        )


@cython.final
cdef class Task(Attempt):
    """The task that a thread or a coroutine executes; between tasks `key` is None."""

    def __cinit__(self, Execution execution, uint32_t place, object worker):
        self.execution = execution
        self.place = place
        self.record = NULL
        self.worker = worker
        self.thread = 0

    def give_slot_back(self) -> bool:
        """Let other tasks execute, until `take_slot`; False where there is nothing to give: see `context.blocking`.

        Raises
        ------
        TooManyThreadsError
            If the worker may start no more threads.
        """
        if self.record == NULL or (self.thread and self.thread != get_ident()):
            return False
        if self.depth == 0 and not self.seceded:
            self.go_out(False)
        self.depth += 1
        return True

    def take_slot(self) -> None:
        """Undo `give_slot_back`: wait for a slot; a coroutine takes one at once."""
        if self.depth == 0:
            return
        self.depth -= 1
        if self.depth == 0 and not self.seceded:
            self.come_back()

    def secede(self) -> None:
        """Execute without a slot from now on.

        Raises
        ------
        TooManyThreadsError
            If the worker may start no more threads.
        """
        if self.record == NULL or self.seceded:
            return
        if self.depth == 0:
            self.go_out(True)
        else:
            slots.leave_slot(self.execution.core, self.record, True, clock())
        self.seceded = True

    def rejoin(self) -> None:
        """Undo `secede`: wait for a slot."""
        if self.record == NULL or not self.seceded:
            return
        self.seceded = False
        if self.depth == 0:
            self.come_back()
        else:
            slots.leave_slot(self.execution.core, self.record, False, clock())

    cdef int go_out(self, bint seceded) except -1:
        if self.thread:
            self.execution.replace_thread()
        self.left_at = clock()
        # A task that only waits is not to blame for a death; one that seceded may be.
        if self.place < PLACES and not seceded:
            self.execution.page[3 + 2 * self.place] = 0
        slots.leave_slot(self.execution.core, self.record, seceded, self.left_at)
        self.execution.expect_relax(self.left_at)
        # What this task waits for may need what the open frame says.
        self.execution.flush()
        return 0

    cdef int come_back(self) except -1:
        cdef WorkerCore core = self.execution.core
        cdef bint at_once = self.thread == 0
        with nogil:
            slots.take_slot(core, self.record, at_once, clock())
        if self.place < PLACES:
            self.execution.page[3 + 2 * self.place] = busy_word(self.record)
        self.note_back()
        return 0

    cdef void note_back(self) noexcept:
        self.waited += clock() - self.left_at
        if self.thread:
            self.execution.n_out -= 1

    cdef double end(self) noexcept:
        """The execution is over; the seconds of it without a slot."""
        cdef double waited
        if self.depth or self.seceded:
            self.note_back()
        waited = self.waited
        self.record = NULL
        self.waited = 0
        self.depth = 0
        self.seceded = False
        self.stopped = 0
        self.deadline = 0
        return waited

    @property
    def task_id(self) -> int:
        """Id of the task within the scheduler's epoch."""
        return 0 if self.record == NULL else self.record.task_id

    @property
    def attempt(self) -> int:
        """Which attempt of the task this is."""
        return 0 if self.record == NULL else self.record.attempt

    @property
    def key(self) -> object:
        """Key of the task."""
        return None if self.record == NULL else decode_key(key_of(self.execution.core, self.record.task_id))


@cython.final
cdef class Execution(Values):
    """Executes the tasks of one worker core.

    Parameters
    ----------
    core : WorkerCore
        Where tasks come from and results are reported.
    store : Store
        Where values are.
    send : callable
        Sends the body of a DONE frame; called from any thread, one at a time and in order.
    loop : asyncio event loop
        Runs coroutine functions and the timer.
    measure : callable
        Bytes that a value takes.
    worker : object, optional
        What `get_worker` returns inside of a task.
    by_reference : bool
        Whether the scheduler is in this process: then only immutable scalars are sent with the report, because
        everything else is passed by reference when it is asked for.
    inline_limit : int
        How many bytes a result has at most that is sent with the report.
    max_threads : int
        How many threads there are at most, with those of tasks that wait.
    page : ExecutingPage, optional
        Where the executing tasks are noted for whoever looks after a sudden death.
    comm : Comm, optional
        Where tasks come from: a thread that idles reads it itself.
    """

    def __cinit__(self, WorkerCore core, object store, *, object send, object loop, object measure, object worker=None,
                  bint by_reference=False, Py_ssize_t inline_limit=4096, int max_threads=1000, object page=None,
                  object comm=None):
        self.comm = comm
        self.worker = worker
        self.max_threads = max_threads
        self.n_threads = self.n_out = 0
        self.coroutines = set()
        self.threads = []
        self.stopper = Stopper(core, loop, self.report_overdue)

    def reconnect(self, object comm) -> None:
        """There is another connection to the scheduler, which threads may watch."""
        self.comm = comm

    # Threads

    def start_threads(self, uint32_t count, str name="fastdist-execution") -> None:
        """Start this many execution threads."""
        self.thread_name = name
        for _ in range(count):
            place = self.take_place()
            thread = threading.Thread(target=self.run_thread, args=(place,), name=f"{name}-{place}", daemon=True)
            self.n_threads += 1
            self.threads.append(thread)
            try:
                thread.start()
            except BaseException:
                self.end_thread(place, thread)
                raise

    def end_thread(self, uint32_t place, thread: threading.Thread) -> None:
        """Forget a thread that ends."""
        self.n_threads -= 1
        self.threads.remove(thread)
        self.free_place(place)

    cdef int replace_thread(self) except -1:
        """One more thread waits or seceded: there must be enough others to use all slots."""
        self.n_out += 1
        if self.n_threads - self.n_out >= <int>self.core.slots:
            return 0
        try:
            if self.n_threads >= self.max_threads:
                raise TooManyThreadsError(self.n_threads)
            self.start_threads(1, self.thread_name)
        except BaseException:
            self.n_out -= 1
            raise
        return 0

    def run_thread(self, uint32_t place) -> None:
        """Execute tasks until the core is closed: the body of an execution thread."""
        cdef Task task = Task(self, place, self.worker)
        task.thread = get_ident()
        current_task.set(task)
        current_worker.set(self.worker)
        self.stopper.attempts.add(task)
        try:
            self.run_tasks(task)
        finally:
            self.stopper.attempts.discard(task)

    cdef int run_tasks(self, Task task) except -1:
        cdef TaskRecord* record = NULL
        while True:
            if record == NULL:
                record = self.core.take()
            if record == NULL:
                self.flush()
                if self.n_threads - self.n_out > <int>self.core.slots + SPARE_THREADS:
                    self.end_thread(task.place, threading.current_thread())
                    return 0
                record = self.watch_connection()
            if record == NULL:
                with nogil:
                    record = self.core.wait()
                if record == NULL:
                    return 0
            record = self.execute(record, task)

    cdef TaskRecord* watch_connection(self) except? NULL:
        """Read the connection until there is a task; NULL at once if another thread reads it."""
        cdef TaskRecord* record
        cdef int bell = -1 if self.comm is None else self.comm.reader_descriptor()
        if bell < 0 or not slots.watch(self.core, bell):
            return NULL
        self.found = NULL
        try:
            self.comm.read_until(self.look, None)
        except Exception:
            # The event loop reads on; the task that may have been found must not be lost.
            logger.exception("an execution thread stopped reading the connection to the scheduler")
        finally:
            slots.unwatch(self.core)
        record = self.found
        self.found = NULL
        return record

    def look(self) -> bool:
        """Whether the thread that reads the connection has something else to do."""
        self.found = slots.look(self.core)
        return self.found != NULL or self.core.gate.closed

    cdef TaskRecord* execute(self, TaskRecord* record, Task task) except? NULL:
        """Execute one task; returns the next one, or NULL if there is none."""
        cdef Function function
        cdef tuple args
        cdef dict kwargs
        cdef double start = clock()
        cdef list inputs
        self.begin(record, task.place, start)
        task.record = record
        try:
            function = self.function_of(record.function_id)
            inputs = self.inputs_of(record)
            if inputs is None:
                self.end(task.place)
                task.end()
                self.core.give_up(record, DONE_RETRACTED, 0, clock())
                return NULL
            args, kwargs = decode_arguments(arguments_of(record), record.arguments_length, inputs)
            inputs = None
            if function.is_coroutine:
                self.end(task.place)
                task.end()
                self.hand_over(record, function, args, kwargs)
                return NULL
            if record.option_id:
                self.watch_time(record, task)
            task.in_call = True
            if task.stopped:
                raise TaskInterrupted()
            if kwargs is None:
                result = function.call(*args)
            else:
                result = function.call(*args, **kwargs)
        except BaseException as error:
            task.leave_call()
            self.end(task.place)
            if task.stopped:
                self.end_stopped(record, task, error, start)
            else:
                self.fail(record, error, start + task.end())
            return NULL
        task.leave_call()
        self.end(task.place)
        if task.stopped:
            self.end_stopped(record, task, None, start)
            return NULL
        return self.complete(record, result, start + task.end(), True)

    cdef TaskRecord* complete(self, TaskRecord* record, object result, double start, bint go_on) except? NULL:
        """Store and report the result of a task; returns the next task if there is one and `go_on`."""
        cdef TaskRecord* following = NULL
        cdef vector[uint8_t] payload
        cdef Py_ssize_t nbytes
        cdef uint32_t number
        cdef double now
        try:
            nbytes = self.measure(result)
            number = self.type_number(type(result))
            if record.flags & RUN_INLINE:
                self.encode(payload, result)
            self.keep(record.task_id, result, nbytes)
        except BaseException as error:
            self.fail(record, error, start)
            return NULL
        now = clock()
        if self.recorder is not None:
            self.recorder(record.task_id, start, now, nbytes, type(result))
        if not self.core.finish(record, nbytes, number, <float>(now - start), payload.data(), payload.size(), now,
                                &following if go_on else NULL):
            self.drop(record.task_id)
            self.core.discard(record, now)
            return NULL
        if self.rows_are_old(now):
            self.flush()
        return following

    # Tasks that are stopped

    cdef int watch_time(self, TaskRecord* record, Task task) except -1:
        """A task with options begins: they may limit its time."""
        cdef double seconds = timeout_of(self.core.options.get(record.option_id))
        if seconds:
            self.stopper.watch(task, seconds, clock())
        return 0

    cdef int end_stopped(self, TaskRecord* record, Task task, object error, double start) except -1:
        """The end of a task that was told to stop, whatever it made of that."""
        cdef double now = clock()
        overdue, task.error = task.error, None
        if task.stopped == OVERDUE:
            if error is not None and not isinstance(error, (TaskInterrupted, CancelledError)):
                overdue.__cause__ = error
            return self.fail(record, overdue, start + task.end())
        # If it has come back in the meantime, it starts over.
        start += task.end()
        self.core.give_up(record, DONE_RESCHEDULE, <float>(now - start), now)
        return 0

    def report_overdue(self, Task task) -> None:
        """Report the failure of a task that is overdue and does not end; its slot stays taken until it does."""
        cdef TaskRecord* record = task.record
        cdef uint64_t verdict = 0
        cdef bytes failure
        cdef double now = clock()
        error = task.error
        if record.option_id:
            verdict, error = verdict_on(
                self.core.options.get(record.option_id), error, (record.flags >> FAILURES_BIT) + 1
            )
        failure = dump_failure(error)
        if task.record == record and task.stopped == REPORTED:
            slots.fail_early(self.core, record, verdict, <float>task.timeout, <const uint8_t*><const char*>failure,
                             len(failure), now)
            self.flush()

    cdef int fail(self, TaskRecord* record, object error, double start) except -1:
        """Report what a task raised."""
        cdef double now = clock()
        cdef bytes failure
        cdef uint64_t verdict = 0
        if isinstance(error, Reschedule):
            self.core.give_up(record, DONE_RESCHEDULE, <float>(now - start), now)
            return 0
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename.endswith(THIS_FILE):
            traceback = traceback.tb_next
        error.__traceback__ = traceback
        if record.option_id:
            verdict, error = verdict_on(
                self.core.options.get(record.option_id), error, (record.flags >> FAILURES_BIT) + 1
            )
        failure = dump_failure(error)
        if self.recorder is not None:
            self.recorder(record.task_id, start, now, 0, None)
        self.core.fail(record, verdict, <float>(now - start), <const uint8_t*><const char*>failure, len(failure), now)
        return 0

    cdef Function function_of(self, uint32_t function_id):
        """The loaded function; it takes the place of its pickle in the core until the scheduler says to forget it."""
        function = self.core.functions.get(function_id)
        if type(function) is Function:
            return function
        if function is None:
            raise RuntimeError(f"the scheduler did not send function {function_id} before its first task")
        loaded = Function(load_function(function))
        if function_id in self.core.functions:
            self.core.functions[function_id] = loaded
        return loaded

    # Coroutines

    cdef int hand_over(self, TaskRecord* record, Function function, tuple args, dict kwargs) except -1:
        """Have the event loop run a coroutine function; it takes a slot of the core, but no thread."""
        cdef Task task = Task(self, self.take_place(), self.worker)
        task.record = record
        self.loop.call_soon_threadsafe(self.start_coroutine, task, function.call, args, kwargs or {})
        return 0

    def start_coroutine(self, Task task, function: object, args: tuple, kwargs: dict) -> None:
        """Start a coroutine function on the loop."""
        cdef double start = clock()
        self.begin(task.record, task.place, start)
        self.stopper.attempts.add(task)
        context = contextvars.copy_context()
        context.run(current_task.set, task)
        context.run(current_worker.set, self.worker)
        try:
            running = context.run(self.loop.create_task, context.run(function, *args, **kwargs))
        except BaseException as error:
            self.fail(self.end_coroutine(task, &start), error, start)
            self.flush()
            return
        task.coroutine = running
        if task.record.option_id:
            self.watch_time(task.record, task)
        self.coroutines.add(running)
        running.add_done_callback(lambda done: self.on_coroutine_done(task, done, start))

    def on_coroutine_done(self, Task task, done: object, double start) -> None:
        """Report what a coroutine returned or raised."""
        cdef TaskRecord* record
        self.coroutines.discard(done)
        task.coroutine = None
        if task.stopped:
            self.stopper.attempts.discard(task)
            record = task.record
            self.end(task.place)
            self.free_place(task.place)
            self.end_stopped(record, task, None if done.cancelled() else done.exception(), start)
            self.flush()
            return
        record = self.end_coroutine(task, &start)
        try:
            result = done.result()
        except BaseException as error:
            self.fail(record, error, start)
        else:
            self.complete(record, result, start, False)
        self.flush()

    cdef TaskRecord* end_coroutine(self, Task task, double* start) noexcept:
        """Give the place of a coroutine back; its waits are added to `start`."""
        cdef TaskRecord* record = task.record
        self.stopper.attempts.discard(task)
        self.end(task.place)
        self.free_place(task.place)
        start[0] += task.end()
        return record

    # Reports

    def executing(self) -> list:
        """(task id, identifier of its thread) of the tasks that execute now; on the event loop, the thread is 0."""
        threads = {thread.name.rpartition("-")[2]: thread.ident for thread in list(self.threads)}
        return [
            (self.running[place].record.task_id, threads.get(str(place), 0))
            for place in range(PLACES) if self.running[place].record != NULL
        ]

    # End

    def close(self) -> None:
        """(On the loop) Start nothing any more; threads end with the task that they execute."""
        self.core.close()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.timer_at = 0
        self.stopper.close()
        for coroutine in list(self.coroutines):
            coroutine.cancel()

    def join(self, timeout: float) -> bool:
        """Wait for the threads to end; False if one still executes a task after `timeout` seconds."""
        cdef double deadline = clock() + timeout
        for thread in list(self.threads):
            thread.join(max(0.0, deadline - clock()))
        return not any(thread.is_alive() for thread in list(self.threads))
