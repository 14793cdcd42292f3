# The decoding half of the compiled value encoding.
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t


cdef struct Reader:
    const uint8_t* at
    const uint8_t* end
    PyObject* inputs                        # borrowed list; NULL = no dependencies allowed


# The next value; anything that is not one raises FrameError (a ValueError).
cdef object take_value(Reader* reader, int depth)
