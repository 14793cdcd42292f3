# numpy scalars and arrays without numpy's headers: through the buffer protocol and `sys.modules`.
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    MAX_DIMENSIONS = 32
    N_DTYPES = 14

cdef extern from *:
    """
    /* Bytes of one item for each dtype code. */
    static const unsigned char fastdist_dtype_sizes[14] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8, 8, 16};
    """
    const uint8_t DTYPE_SIZES "fastdist_dtype_sizes"[14]

# Whether the program uses numpy; learns its types at the first time. The next two need that.
cdef bint find_numpy() except -1
cdef bint is_array(type kind) noexcept
cdef int scalar_code(type kind) except -2       # -1: not a scalar type with a dtype code

# Fills `view`, which the caller releases, and gives the dtype code; -1, with nothing to release, for an array that
# is left to pickle: strided, read-only, or of a dtype without a code.
cdef int array_code(object array, Py_buffer* view) except -2

# The next two import numpy when it is needed.
cdef object new_scalar(uint8_t code, const uint8_t* data)
cdef object new_array(uint8_t code, list shape, const uint8_t* data, uint64_t size)
