"""Objects to bytes: the encoding half of the compiled value encoding (docs/wire.md, "Argument payloads").

A value is encoded only if decoding gives what pickle would have given: an object that can be told apart by identity and
is met twice is refused. No user code runs on the way, except what a garbage collection may start.

May import: nothing but the tables of numpy types beside it.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy

from fastdist._core.codec.arrays cimport array_code, find_numpy, is_array, scalar_code

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1
    double PyFloat_AS_DOUBLE(object value) noexcept
    double PyComplex_RealAsDouble(object value) except? -1
    double PyComplex_ImagAsDouble(object value) except? -1
    bint PyUnicode_IS_ASCII(object text) noexcept
    void* PyUnicode_DATA(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    object PyUnicode_AsEncodedString(object text, const char* encoding, const char* errors)

cdef enum:
    SHARED_FROM = 64        # bytes; a longer str or bytes that is met twice is left to pickle, which sends it once
    LINEAR_UP_TO = 16       # objects remembered in an array before a hash set takes over


cdef inline bint put(EncodeState* state, const void* data, size_t length) except -1:
    cdef size_t size = state.out.size()
    if length > state.end - size:
        return False
    state.out.insert(state.out.end(), <const uint8_t*>data, <const uint8_t*>data + length)
    return True


cdef bint put_tag(EncodeState* state, uint8_t tag) except -1:
    if state.out.size() >= state.end:
        return False
    state.out.push_back(tag)
    return True


cdef inline bint put_tagged(EncodeState* state, uint8_t tag, const void* data, size_t length) except -1:
    # For lengths of at most 16 bytes.
    cdef uint8_t[17] buffer
    buffer[0] = tag
    memcpy(&buffer[1], data, length)
    return put(state, &buffer[0], length + 1)


cdef inline bint put_counted(EncodeState* state, uint8_t tag, Py_ssize_t count) except -1:
    cdef uint32_t small = <uint32_t>count
    if count > 0xFFFFFFFF:
        return False
    return put_tagged(state, tag, &small, 4)


cdef inline bint put_counted_short(EncodeState* state, uint8_t short_tag, uint8_t long_tag, Py_ssize_t count) except -1:
    cdef uint8_t small = <uint8_t>count
    if count > 255:
        return put_counted(state, long_tag, count)
    return put_tagged(state, short_tag, &small, 1)


cdef bint is_new(EncodeState* state, PyObject* value) except -1:
    """Whether this object is met for the first time; remembers it."""
    cdef uintptr_t address = <uintptr_t>value
    cdef size_t i
    if state.seen.size() < LINEAR_UP_TO:
        for i in range(state.seen.size()):
            if state.seen[i] == address:
                return False
        state.seen.push_back(address)
        return True
    if state.seen_many.empty():
        state.seen_many.insert(state.seen.begin(), state.seen.end())
    return state.seen_many.insert(address).second


cdef bint put_int(EncodeState* state, object value) except -1:
    cdef int overflow = 0
    cdef int64_t wide = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef int8_t narrow
    cdef int32_t middle
    cdef Py_ssize_t length
    cdef bytes digits
    if overflow:
        length = (<Py_ssize_t>value.bit_length() >> 3) + 1
        if <size_t>length > state.end - state.out.size():
            return False
        digits = value.to_bytes(length, "little", signed=True)
        return put_counted(state, TAG_BIG_INT, length) and put(state, PyBytes_AS_STRING(digits), length)
    if -128 <= wide < 128:
        narrow = <int8_t>wide
        return put_tagged(state, TAG_INT8, &narrow, 1)
    if -0x80000000LL <= wide <= 0x7FFFFFFFLL:
        middle = <int32_t>wide
        return put_tagged(state, TAG_INT32, &middle, 4)
    return put_tagged(state, TAG_INT64, &wide, 8)


cdef bint put_str(EncodeState* state, object value) except -1:
    cdef Py_ssize_t length = PyUnicode_GET_LENGTH(value)
    cdef bytes encoded
    if length > SHARED_FROM and not is_new(state, <PyObject*>value):
        return False
    if <size_t>length > state.end - state.out.size():
        return False
    if PyUnicode_IS_ASCII(value):
        return put_counted_short(state, TAG_STR8, TAG_STR32, length) and put(state, PyUnicode_DATA(value), length)
    # A temporary, and not the cache inside the str: that would double the user's string for as long as it lives.
    encoded = PyUnicode_AsEncodedString(value, "utf-8", "surrogatepass")
    length = PyBytes_GET_SIZE(encoded)
    return (
        put_counted_short(state, TAG_STR8, TAG_STR32, length) and put(state, PyBytes_AS_STRING(encoded), length)
    )


cdef bint put_bytes(EncodeState* state, object value) except -1:
    cdef Py_ssize_t length = PyBytes_GET_SIZE(value)
    if length > SHARED_FROM and not is_new(state, <PyObject*>value):
        return False
    return (
        put_counted_short(state, TAG_BYTES8, TAG_BYTES32, length) and put(state, PyBytes_AS_STRING(value), length)
    )


cdef bint put_tuple(EncodeState* state, tuple value, int depth) except -1:
    cdef Py_ssize_t i, count = PyTuple_GET_SIZE(value)
    if not put_counted_short(state, TAG_TUPLE8, TAG_TUPLE32, count):
        return False
    for i in range(count):
        if not put_value(state, <object>PyTuple_GET_ITEM(value, i), depth):
            return False
    return True


cdef bint put_list(EncodeState* state, list value, int depth) except -1:
    cdef Py_ssize_t i = 0, count = PyList_GET_SIZE(value)
    cdef object item
    if not put_counted(state, TAG_LIST, count):
        return False
    # A garbage collection may run user code between two items, and that may change the list.
    while i < PyList_GET_SIZE(value):
        item = <object>PyList_GET_ITEM(value, i)
        if not put_value(state, item, depth):
            return False
        i += 1
    if i != count:
        raise RuntimeError("a list changed its size while it was encoded")
    return True


cdef bint put_dict(EncodeState* state, dict value, int depth) except -1:
    cdef Py_ssize_t position = 0, count = len(value)
    cdef PyObject* key_pointer
    cdef PyObject* item_pointer
    cdef object key, item
    if not put_counted(state, TAG_DICT, count):
        return False
    while PyDict_Next(value, &position, &key_pointer, &item_pointer):
        key, item = <object>key_pointer, <object>item_pointer
        if not put_value(state, key, depth) or not put_value(state, item, depth):
            return False
        if len(value) != count:
            raise RuntimeError("a dict changed its size while it was encoded")
    return True


cdef bint put_set(EncodeState* state, uint8_t tag, object value, int depth) except -1:
    # Iteration raises by itself when the set changes its size.
    cdef object item
    if not put_counted(state, tag, len(value)):
        return False
    for item in value:
        if not put_value(state, item, depth):
            return False
    return True


cdef bint put_reference(EncodeState* state, object value) except -1:
    cdef uintptr_t address = <uintptr_t><PyObject*>value
    cdef list references = <list>state.references
    cdef uint32_t number
    found = state.reference_numbers.find(address)
    if found != state.reference_numbers.end():
        number = state.reference_numbers[address]
    else:
        number = <uint32_t>PyList_GET_SIZE(references)
        references.append(value)
        state.reference_numbers[address] = number
    return put_tagged(state, TAG_DEPENDENCY, &number, 4)


cdef bint put_value(EncodeState* state, object value, int depth) except -1:
    """Append one value; False if it cannot be encoded."""
    cdef type kind = type(value)
    cdef double number
    cdef double[2] pair
    if kind is int:
        return put_int(state, value)
    if kind is str:
        return put_str(state, value)
    if kind is float:
        number = PyFloat_AS_DOUBLE(value)
        return put_tagged(state, TAG_FLOAT, &number, 8)
    if value is None:
        return put_tag(state, TAG_NONE)
    if kind is bool:
        return put_tag(state, TAG_TRUE if value is True else TAG_FALSE)
    if <PyObject*>kind == state.reference_type:
        return put_reference(state, value)
    if kind is bytes:
        return put_bytes(state, value)
    if kind is complex:
        pair[0] = PyComplex_RealAsDouble(value)
        pair[1] = PyComplex_ImagAsDouble(value)
        return put_tagged(state, TAG_COMPLEX, &pair[0], 16)
    return put_compound(state, value, kind, depth + 1)


cdef bint put_compound(EncodeState* state, object value, type kind, int depth) except -1:
    if depth > MAX_DEPTH:
        return False
    if kind is tuple:
        if PyTuple_GET_SIZE(<tuple>value) and not is_new(state, <PyObject*>value):
            return False
        return put_tuple(state, <tuple>value, depth)
    if kind is list:
        return is_new(state, <PyObject*>value) and put_list(state, <list>value, depth)
    if kind is dict:
        return is_new(state, <PyObject*>value) and put_dict(state, <dict>value, depth)
    if kind is set:
        return is_new(state, <PyObject*>value) and put_set(state, TAG_SET, value, depth)
    if kind is frozenset:
        return is_new(state, <PyObject*>value) and put_set(state, TAG_FROZENSET, value, depth)
    if not find_numpy():
        return False
    return put_array(state, value) if is_array(kind) else put_scalar(state, value, kind)


cdef bint put_scalar(EncodeState* state, object value, type kind) except -1:
    cdef Py_buffer view
    cdef bint done
    cdef int code = scalar_code(kind)
    cdef uint8_t small = <uint8_t>code
    if code < 0 or not put_tagged(state, TAG_SCALAR, &small, 1):
        return False
    PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
    try:
        done = put(state, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    return done


cdef bint put_array(EncodeState* state, object value) except -1:
    cdef Py_buffer view
    cdef uint8_t[2] head
    cdef uint64_t length
    cdef bint done
    cdef int i, code
    if not is_new(state, <PyObject*>value):
        return False
    code = array_code(value, &view)
    if code < 0:
        return False
    head[0] = <uint8_t>code
    head[1] = <uint8_t>view.ndim
    try:
        done = put_tagged(state, TAG_ARRAY, &head[0], 2)
        for i in range(view.ndim):
            length = <uint64_t>view.shape[i]
            done = done and put(state, &length, 8)
        done = done and put(state, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    return done
