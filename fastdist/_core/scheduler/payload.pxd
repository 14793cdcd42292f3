# Where the bytes of keys and arguments lie: segments that are compacted when most of one is dead.
#
# May cimport: the record of a task, the key table.
cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libcpp.vector cimport vector

from fastdist._core.keys.table cimport KeyTable
from fastdist._core.scheduler.records cimport Slab, Task

cdef enum:
    SEGMENT_BYTES = 1 << 16
    ENTRY_HEADER = 12

# Payload segment: entries of [slot, key length, arguments length] as uint32, then key and arguments, padded to 4.
cdef struct Segment:
    uint8_t* data
    uint32_t used
    uint32_t capacity
    uint32_t live              # bytes of entries whose task still points at them


# Where the key table finds the bytes of a key.
cdef struct KeyPlace:
    vector[Slab]* slabs
    vector[Segment]* segments


@cython.final
cdef class Payload:
    cdef vector[Segment] segments
    cdef vector[uint32_t] free_segments
    cdef uint32_t current_segment
    cdef KeyPlace key_place            # borrows the slabs of the owner

    # Must be called once, before anything else; the slabs must stay valid as long as the table is used.
    cdef int bind(self, vector[Slab]* slabs, KeyTable keys) except -1

    cdef inline const uint8_t* key_bytes(self, Task* task, uint32_t* length) noexcept nogil:
        cdef uint8_t* entry = self.segments[task.segment].data + task.offset
        length[0] = (<uint32_t*>entry)[1]
        return entry + ENTRY_HEADER

    cdef inline const uint8_t* argument_bytes(self, Task* task, uint32_t* length) noexcept nogil:
        cdef uint8_t* entry = self.segments[task.segment].data + task.offset
        length[0] = (<uint32_t*>entry)[2]
        return entry + ENTRY_HEADER + (<uint32_t*>entry)[1]

    cdef int store(self, uint32_t slot, const uint8_t* key, uint32_t key_length,
                   const uint8_t* arguments, uint32_t arguments_length) except -1
    cdef void drop(self, Task* task) noexcept
    cdef int compact(self, uint32_t number) except -1
    cdef int open_segment(self, uint32_t size) except -1
    cdef int _tidy_segment(self, uint32_t number) except -1
    cdef void _free_segment(self, uint32_t number) noexcept
