"""Stops tasks that execute: with an exception in their thread, or by cancelling their coroutine.

The exception is set only between two marks around the call of the user's function, and taken back at the second one
if it was not raised until then. All of that happens with the GIL held, so that it cannot hit another task. May import:
`fastdist._core`, `fastdist.errors`, `fastdist.worker.information`.
"""

from libc.math cimport INFINITY
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist.worker.reports cimport clock

import functools
import sys

import msgpack

from fastdist._core.keys.canonical import decode_key
from fastdist._core.worker.inspect import key_of
from fastdist.errors import TaskInterrupted, TaskTimeout
from fastdist.worker.information import stack_of

cdef double PATIENCE = 0.2      # seconds that an overdue task has to end before its failure is reported without it
cdef double SLACK = 0.001       # a timer this much too late is left as it is


@functools.lru_cache(maxsize=256)
def timeout_of(packed: bytes | None) -> float:
    """How many seconds a task with these options may execute; 0 = any."""
    return 0.0 if packed is None else float(msgpack.unpackb(packed).get("timeout") or 0.0)


cdef class Attempt:
    """What one thread, or one coroutine, executes, as far as it can be stopped."""


cdef class Stopper:
    """Stops what executes in one worker.

    Parameters
    ----------
    core : WorkerCore
        Knows the keys.
    loop : asyncio event loop
        Runs the coroutines, and the timer for timeouts.
    report : callable
        Called with an Attempt that is overdue and did not end within a moment.
    """

    def __cinit__(self, object core, object loop, object report):
        self.core = core
        self.loop = loop
        self.report = report
        self.attempts = set()
        self.due = INFINITY

    def executing(self, list tasks, list keys) -> list:
        """(task id, attempt) of those of the tasks, given as (task id, attempt), that execute.

        `keys` are canonical keys of further tasks: they count if the scheduler has let go of them.
        """
        return self._each(tasks, keys, False)

    def stop(self, list tasks, list keys) -> list:
        """Interrupt tasks that nobody wants any more; the arguments and what is returned are as of `executing`."""
        return self._each(tasks, keys, True)

    def _each(self, list tasks, list keys, bint stop) -> list:
        cdef Attempt attempt
        cdef set named = set(tasks)
        cdef set let_go = set(keys)
        chosen = []
        for attempt in list(self.attempts):
            if attempt.record == NULL:
                continue
            number = (attempt.record.task_id, attempt.record.attempt)
            if number in named or (
                let_go and attempt.record.forgotten and key_of(self.core, attempt.record.task_id) in let_go
            ):
                chosen.append(number)
                if stop and not attempt.stopped:
                    self.interrupt(attempt, INTERRUPTED)
        return chosen

    cdef int interrupt(self, Attempt attempt, uint8_t why) except -1:
        attempt.stopped = why
        if attempt.coroutine is not None:
            attempt.coroutine.cancel()
        elif attempt.in_call and attempt.thread:
            attempt.raising = True
            PyThreadState_SetAsyncExc(attempt.thread, <PyObject*>TaskInterrupted)
        return 0

    # Timeouts

    cdef int watch(self, Attempt attempt, double seconds, double now) except -1:
        """The attempt, which starts now, may execute for so long."""
        attempt.timeout = seconds
        attempt.deadline = now + seconds
        if attempt.deadline < self.due - SLACK:
            self.due = attempt.deadline
            try:
                self.loop.call_soon_threadsafe(self.arm)
            except RuntimeError:
                # The loop is closed, and with it the worker.
                self.due = -INFINITY
        return 0

    def arm(self) -> None:
        """(On the loop) Set the timer."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_later(max(0.0, self.due - clock()), self.tick)

    def tick(self) -> None:
        """(On the loop) Stop what is overdue."""
        cdef Attempt attempt
        cdef double now = clock()
        cdef double due = INFINITY
        self.timer = None
        self.due = INFINITY
        for attempt in list(self.attempts):
            if attempt.record == NULL or attempt.deadline == 0 or attempt.stopped == INTERRUPTED:
                continue
            if attempt.deadline <= now and attempt.stopped == OVERDUE:
                attempt.stopped = REPORTED
                self.report(attempt)
            elif attempt.deadline <= now and not attempt.stopped:
                self.over(attempt)
            if attempt.deadline and attempt.stopped != REPORTED:
                due = min(due, attempt.deadline)
        if due < self.due:
            self.due = due
            self.arm()

    cdef int over(self, Attempt attempt) except -1:
        """The time of an attempt is over: note where it is, and interrupt it."""
        cdef uint64_t task_id = attempt.record.task_id
        cdef uint32_t number = attempt.record.attempt
        key = decode_key(key_of(self.core, task_id))
        if attempt.coroutine is not None:
            stack = stack_of_coroutine(attempt.coroutine.get_coro())
        else:
            stack = stack_of(sys._current_frames().get(attempt.thread))
        # Meanwhile the thread may have gone on, even to another task.
        if attempt.record == NULL or attempt.record.task_id != task_id or attempt.record.attempt != number:
            return 0
        attempt.error = TaskTimeout(key, attempt.timeout, "\n".join(stack).replace("\n\t", "\n    "))
        attempt.deadline = clock() + PATIENCE
        return self.interrupt(attempt, OVERDUE)

    def close(self) -> None:
        """(On the loop) No timeout counts any more."""
        self.due = -INFINITY
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def stack_of_coroutine(coroutine: object) -> list:
    """The frames of a coroutine that waits, and of those that it waits for, outermost first."""
    lines = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            lines += stack_of(frame)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return lines
