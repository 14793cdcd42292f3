# What executes where, and when the scheduler hears of it.
from libc.stdint cimport uint32_t, uint64_t
from libcpp.vector cimport vector
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport TaskRecord

cdef enum:
    PLACES = 255                # of the page of executing tasks


cdef inline uint64_t busy_word(TaskRecord* record) noexcept nogil:
    # What the page says of a place on which this task executes.
    return <uint64_t>1 << 32 | record.attempt


cdef inline double clock() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


# What one place (a thread, or a coroutine on the loop) executes.
cdef struct Running:
    TaskRecord* record
    double start
    bint reported


cdef class Reports:
    cdef readonly WorkerCore core
    cdef object send
    cdef object loop
    cdef list free_places               # of the page
    cdef vector[Running] running
    cdef uint64_t* page
    cdef uint64_t own_page[512]
    cdef Py_buffer mapped
    cdef bint is_mapped
    cdef bint flushing
    cdef bint flush_again
    cdef double timer_at
    cdef object timer

    cdef uint32_t take_place(self) except? 0xFFFFFFFF
    cdef void free_place(self, uint32_t place) noexcept
    cdef int begin(self, TaskRecord* record, uint32_t place, double now) except -1
    cdef void end(self, uint32_t place) noexcept
    cdef bint rows_are_old(self, double now) noexcept
    cdef int arm_from_thread(self, double when) except -1
    cdef int expect_relax(self, double now) except -1
    cdef double next_tick(self) noexcept
