# Batches of tasks on their way to the scheduler (docs/wire.md, TASKS).
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.client.futures cimport FutureSlot, FutureTable
from fastdist._core.codec.frames cimport ColumnWriter

cdef enum:
    MAX_ROWS = 10000                    # tasks of one TASKS frame
    FRAME_MARGIN = 1 << 16              # for everything but the key and the arguments of a frame with one task
    NONE = 0xFFFFFFFF                   # no function, no options, not in this frame

cdef enum:
    ROW_WANTED = 1                      # a Future exists
    ROW_INLINE = 2                      # the result may travel inline


cdef class TaskBatch:
    cdef readonly FutureTable table
    cdef ColumnWriter writer
    cdef object send
    cdef object is_new_function         # hash -> whether its pickle has to travel; asked under the lock
    cdef object lock                    # held while a frame is open
    cdef object make_room
    cdef object encode_fallback         # for arguments that the compiled encoding does not know
    cdef uint64_t submission
    cdef uint64_t fifo_timeout
    cdef public bint nested             # a task makes this submission: newer ones go first
    cdef uint64_t max_bytes
    cdef uint64_t limit
    cdef uint64_t frame_bytes           # keys, arguments and functions of the open frame
    cdef uint64_t first_id              # of the open frame; 0: no frame is open
    cdef uint64_t reserved              # ids of the open frame
    cdef uint32_t rows
    cdef uint32_t order                 # of the next row inside the submission
    cdef bint explicit_order
    cdef bint explicit_options
    cdef bint explicit_flags
    cdef bint closed
    cdef readonly uint64_t frames
    cdef list functions                 # (hash, payload) of each
    cdef dict function_numbers          # by hash
    cdef vector[uint32_t] function_places   # in the open frame
    cdef list frame_functions
    cdef list options                   # packed maps
    cdef vector[uint32_t] option_places
    cdef list frame_options
    cdef vector[uint64_t] pinned        # inputs that are held until the frame is out
    cdef vector[uint8_t] staging        # the encoded arguments of the next row
    cdef vector[uint64_t] inputs        # and its dependencies

    cpdef FutureSlot add(
        self, bytes key, uint32_t function, tuple args, dict kwargs=*, uint32_t option=*, uint64_t expected=*
    )
    cdef int open_frame(self, uint64_t expected) except -1
    cdef int close_frame(self) except -1
    cdef int flush(self, bint last) except -1
    cdef void cancel_rows(self, uint64_t first, uint64_t end) noexcept
    cdef void spend_unwanted(self) noexcept
    cdef bytes build(self, bint last)
    cdef int take_inputs(self, list references) except -1
    cdef int stage(self, tuple args, dict kwargs, list references) except -1
    cdef uint64_t put_row(
        self, const uint8_t* key, uint32_t key_length, uint32_t function, uint32_t option, uint8_t flags,
        uint64_t expected, bint* is_new,
    ) except 0
    cdef int check_size(self, uint32_t key_length, uint32_t function) except -1
    cdef uint32_t place_of(self, vector[uint32_t]& places, uint32_t number, list source, list target) except? 0xFFFFFFFE
