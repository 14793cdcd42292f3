# The queue of ready tasks that are not bound to a worker.
cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libcpp.map cimport map
from libcpp.pair cimport pair
from libcpp.vector cimport vector

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord

cdef struct Loose:
    double priority
    uint64_t rank
    uint64_t id


cdef struct Span:
    uint32_t begin
    uint32_t end


cdef cppclass Run:
    double priority
    uint64_t rank              # submission << 32 | order of its first task
    vector[uint64_t] ids       # by order
    vector[Span] returned      # claims given back
    uint32_t cursor            # ids before it are claimed or served
    uint32_t unserved          # ids not served yet, claimed or not


ctypedef pair[double, pair[uint64_t, uint64_t]] RunKey

cdef extern from *:
    """
    template <typename Iterator> static inline Iterator fastdist_next(Iterator position) { return ++position; }
    """
    map[RunKey, Run].iterator next_of "fastdist_next" (map[RunKey, Run].iterator position)


@cython.final
cdef class ReadyQueue:
    cdef Model model
    cdef map[RunKey, Run] runs
    cdef vector[Loose] loose
    cdef vector[uint32_t] claimers
    cdef uint64_t next_serial
    cdef readonly uint64_t size        # an upper bound: tasks that are no longer READY are dropped when they come up

    cdef int push(self, double priority, uint64_t rank, uint64_t id) except -1
    cdef int push_run(self, double priority, uint64_t rank, vector[uint64_t]& ids) except -1
    cdef uint64_t next_for(self, WorkerRecord worker) except? 0
    cdef int take(self, WorkerRecord worker) except -1
    cdef uint64_t _pop_loose(self) noexcept nogil
    cdef bint _loose_first(self) noexcept
    cdef uint64_t _next_of_run(self, WorkerRecord worker) except? 0
    cdef int _claim(self, WorkerRecord worker, Run* run, uint64_t serial) except -1
    cdef WorkerRecord _claimer_of(self, uint64_t serial)
    cdef int give_back(self, WorkerRecord worker) except -1
