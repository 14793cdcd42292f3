# What has to be fetched from other workers, and from whom.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp.deque cimport deque
from libcpp.unordered_map cimport unordered_map
from libcpp.unordered_set cimport unordered_set
from libcpp.vector cimport vector


# What tasks say that go back because no holder of an input was reached: again after 0.1 s, on another worker.
cdef uint64_t UNREACHED_VERDICT

cdef bint contains(vector[uint32_t]& numbers, uint32_t number) noexcept nogil


cdef cppclass Want:
    uint64_t nbytes
    vector[uint32_t] untried
    vector[uint32_t] failed
    vector[uint32_t] unreached             # of the failed, those that did not say that they have not the input


cdef class FetchPlan:
    cdef unordered_map[uint64_t, Want] wants
    cdef unordered_map[uint32_t, deque[uint64_t]] queues
    cdef vector[uint32_t] peers             # those with a queue, in the order in which they were first named
    cdef unordered_set[uint32_t] busy
    cdef readonly uint32_t max_peers
    cdef readonly uint64_t max_bytes

    cdef void add(self, uint64_t task_id, uint64_t nbytes, const uint32_t* holders, size_t n) noexcept nogil
    cdef void drop(self, uint64_t task_id) noexcept nogil
    cdef bint obtainable(self, uint64_t task_id) noexcept nogil
    cdef bint exclude(self, uint64_t task_id, uint32_t peer, bint reached) noexcept nogil
    cdef void requeue(self, uint64_t task_id) noexcept nogil
    cdef int64_t next_peer(self) noexcept nogil
    cdef bint next_of(self, uint32_t peer, uint64_t* task_id, uint64_t* nbytes) noexcept nogil
    cdef void _queue(self, uint64_t task_id, uint32_t peer) noexcept nogil
