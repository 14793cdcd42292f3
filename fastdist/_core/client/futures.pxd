# The client's futures (docs/wire.md, STATE and RELEASE).
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.client.slots cimport Slot, SlotTable
from fastdist._core.codec.frames cimport ColumnReader

cdef enum:
    MAX_TYPE_NAMES = 4096


cdef struct StateRows:
    # The columns of a STATE frame (docs/wire.md).
    uint64_t n
    const uint64_t* ids
    const uint8_t* status
    const uint64_t* sizes
    const uint32_t* types
    const uint32_t* offsets
    const uint8_t* payloads


cdef class FutureTable(SlotTable):
    cdef list waiters
    cdef list type_names
    cdef dict type_numbers
    cdef readonly dict errors       # id -> what the shell made of the error payload
    cdef readonly type future_type
    cdef public object client
    cdef public object open_batch   # the TaskBatch whose frame is open

    cdef int read_state(self, ColumnReader reader, StateRows* rows, vector[uint32_t]& numbers) except -1
    cdef void apply_state(self, StateRows* rows, const vector[uint32_t]& numbers) noexcept nogil
    cdef uint32_t type_number(self, str name) except? 0xFFFFFFFE
    cdef FutureSlot make_future(self, uint64_t id)
    cdef object decode(self, Slot* slot)
    cdef list take_watched(self)
    cdef int fire_waiters(self) except -1
    cdef Slot* checked_slot(self, object item) except? NULL


@cython.no_gc
cdef class FutureSlot:
    cdef readonly FutureTable table
    cdef readonly uint64_t id
    cdef bytes kept_key             # set when this object gave its reference up
    cdef object __weakref__

    cdef Slot* live_slot(self) noexcept


cdef class Waiter:
    cdef FutureTable table
    cdef vector[uint64_t] ids
    cdef size_t position            # all ids before it were done when it passed them
    cdef object notify
    cdef bint stop_on_failure
    cdef uint64_t failures_seen
    cdef readonly bint done
    cdef readonly bint failed

    cdef bint advance(self) noexcept nogil
