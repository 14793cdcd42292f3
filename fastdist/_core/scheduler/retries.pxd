# What is known of tasks that raised and are tried again: until when each waits, and which worker it shall not go to.
cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libcpp.pair cimport pair
from libcpp.queue cimport priority_queue
from libcpp.unordered_map cimport unordered_map

# What a worker says of a failure in the size column of its ERRED row; 0 leaves it to the number of retries alone.
cdef enum:
    FINAL = 1                  # the policy of the task does not try it again
    ELSEWHERE_BIT = 62         # with AGAIN: not on this worker, if there is another one
    AGAIN_BIT = 63             # try again after the microseconds in the lower bits


cdef struct RetryNote:
    double due                 # it waits until then; < 0 if it does not wait
    uint32_t avoid             # worker that it shall not go to, or NONE


@cython.final
cdef class RetryNotes:
    cdef unordered_map[uint64_t, RetryNote] notes
    cdef priority_queue[pair[double, uint64_t]] waiting    # (-due, id); those of which the note differs mean nothing
    cdef double now                                        # of the event that is applied

    cdef int add(self, uint64_t id, double seconds, uint32_t avoid) except -1
    cdef int hold(self, uint64_t id, double until) except -1
    cdef void end_wait(self, uint64_t id) noexcept
    cdef void forget(self, uint64_t id) noexcept
    cdef bint waits(self, uint64_t id) noexcept
    cdef double due(self, uint64_t id) noexcept
    cdef uint32_t avoided(self, uint64_t id) noexcept
    cdef uint64_t take_due(self, double now) noexcept
    cdef double next_due(self) noexcept
