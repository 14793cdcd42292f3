# Tasks that are told to stop while they execute.
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.worker.model cimport TaskRecord

cdef extern from "Python.h":
    int PyThreadState_SetAsyncExc(unsigned long thread, PyObject* exception)

cdef enum:
    INTERRUPTED = 1             # nobody wants the task any more
    OVERDUE = 2                 # it executes for longer than its timeout
    REPORTED = 3                # and the scheduler was told, although it still executes


cdef class Attempt:
    cdef TaskRecord* record             # NULL between tasks
    cdef unsigned long thread           # that executes it; 0 = the loop does
    cdef bint in_call                   # between the marks: the code of the user executes
    cdef bint raising                   # an exception was set in the thread and may not have been raised yet
    cdef uint8_t stopped
    cdef double deadline                # 0 = none
    cdef double timeout
    cdef object coroutine               # the asyncio task that executes it
    cdef object error                   # what it fails with, once it is overdue

    cdef inline void leave_call(self) noexcept:
        # The end mark. What was set and not raised goes here, with the GIL held all the time: the next task never
        # sees it.
        self.in_call = False
        if self.raising:
            self.raising = False
            PyThreadState_SetAsyncExc(self.thread, NULL)


cdef class Stopper:
    cdef readonly set attempts
    cdef object loop
    cdef object core
    cdef object report                  # is called with an Attempt that is overdue and does not listen
    cdef object timer
    cdef double due                     # when the timer looks

    cdef int watch(self, Attempt attempt, double seconds, double now) except -1
    cdef int interrupt(self, Attempt attempt, uint8_t why) except -1
    cdef int over(self, Attempt attempt) except -1
