"""numpy scalars and arrays without numpy's headers: through the buffer protocol and `sys.modules`.

May import: nothing; numpy only once a payload that holds a numpy value is decoded.
"""

import sys

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

# The place of a name is its dtype code, which is part of the wire.
DTYPE_NAMES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
)

cdef object numpy_module = None
cdef object array_type = None
cdef dict scalar_codes = {}         # exact scalar type -> dtype code
cdef list dtypes = []               # dtype code -> dtype


cdef int learn_numpy(object numpy) except -1:
    global numpy_module, array_type, scalar_codes, dtypes
    dtypes = [numpy.dtype(name) for name in DTYPE_NAMES]
    scalar_codes = {dtype.type: code for code, dtype in enumerate(dtypes)}
    array_type = numpy.ndarray
    numpy_module = numpy
    return 0


cdef bint find_numpy() except -1:
    if numpy_module is not None:
        return True
    numpy = sys.modules.get("numpy")
    # While another thread imports it, it does not have its types yet.
    if numpy is None or not hasattr(numpy, "ndarray") or not hasattr(numpy, "dtype"):
        return False
    learn_numpy(numpy)
    return True


cdef int need_numpy() except -1:
    if numpy_module is None:
        import numpy
        learn_numpy(numpy)
    return 0


cdef bint is_array(type kind) noexcept:
    return kind is array_type


cdef int scalar_code(type kind) except -2:
    code = scalar_codes.get(kind)
    return -1 if code is None else code


cdef int code_of_integer(Py_ssize_t size, bint is_signed) noexcept:
    if size == 1:
        return 1 if is_signed else 2
    if size == 2:
        return 3 if is_signed else 4
    if size == 4:
        return 5 if is_signed else 6
    return 7 if is_signed else 8


cdef int code_of_format(const char* text, Py_ssize_t size) noexcept:
    """The dtype code for the format of a buffer in native byte order; -1 if it is not a simple one."""
    cdef char kind = text[0]
    cdef int code
    if kind == c"Z" and text[1] != 0 and text[2] == 0:
        code = 12 if text[1] == c"f" else 13 if text[1] == c"d" else -1
    elif kind == 0 or text[1] != 0:
        code = -1
    elif kind == c"d":
        code = 11
    elif kind == c"f":
        code = 10
    elif kind == c"e":
        code = 9
    elif kind == c"?":
        code = 0
    elif kind == c"b" or kind == c"h" or kind == c"i" or kind == c"l" or kind == c"q":
        code = code_of_integer(size, True)
    elif kind == c"B" or kind == c"H" or kind == c"I" or kind == c"L" or kind == c"Q":
        code = code_of_integer(size, False)
    else:
        code = -1
    return code if code >= 0 and DTYPE_SIZES[code] == size else -1


cdef int array_code(object array, Py_buffer* view) except -2:
    cdef int code = -1
    try:
        PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    except (BufferError, ValueError):
        return -1       # strided, or a dtype that buffers cannot express
    # Pickle brings a read-only array back read-only.
    if view.format != NULL and not view.readonly and view.ndim <= MAX_DIMENSIONS:
        code = code_of_format(view.format, view.itemsize)
    if code < 0:
        PyBuffer_Release(view)
    return code


cdef object new_scalar(uint8_t code, const uint8_t* data):
    need_numpy()
    raw = PyBytes_FromStringAndSize(<const char*>data, DTYPE_SIZES[code])
    return numpy_module.frombuffer(raw, dtypes[code])[0]


cdef object new_array(uint8_t code, list shape, const uint8_t* data, uint64_t size):
    cdef Py_buffer view
    need_numpy()
    array = numpy_module.empty(shape, dtypes[code])
    if size:
        PyObject_GetBuffer(array, &view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        memcpy(view.buf, data, size)
        PyBuffer_Release(&view)
    return array
