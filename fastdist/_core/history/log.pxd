# What happened to which task, in order, for those who listen; off unless somebody does.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector


cdef struct Change:
    uint64_t key_end           # in TransitionLog.keys; the key begins where the one before ends
    uint64_t nbytes
    uint32_t worker
    uint32_t type
    float seconds
    uint8_t start
    uint8_t finish


cdef class TransitionLog:
    cdef vector[Change] changes
    cdef vector[uint8_t] keys          # canonical key bytes, back to back
    cdef readonly uint64_t lost        # changes that found no room
    cdef uint64_t max_changes
    cdef uint64_t max_key_bytes

    cdef void note(self, const uint8_t* key, uint32_t key_length, uint8_t start, uint8_t finish, uint32_t worker,
                   uint64_t nbytes, uint32_t type, float seconds) noexcept nogil
    cdef void swap(self, TransitionLog other) noexcept nogil
    cdef list rows(self)
