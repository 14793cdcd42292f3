"""The execution of tasks.

Each execution thread takes ready tasks from the worker core, one after the other: it loads the function, decodes the
arguments, calls, stores the result and appends a row to the open DONE frame. The event loop has no part in that. A
thread that finds no task sends what has gathered and sleeps without the GIL. While there is more to do, rows are sent
when the oldest is about a millisecond old: by the thread between two tasks, by a timer of the loop during a long one.

May import: `fastdist._core`, `fastdist.protocol`, `fastdist.context`, `fastdist.errors`.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.limits cimport LONG_MAX
from libc.math cimport INFINITY
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from fastdist._core.codec.frames cimport DONE_RESCHEDULE, DONE_RETRACTED
from fastdist._core.codec.values cimport decode_arguments, encode_into
from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport RUN_INLINE, TaskRecord, arguments_of, edges_of

import contextvars
import inspect
import threading

from fastdist._core.keys.canonical import decode_key
from fastdist._core.worker.inspect import key_of
from fastdist.context import current_task, current_worker
from fastdist.errors import CommClosedError, Reschedule
from fastdist.protocol.failures import dump_failure
from fastdist.protocol.functions import load_function
from fastdist.worker.store import SMALL_BYTES, DictStore, SplitStore

cdef enum:
    PLACES = 255                # of the page of executing tasks
    MAX_TYPES = 10_000          # types and names of types that are remembered
    FLUSH_BYTES = 1 << 20       # a frame is sent once its payloads are this large

cdef double FLUSH_AGE = 0.001       # a thread between two tasks sends rows that are older
cdef double TIMER_AGE = 0.0015      # the timer sends rows that are older
cdef double STARTED_AGE = 0.005     # a task that executes for longer is reported as started
cdef double SLACK = 0.0005          # a timer this much too late is left as it is

cdef uint64_t BUSY = <uint64_t>1 << 32
cdef list NO_INPUTS = []
cdef object THIS_FILE = "execution.pyx"


cdef inline double clock() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


@cython.final
cdef class Function:
    """A function of tasks, loaded."""

    def __cinit__(self, object call):
        self.call = call
        self.is_coroutine = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
            getattr(type(call), "__call__", None)
        )


@cython.final
cdef class Task:
    """The task that a thread or a coroutine executes; between tasks `key` is None."""

    def __cinit__(self, Execution execution, uint32_t place, object worker):
        self.execution = execution
        self.place = place
        self.record = NULL
        self.worker = worker

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
cdef class Execution:
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
    page : ExecutingPage, optional
        Where the executing tasks are noted for whoever looks after a sudden death.
    """

    def __cinit__(self, WorkerCore core, object store, *, object send, object loop, object measure, object worker=None,
                  bint by_reference=False, Py_ssize_t inline_limit=4096, object page=None):
        cdef uint32_t place
        self.core = core
        self.store = store
        self.values = store.values if type(store) in (DictStore, SplitStore) else None
        self.large = store.large if type(store) is SplitStore else (store if self.values is None else None)
        self.small = SMALL_BYTES if type(store) is SplitStore else <Py_ssize_t>LONG_MAX
        self.room = store.room if type(store) is SplitStore else <Py_ssize_t>LONG_MAX
        self.send = send
        self.loop = loop
        self.measure = measure
        self.worker = worker
        self.by_reference = by_reference
        self.inline_limit = inline_limit
        self.types = {}
        self.type_names = {}
        self.coroutines = set()
        self.threads = []
        self.timer_at = INFINITY
        self.page = self.own_page
        if page is not None:
            PyObject_GetBuffer(page.memory, &self.mapped, PyBUF_WRITABLE)
            self.is_mapped = True
            self.page = <uint64_t*>self.mapped.buf
        self.running.resize(PLACES)
        for place in range(PLACES):
            self.running[place].record = NULL
        self.free_places = list(range(PLACES - 1, -1, -1))

    def __dealloc__(self):
        self.release_page()

    def release_page(self) -> None:
        """Let go of the page of executing tasks, so that it can be closed."""
        if self.is_mapped:
            self.is_mapped = False
            self.page = self.own_page
            PyBuffer_Release(&self.mapped)

    # Threads

    def start_threads(self, uint32_t count, str name="fastdist-execution") -> None:
        """Start this many execution threads."""
        for _ in range(count):
            place = self.free_places.pop()
            thread = threading.Thread(target=self.run_thread, args=(place,), name=f"{name}-{place}", daemon=True)
            self.threads.append(thread)
            thread.start()

    def run_thread(self, uint32_t place) -> None:
        """Execute tasks until the core is closed: the body of an execution thread."""
        cdef Task task = Task(self, place, self.worker)
        cdef TaskRecord* record = NULL
        current_task.set(task)
        current_worker.set(self.worker)
        while True:
            if record == NULL:
                record = self.core.take()
            if record == NULL:
                self.flush()
                with nogil:
                    record = self.core.wait()
                if record == NULL:
                    return
            record = self.execute(record, task)

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
                task.record = NULL
                self.core.give_up(record, DONE_RETRACTED, 0, clock())
                return NULL
            args, kwargs = decode_arguments(arguments_of(record), record.arguments_length, inputs)
            inputs = None
            if function.is_coroutine:
                self.end(task.place)
                task.record = NULL
                self.hand_over(record, function, args, kwargs)
                return NULL
            if kwargs is None:
                result = function.call(*args)
            else:
                result = function.call(*args, **kwargs)
        except BaseException as error:
            self.end(task.place)
            task.record = NULL
            self.fail(record, error, start)
            return NULL
        self.end(task.place)
        task.record = NULL
        return self.complete(record, result, start, True)

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
        if not self.core.finish(record, nbytes, number, <float>(now - start), payload.data(), payload.size(), now,
                                &following if go_on else NULL):
            self.drop(record.task_id)
            self.core.discard(record, now)
            return NULL
        if self.rows_are_old(now):
            self.flush()
        return following

    cdef int fail(self, TaskRecord* record, object error, double start) except -1:
        """Report what a task raised."""
        cdef double now = clock()
        cdef bytes failure
        if isinstance(error, Reschedule):
            self.core.give_up(record, DONE_RESCHEDULE, <float>(now - start), now)
            return 0
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename.endswith(THIS_FILE):
            traceback = traceback.tb_next
        failure = dump_failure(error.with_traceback(traceback))
        self.core.fail(record, <float>(now - start), <const uint8_t*><const char*>failure, len(failure), now)
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

    def drop_values(self, list task_ids) -> None:
        """Take the values of tasks that the core has forgotten out of the store."""
        cdef uint64_t task_id
        for task_id in task_ids:
            self.drop(task_id)

    cdef list inputs_of(self, TaskRecord* record):
        """The values of the inputs; None if one has been freed since the task became ready."""
        cdef uint32_t i
        if record.n_inputs == 0:
            return NO_INPUTS
        try:
            return [self.value_of(edges_of(record)[i].task_id) for i in range(record.n_inputs)]
        except KeyError:
            return None

    cdef uint32_t type_number(self, type kind) except? 0:
        cdef PyObject* known = PyDict_GetItem(self.types, kind)
        if known != NULL:
            return <object>known
        return self.name_type(kind)

    def name_type(self, kind: type) -> int:
        """The number of a type; a new name is sent with the next DONE frame."""
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        number = self.type_names.get(name)
        if number is None:
            if len(self.type_names) >= MAX_TYPES:
                return 0
            number = self.type_names[name] = self.core.add_type(name.encode("utf-8", "backslashreplace"))
        if len(self.types) >= MAX_TYPES:
            self.types.clear()
        self.types[kind] = number
        return number

    def number_of(self, object value) -> int:
        """The number of the type of a value."""
        return self.type_number(type(value))

    cdef bint encode(self, vector[uint8_t]& out, object value) except -1:
        """Append the bytes of a result that may travel with its report."""
        if self.by_reference and not (
            value is None or type(value) in (bool, int, float, complex, str, bytes)
        ):
            return False
        return encode_into(out, value, self.inline_limit)

    cdef object value_of(self, uint64_t task_id):
        """A value of the store; KeyError if there is none."""
        cdef PyObject* value
        number = task_id
        if self.values is not None:
            value = PyDict_GetItem(self.values, number)
            if value != NULL:
                return <object>value
            if self.large is None:
                raise KeyError(number)
        return self.large.get(number)

    cdef int keep(self, uint64_t task_id, object value, Py_ssize_t nbytes) except -1:
        """What `put` of the store does, without a call for small values."""
        if self.values is not None and nbytes <= self.small and len(self.values) < self.room:
            self.values[task_id] = value
        else:
            self.store.put(task_id, value, nbytes)
        return 0

    cdef int drop(self, uint64_t task_id) except -1:
        number = task_id
        if self.values is not None:
            # The value goes when `value` does, after the dict is consistent again.
            value = self.values.pop(number, self)
            if value is not self or self.large is None:
                return 0
        self.large.drop(number)
        return 0

    # Coroutines

    cdef int hand_over(self, TaskRecord* record, Function function, tuple args, dict kwargs) except -1:
        """Have the event loop run a coroutine function; it takes a slot of the core, but no thread."""
        cdef Task task = Task(self, self.free_places.pop() if self.free_places else PLACES, self.worker)
        task.record = record
        self.loop.call_soon_threadsafe(self.start_coroutine, task, function.call, args, kwargs or {})
        return 0

    def start_coroutine(self, Task task, function: object, args: tuple, kwargs: dict) -> None:
        """Start a coroutine function on the loop."""
        start = clock()
        self.begin(task.record, task.place, start)
        context = contextvars.copy_context()
        context.run(current_task.set, task)
        context.run(current_worker.set, self.worker)
        try:
            running = context.run(self.loop.create_task, context.run(function, *args, **kwargs))
        except BaseException as error:
            self.end_coroutine(task)
            self.fail(task.record, error, start)
            self.flush()
            return
        self.coroutines.add(running)
        running.add_done_callback(lambda done: self.on_coroutine_done(task, done, start))

    def on_coroutine_done(self, Task task, done: object, start: float) -> None:
        """Report what a coroutine returned or raised."""
        self.coroutines.discard(done)
        self.end_coroutine(task)
        try:
            result = done.result()
        except BaseException as error:
            self.fail(task.record, error, start)
        else:
            self.complete(task.record, result, start, False)
        self.flush()

    def end_coroutine(self, Task task) -> None:
        """Give the place of a coroutine back."""
        self.end(task.place)
        if task.place < PLACES:
            self.free_places.append(task.place)

    # Reports

    cdef int begin(self, TaskRecord* record, uint32_t place, double now) except -1:
        """Note what executes where, and see to it that the loop's timer looks in time."""
        cdef double needed
        if place < PLACES:
            self.page[2 + 2 * place] = record.task_id
            self.page[3 + 2 * place] = BUSY | record.attempt
            self.running[place].record = record
            self.running[place].start = now
            self.running[place].reported = False
        needed = self.core.oldest_row + TIMER_AGE if self.core.oldest_row else now + STARTED_AGE
        if self.timer_at > needed + SLACK:
            self.arm_from_thread(needed)
        return 0

    cdef void end(self, uint32_t place) noexcept:
        if place < PLACES:
            self.page[3 + 2 * place] = 0
            self.running[place].record = NULL

    cdef bint rows_are_old(self, double now) noexcept:
        return self.core.oldest_row != 0 and (
            now - self.core.oldest_row > FLUSH_AGE or self.core.done_size() > FLUSH_BYTES
        )

    def flush(self) -> None:
        """Send the open DONE frame from this thread; if another thread is at it, it sends these rows too."""
        self.flush_again = True
        if self.flushing:
            return
        self.flushing = True
        try:
            while self.flush_again:
                self.flush_again = False
                body = self.core.take_done()
                if body is not None:
                    self.send(body)
        except CommClosedError:
            # The owner of the connection is told by it; rows have nowhere to go until it is back.
            pass
        finally:
            self.flushing = False

    cdef int arm_from_thread(self, double when) except -1:
        self.timer_at = when
        try:
            self.loop.call_soon_threadsafe(self.arm)
        except RuntimeError:
            # The loop is closed: nobody is left to report to.
            self.timer_at = 0
        return 0

    def arm(self) -> None:
        """(On the loop) Set the timer to the time that a thread asked for."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_later(max(0.0, self.timer_at - clock()), self.tick)

    def expect_work(self) -> None:
        """(On the loop) Tasks have come: set the timer, so that no thread has to ask for it."""
        if self.timer_at == INFINITY:
            self.timer_at = clock() + TIMER_AGE
            self.arm()

    def tick(self) -> None:
        """(On the loop) Report tasks that execute for long, and send rows that are old."""
        cdef double now = clock()
        cdef uint32_t place
        cdef Running* running
        self.timer = None
        for place in range(PLACES):
            running = &self.running[place]
            if running.record != NULL and not running.reported and now - running.start >= STARTED_AGE:
                running.reported = True
                self.core.note_started(running.record, now)
        if self.core.oldest_row and now - self.core.oldest_row >= TIMER_AGE - SLACK:
            self.flush()
        self.timer_at = self.next_tick()
        if self.timer_at != INFINITY:
            self.arm()

    cdef double next_tick(self) noexcept:
        cdef double when = INFINITY
        cdef uint32_t place
        if self.core.oldest_row:
            when = self.core.oldest_row + TIMER_AGE
        for place in range(PLACES):
            if self.running[place].record != NULL and not self.running[place].reported:
                when = min(when, self.running[place].start + STARTED_AGE)
        return when

    # End

    def close(self) -> None:
        """(On the loop) Start nothing any more; threads end with the task that they execute."""
        self.core.close()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.timer_at = 0
        for coroutine in list(self.coroutines):
            coroutine.cancel()

    def join(self, timeout: float) -> bool:
        """Wait for the threads to end; False if one still executes a task after `timeout` seconds."""
        cdef double deadline = clock() + timeout
        for thread in self.threads:
            thread.join(max(0.0, deadline - clock()))
        return not any(thread.is_alive() for thread in self.threads)
