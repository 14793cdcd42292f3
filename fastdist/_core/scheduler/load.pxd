# The load of each worker, and a heap of those that run.
#
# May cimport: the records of workers.
cimport cython
from libc.stdint cimport int32_t, uint32_t
from libcpp.vector cimport vector

from fastdist._core.scheduler.parties cimport WorkerRecord


cdef struct Place:
    double rank
    uint32_t worker            # number


@cython.final
cdef class LoadHeap:
    cdef vector[Place] heap            # running workers, least loaded first
    cdef vector[int32_t] positions     # by worker number, -1 = not in the heap
    cdef vector[double] seconds        # by worker number: booked per thread
    cdef vector[double] ranks          # by worker number: below 0 while a thread is free, else `seconds`

    # To be called after every change of what the worker has to do, or of whether it runs.
    cdef int update(self, WorkerRecord worker) except -1
    cdef void _remove(self, uint32_t number) noexcept nogil
    cdef void _settle(self, uint32_t position, Place moved) noexcept nogil
    cdef void _put(self, uint32_t position, Place place) noexcept nogil
