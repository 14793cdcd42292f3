# The executing tasks that hold no slot: those that wait for something, and those that seceded.
from libc.stdint cimport uint32_t
from libcpp.vector cimport vector

from fastdist._core.worker.model cimport TaskRecord

# TaskRecord.away
cdef enum:
    HERE = 0            # it holds a slot
    WAITS = 1           # it waits, and only tasks that go before it may use its slot
    WAITS_LONG = 2      # it waits, and any task may use its slot
    SECEDED = 3         # it gave its slot up for good


cdef struct Waiting:
    TaskRecord* record
    double since


cdef class AwayTasks:
    cdef readonly uint32_t n_away
    cdef vector[Waiting] waiting            # those that are WAITS
    cdef vector[TaskRecord*] returning      # those that want a slot again
    cdef TaskRecord* floor                  # of those that are WAITS, the one that goes before all others

    cdef void leave(self, TaskRecord* record, bint seceded, double now) noexcept nogil
    cdef void come_back(self, TaskRecord* record) noexcept nogil
    cdef bint relax(self, double since) noexcept nogil
    cdef double oldest(self) noexcept nogil
    cdef bint is_next(self, TaskRecord* record) noexcept nogil
    cdef void _forget_waiting(self, TaskRecord* record) noexcept nogil
    cdef void _find_floor(self) noexcept nogil
