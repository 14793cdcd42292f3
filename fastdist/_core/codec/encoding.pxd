# The encoding half of the compiled value encoding, and the tags that both halves share.
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uintptr_t
from libcpp.unordered_map cimport unordered_map
from libcpp.unordered_set cimport unordered_set
from libcpp.vector cimport vector

cdef enum:
    MAX_DEPTH = 32          # containers inside containers that are followed

# All numbers are little-endian. The tags are part of the wire.
cdef enum Tag:
    TAG_NONE = 0
    TAG_FALSE = 1
    TAG_TRUE = 2
    TAG_INT8 = 3
    TAG_INT32 = 4
    TAG_INT64 = 5
    TAG_BIG_INT = 6         # u32 length, two's complement
    TAG_FLOAT = 7
    TAG_COMPLEX = 8
    TAG_STR8 = 9            # u8 length, utf-8 (lone surrogates are kept)
    TAG_STR32 = 10          # u32 length
    TAG_BYTES8 = 11
    TAG_BYTES32 = 12
    TAG_TUPLE8 = 13         # u8 count, items
    TAG_TUPLE32 = 14        # u32 count, items
    TAG_LIST = 15
    TAG_DICT = 16           # u32 count, keys and values in turn
    TAG_SET = 17
    TAG_FROZENSET = 18
    TAG_DEPENDENCY = 19     # u32 number of the input
    TAG_SCALAR = 20         # u8 dtype, one item
    TAG_ARRAY = 21          # u8 dtype, u8 dimensions, u64 shape[dimensions], items


cdef cppclass EncodeState:
    vector[uint8_t]* out
    size_t end                              # `out` may not grow beyond this size
    PyObject* reference_type                # borrowed; NULL = no references
    PyObject* references                    # borrowed list
    unordered_map[uintptr_t, uint32_t] reference_numbers
    vector[uintptr_t] seen
    unordered_set[uintptr_t] seen_many


# All of these append to `state.out`; False means that the value cannot be encoded, and leaves a part of it behind.
cdef bint put_tag(EncodeState* state, uint8_t tag) except -1
cdef bint put_value(EncodeState* state, object value, int depth) except -1
cdef bint put_tuple(EncodeState* state, tuple value, int depth) except -1
cdef bint put_dict(EncodeState* state, dict value, int depth) except -1
