"""The frames that a worker receives, checked whole before anything changes.

docs/wire.md says what the columns mean. May import: the codec.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t

from fastdist._core.codec.frames cimport ColumnReader


cdef int read_run(ColumnReader reader, RunColumns* columns) except -1:
    """Check the columns of the tasks in a RUN frame; FrameError says which is wrong."""
    cdef uint64_t rows = reader.n_rows
    cdef uint64_t inputs = reader.length_of(11, 8)
    columns.rows = reader.n_rows
    columns.task_ids = <const uint64_t*>reader.fixed(1, rows, 8)
    columns.attempts = <const uint32_t*>reader.fixed(2, rows, 4)
    columns.functions = <const uint32_t*>reader.fixed(3, rows, 4)
    columns.priorities = <const double*>reader.fixed(4, rows, 8)
    columns.orders = <const uint64_t*>reader.fixed(5, rows, 8)
    columns.key_ends = reader.offsets(6, 7, rows)
    columns.keys = reader.starts[7]
    columns.argument_ends = reader.offsets(8, 9, rows)
    columns.arguments = reader.starts[9]
    columns.input_ends = reader.index_offsets(10, rows, inputs)
    columns.inputs = <const uint64_t*>reader.starts[11]
    columns.input_sizes = <const uint64_t*>reader.fixed(12, inputs, 8)
    columns.holder_ends = reader.index_offsets(13, inputs, reader.length_of(14, 4))
    columns.holders = <const uint32_t*>reader.starts[14]
    columns.flags = reader.fixed(15, rows, 1)
    columns.options = <const uint32_t*>reader.fixed(16, rows, 4)
    return 0


cdef dict read_pieces(ColumnReader reader, uint32_t first):
    """Number -> bytes, from three columns: numbers, offsets, bytes."""
    cdef uint64_t count = reader.length_of(first, 4)
    cdef const uint32_t* numbers = <const uint32_t*>reader.starts[first]
    cdef const uint32_t* ends = reader.offsets(first + 1, first + 2, count)
    cdef const char* pieces = <const char*>reader.starts[first + 2]
    cdef uint64_t i
    return {numbers[i]: PyBytes_FromStringAndSize(pieces + ends[i], ends[i + 1] - ends[i]) for i in range(count)}
