# The frames that a worker receives: their columns, checked.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.codec.frames cimport ColumnReader

cdef enum:
    RUN_COLUMNS = 26
    FREE_COLUMNS = 4

# The checked columns of one RUN frame.
cdef struct RunColumns:
    uint32_t rows
    const uint64_t* task_ids
    const uint32_t* attempts
    const uint32_t* functions
    const double* priorities
    const uint64_t* orders
    const uint32_t* key_ends
    const uint8_t* keys
    const uint32_t* argument_ends
    const uint8_t* arguments
    const uint32_t* input_ends
    const uint64_t* inputs
    const uint64_t* input_sizes
    const uint32_t* holder_ends
    const uint32_t* holders
    const uint8_t* flags
    const uint32_t* options


cdef int read_run(ColumnReader reader, RunColumns* columns) except -1
cdef dict read_pieces(ColumnReader reader, uint32_t first)
