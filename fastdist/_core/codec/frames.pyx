"""Columnar frames: a bounded reader and a growing writer.

A frame body is a table of columns (docs/wire.md). The reader borrows the buffer that it is given and checks every
length before anyone follows an offset; the writer keeps one growing buffer per column, so that the cost of a row is a
few copied words. Nothing here knows what a column means.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdist.errors import FrameError


@cython.final
cdef class ColumnReader:
    """Reads the columns of one frame body.

    Parameters
    ----------
    body : bytes-like
        The body of the frame. It is borrowed: the caller keeps it unchanged while the reader is used.
    expected_columns : int
        How many columns a frame of this kind has.

    Raises
    ------
    FrameError
        If the body is shorter than it claims, or does not have the expected columns.
    """

    def __cinit__(self, object body, uint32_t expected_columns):
        cdef Py_buffer view
        PyObject_GetBuffer(body, &view, PyBUF_SIMPLE)
        self.owner = body
        self.body = <const uint8_t*>view.buf
        self.body_length = view.len
        PyBuffer_Release(&view)
        self._read_table(expected_columns)

    cdef int _read_table(self, uint32_t expected_columns) except -1:
        cdef uint64_t position, length, end = <uint64_t>self.body_length
        cdef uint32_t column
        if self.body_length < 8:
            raise FrameError(f"a frame body of {self.body_length} bytes is too short for its header")
        memcpy(&self.n_columns, self.body, 4)
        memcpy(&self.n_rows, self.body + 4, 4)
        if self.n_columns != expected_columns or expected_columns > MAX_COLUMNS:
            raise FrameError(f"a frame has {self.n_columns} columns where {expected_columns} are expected")
        position = 8 + 8 * <uint64_t>self.n_columns
        if position > end:
            raise FrameError("a frame body ends inside its table of columns")
        for column in range(self.n_columns):
            memcpy(&length, self.body + 8 + 8 * column, 8)
            if length > end - position:
                raise FrameError(f"column {column} of a frame reaches beyond its end")
            self.starts[column] = self.body + position
            self.lengths[column] = length
            position += length
            position = (position + 7) & ~<uint64_t>7
            if position > end:
                if column + 1 != self.n_columns:
                    raise FrameError(f"column {column} of a frame reaches beyond its end")
                position = end
        if position != end:
            raise FrameError("a frame has bytes after its last column")
        return 0

    cdef const uint8_t* fixed(self, uint32_t column, uint64_t count, uint32_t width) except NULL:
        if self.lengths[column] != count * width:
            raise FrameError(
                f"column {column} of a frame has {self.lengths[column]} bytes where {count * width} are expected"
            )
        return self.starts[column]

    cdef const uint8_t* optional(self, uint32_t column, uint64_t count, uint32_t width) except? NULL:
        if self.lengths[column] == 0:
            return NULL
        return self.fixed(column, count, width)

    cdef const uint32_t* offsets(self, uint32_t column, uint32_t blob_column, uint64_t count) except NULL:
        return self.index_offsets(column, count, self.lengths[blob_column])

    cdef const uint32_t* index_offsets(self, uint32_t column, uint64_t count, uint64_t total) except NULL:
        cdef const uint32_t* offsets = <const uint32_t*>self.fixed(column, count + 1, 4)
        cdef uint64_t i
        cdef bint rising = True
        for i in range(count):
            rising &= offsets[i] <= offsets[i + 1]
        if not rising or offsets[0] != 0 or offsets[count] != total:
            raise FrameError(f"the offsets in column {column} of a frame do not cut its bytes into {count} pieces")
        return offsets

    cdef uint64_t length_of(self, uint32_t column, uint32_t width) except? 0:
        if self.lengths[column] % width:
            raise FrameError(f"column {column} of a frame is no array of {width}-byte numbers")
        return self.lengths[column] // width

    def column_bytes(self, uint32_t column) -> bytes:
        """A copy of the raw bytes of one column."""
        if column >= self.n_columns:
            raise IndexError(f"a frame with {self.n_columns} columns has no column {column}")
        return PyBytes_FromStringAndSize(<const char*>self.starts[column], self.lengths[column])


@cython.final
cdef class ColumnWriter:
    """Collects the columns of one frame.

    Parameters
    ----------
    n_columns : int
        How many columns the frame has. Every offsets column must get its leading 0 from the caller.
    """

    def __cinit__(self, uint32_t n_columns):
        if n_columns > MAX_COLUMNS:
            raise ValueError(f"a frame has at most {MAX_COLUMNS} columns, not {n_columns}")
        self.n_columns = n_columns
        self.columns.resize(n_columns)
        self.n_rows = 0

    cdef size_t total(self) noexcept nogil:
        cdef size_t length = 8 + 8 * self.n_columns
        cdef uint32_t column
        for column in range(self.n_columns):
            length += (self.columns[column].size() + 7) & ~<size_t>7
        return length

    cdef void clear(self) noexcept nogil:
        cdef uint32_t column
        for column in range(self.n_columns):
            self.columns[column].clear()
            if self.columns[column].capacity() > 1 << 13:
                self.columns[column].shrink_to_fit()
        self.n_rows = 0

    cdef bytes finish(self):
        """The body of the frame; the writer is empty afterwards."""
        cdef size_t length = self.total()
        cdef bytes body = PyBytes_FromStringAndSize(NULL, length)
        cdef uint8_t* target = <uint8_t*>PyBytes_AS_STRING(body)
        cdef size_t position = 8 + 8 * self.n_columns
        cdef uint64_t size
        cdef uint64_t padding = 0
        cdef uint32_t column
        memcpy(target, &self.n_columns, 4)
        memcpy(target + 4, &self.n_rows, 4)
        for column in range(self.n_columns):
            size = self.columns[column].size()
            memcpy(target + 8 + 8 * column, &size, 8)
            if size:
                memcpy(target + position, self.columns[column].data(), size)
                position += size
            if position & 7:
                memcpy(target + position, &padding, 8 - (position & 7))
                position = (position + 7) & ~<size_t>7
        self.clear()
        return body

    def put_bytes(self, uint32_t column, bytes data) -> None:
        """Append raw bytes to a column (tests and rare columns; hot code calls `put`)."""
        if column >= self.n_columns:
            raise IndexError(f"a frame with {self.n_columns} columns has no column {column}")
        self.put(column, PyBytes_AS_STRING(data), len(data))

    def encode(self) -> bytes:
        """The body of the frame; the writer is empty afterwards."""
        return self.finish()
