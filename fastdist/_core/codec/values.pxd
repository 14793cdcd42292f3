# Values and argument payloads as bytes (docs/wire.md, "Argument payloads").
from libc.stdint cimport uint8_t
from libcpp.vector cimport vector

cpdef enum Encoding:
    ENCODED = 1     # one value in the compiled value encoding
    PICKLED = 2     # a pickle, protocol 5
    BUFFERS = 3     # a table of lengths, a pickle, its out-of-band buffers

cpdef enum:
    ARGUMENTS_LIMIT = 1048576       # bytes; larger arguments are pickled, which shares what is equal
    MAX_BUFFERS = 65536             # out-of-band buffers of one payload

# Appends the ENCODED payload of a result. False, with `out` as it was: a type that is not supported, a mutable
# container met twice, or more than `limit` bytes.
cdef bint encode_into(vector[uint8_t]& out, object value, Py_ssize_t limit) except -1

# Appends the ENCODED payload of (args, kwargs). An item whose exact type is `reference_type` (may be None) becomes
# DEPENDENCY i, where i is its place in `references`; it is appended there unless the identical object is there already.
# False, with `out` and `references` as they were, as for encode_into.
cdef bint encode_arguments_into(
    vector[uint8_t]& out, tuple args, dict kwargs, type reference_type, list references
) except -1

# The value of a payload of any encoding. The bytes are copied: nothing of the value points into them.
cdef object decode_result(const uint8_t* data, size_t length)

# (args, kwargs or None) of an argument payload of any encoding; `inputs` are the values of its dependencies.
cdef tuple decode_arguments(const uint8_t* data, size_t length, list inputs)
