"""What executes where, and when the scheduler hears of it.

While there is more to do, rows are sent when the oldest is about a millisecond old: by the thread between two tasks, by
a timer of the loop during a long one. May import: `fastdist._core`, `fastdist.errors`.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY
from libc.stdint cimport uint32_t, uint64_t

from fastdist._core.worker cimport slots
from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport TaskRecord

from fastdist.errors import CommClosedError

cdef enum:
    FLUSH_BYTES = 1 << 20       # a frame is sent once its payloads are this large

cdef double FLUSH_AGE = 0.001       # a thread between two tasks sends rows that are older
cdef double TIMER_AGE = 0.0015      # the timer sends rows that are older
cdef double STARTED_AGE = 0.005     # a task that executes for longer is reported as started
cdef double GRACE = 0.02            # the slot of a task that waits for longer is there for any task
cdef double SLACK = 0.0005          # a timer this much too late is left as it is


cdef class Reports:
    """The places where tasks execute, the DONE frames and the timer of one worker; a part of `Execution`."""

    def __cinit__(self, WorkerCore core, object store, *, object send, object loop, object page=None, **of_execution):
        cdef uint32_t place
        self.core = core
        self.send = send
        self.loop = loop
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

    cdef uint32_t take_place(self) except? 0xFFFFFFFF:
        """The number of a free place; PLACES if all are taken, which is no place."""
        return self.free_places.pop() if self.free_places else PLACES

    cdef void free_place(self, uint32_t place) noexcept:
        if place < PLACES:
            self.free_places.append(place)

    def begun(self, uint64_t task_id) -> float | None:
        """When this task began to execute here, by the monotonic clock; None if it does not."""
        for place in range(PLACES):
            if self.running[place].record != NULL and self.running[place].record.task_id == task_id:
                return self.running[place].start
        return None

    cdef int begin(self, TaskRecord* record, uint32_t place, double now) except -1:
        """Note what executes where, and see to it that the loop's timer looks in time."""
        cdef double needed
        if place < PLACES:
            self.page[2 + 2 * place] = record.task_id
            self.page[3 + 2 * place] = busy_word(record)
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

    def between_flushes(self, call: object) -> bool:
        """Call while no thread flushes; False, without a call, if one is at it."""
        if self.flushing:
            return False
        self.flushing = True
        try:
            call()
        finally:
            self.flushing = False
        if self.flush_again:
            self.flush()
        return True

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

    cdef int expect_relax(self, double now) except -1:
        """A task waits from now on: see to it that the timer looks when it has done so for long."""
        if self.timer_at > now + GRACE + SLACK:
            self.arm_from_thread(now + GRACE)
        return 0

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
                slots.note_started(self.core, running.record, now)
        if self.core.oldest_row and now - self.core.oldest_row >= TIMER_AGE - SLACK:
            self.flush()
        slots.relax(self.core, now - GRACE + SLACK)
        self.timer_at = self.next_tick()
        if self.timer_at != INFINITY:
            self.arm()

    cdef double next_tick(self) noexcept:
        cdef double when = slots.waits_since(self.core) + GRACE
        cdef uint32_t place
        if self.core.oldest_row:
            when = min(when, self.core.oldest_row + TIMER_AGE)
        for place in range(PLACES):
            if self.running[place].record != NULL and not self.running[place].reported:
                when = min(when, self.running[place].start + STARTED_AGE)
        return when
