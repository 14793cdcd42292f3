# Columnar frames: bounded readers and growing writers (docs/wire.md is the specification).
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

cpdef enum FrameKind:
    CONTROL = 1
    TASKS = 2
    RELEASE = 3
    STATE = 4
    RUN = 5
    FREE = 6
    RETRACT = 7
    DONE = 8

cpdef enum DoneStatus:
    DONE_FINISHED = 0
    DONE_ERRED = 1
    DONE_RESCHEDULE = 2
    DONE_RETRACTED = 3
    DONE_RETRACT_REFUSED = 4
    DONE_REPLICA = 5
    DONE_MISSING = 6
    DONE_STARTED = 7
    DONE_WAITS = 8
    DONE_SECEDED = 9
    DONE_RETURNED = 10

cpdef enum TaskStatus:
    STATUS_PENDING = 0
    STATUS_FINISHED = 1
    STATUS_ERRED = 2
    STATUS_CANCELLED = 3
    STATUS_LOST = 4

cdef enum:
    MAX_COLUMNS = 32
    NO_FUNCTION = 0xFFFFFFFF


@cython.final
cdef class ColumnReader:
    # The body is borrowed: it must outlive the reader, and pieces must be copied before it goes.
    cdef const uint8_t* body
    cdef Py_ssize_t body_length
    cdef object owner                       # keeps the buffer alive while the reader lives
    cdef readonly uint32_t n_columns
    cdef readonly uint32_t n_rows
    cdef const uint8_t* starts[MAX_COLUMNS]
    cdef uint64_t lengths[MAX_COLUMNS]

    cdef int _read_table(self, uint32_t expected_columns) except -1
    cdef const uint8_t* fixed(self, uint32_t column, uint64_t count, uint32_t width) except NULL
    cdef const uint8_t* optional(self, uint32_t column, uint64_t count, uint32_t width) except? NULL
    cdef const uint32_t* offsets(self, uint32_t column, uint32_t blob_column, uint64_t count) except NULL
    cdef const uint32_t* index_offsets(self, uint32_t column, uint64_t count, uint64_t total) except NULL
    cdef uint64_t length_of(self, uint32_t column, uint32_t width) except? 0


@cython.final
cdef class ColumnWriter:
    cdef uint32_t n_columns
    cdef public uint32_t n_rows
    cdef vector[vector[uint8_t]] columns

    cdef inline void put(self, uint32_t column, const void* data, size_t length) noexcept nogil:
        cdef vector[uint8_t]* target = &self.columns[column]
        cdef size_t old = target.size()
        if target.capacity() < old + length:
            target.reserve(2 * (old + length) + 64)
        append_bytes(target[0], data, length)

    cdef inline void put_u8(self, uint32_t column, uint8_t value) noexcept nogil:
        self.columns[column].push_back(value)

    cdef inline void put_u32(self, uint32_t column, uint32_t value) noexcept nogil:
        self.put(column, &value, 4)

    cdef inline void put_u64(self, uint32_t column, uint64_t value) noexcept nogil:
        self.put(column, &value, 8)

    cdef inline void put_f32(self, uint32_t column, float value) noexcept nogil:
        self.put(column, &value, 4)

    cdef inline void put_f64(self, uint32_t column, double value) noexcept nogil:
        self.put(column, &value, 8)

    cdef inline size_t size(self, uint32_t column) noexcept nogil:
        return self.columns[column].size()

    # Appends the bytes to `blob` and then the new end of the blob to `offsets`.
    cdef inline void put_piece(self, uint32_t offsets, uint32_t blob, const void* data, size_t length) noexcept nogil:
        self.put(blob, data, length)
        self.put_u32(offsets, <uint32_t>self.columns[blob].size())

    cdef size_t total(self) noexcept nogil
    cdef void clear(self) noexcept nogil
    cdef bytes finish(self)


cdef extern from *:
    """
    #include <cstddef>
    #include <cstdint>
    #include <vector>
    // Growing a vector by resize() would fill the new bytes with zeros first.
    static inline void fastdist_append(std::vector<std::uint8_t>& target, const void* data, std::size_t length) {
        const std::uint8_t* first = static_cast<const std::uint8_t*>(data);
        target.insert(target.end(), first, first + length);
    }
    """
    void append_bytes "fastdist_append" (vector[uint8_t]& target, const void* data, size_t length) noexcept nogil
