"""Slots that executing tasks give back and take again, and what the scheduler is told of it.

For execution threads and the event loop; each call locks, none needs the GIL. May import: the worker core.
"""

from libc.stdint cimport uint8_t, uint64_t

from fastdist._core.codec.frames cimport DONE_ERRED, DONE_STARTED
from fastdist._core.worker.model cimport EXECUTING


cdef void note_started(WorkerCore core, TaskRecord* record, double now) noexcept nogil:
    """Report that the task has been executing for some time."""
    core.gate.lock()
    if not record.forgotten:
        core.report(record.task_id, record.attempt, DONE_STARTED, 0, 0, 0, NULL, 0, now)
    core.gate.unlock()


cdef void leave_slot(WorkerCore core, TaskRecord* record, bint seceded, double now) noexcept nogil:
    """The task waits for something, or seceded: others may use its slot."""
    cdef int called
    core.gate.lock()
    core.away.leave(record, seceded, now)
    core.report_away(record, now)
    called = core._claim()
    core.gate.unlock()
    core.gate.call(called)


cdef void take_slot(WorkerCore core, TaskRecord* record, bint at_once, double now) noexcept nogil:
    """The task goes on: sleeps until there is a slot for it, unless `at_once`. Never call it with the GIL."""
    cdef int called
    core.gate.lock()
    if record.away:
        core.away.returning.push_back(record)
        while not at_once and not core.gate.closed and not (
            core.counts[<int>EXECUTING] - core.away.n_away < core.slots and core.away.is_next(record)
        ):
            core.gate.sleep_returning()
        core.away.come_back(record)
        core.report_away(record, now)
    called = core._claim()
    core.gate.unlock()
    core.gate.call(called)


cdef void relax(WorkerCore core, double since) noexcept nogil:
    """Any task may use the slots of the tasks that have waited since then or longer."""
    cdef int called = 0
    core.gate.lock()
    if core.away.relax(since):
        called = core._claim()
    core.gate.unlock()
    core.gate.call(called)


cdef double waits_since(WorkerCore core) noexcept nogil:
    """Since when the first task waits that `relax` may apply to; infinity if there is none."""
    cdef double since
    core.gate.lock()
    since = core.away.oldest()
    core.gate.unlock()
    return since


cdef bint fail_early(WorkerCore core, TaskRecord* record, uint64_t verdict, float seconds, const uint8_t* payload,
                     size_t length, double now) noexcept nogil:
    """Report the failure of a task that goes on executing: whatever it brings is not wanted, but it keeps its slot."""
    cdef bint reported = False
    core.gate.lock()
    if record.state == EXECUTING and not record.forgotten:
        reported = True
        core.report(record.task_id, record.attempt, DONE_ERRED, verdict, seconds, 0, payload, length, now)
        # In this order: the failure ends the task for the scheduler, and its thread is taken all the same.
        core.report(record.task_id, record.attempt, DONE_STARTED, 0, 0, 0, NULL, 0, now)
        record.forgotten = True
        core.count_given(record)
        core.give_back_waiters(record, now)
    core.gate.unlock()
    return reported


cdef bint watch(WorkerCore core, int descriptor) noexcept nogil:
    """The calling thread, which idles, watches the connection; it is called by a write to the descriptor."""
    cdef bint watches
    core.gate.lock()
    watches = core.gate.watch(descriptor)
    core.gate.unlock()
    return watches


cdef TaskRecord* look(WorkerCore core) noexcept nogil:
    """(The thread that watches) The next task, or NULL; what comes later rings."""
    cdef TaskRecord* record
    core.gate.lock()
    core.gate.rung = False
    record = core._start()
    core.gate.unlock()
    return record


cdef void unwatch(WorkerCore core) noexcept nogil:
    """The thread watches no longer."""
    core.gate.lock()
    core.gate.watching = False
    core.gate.unlock()
