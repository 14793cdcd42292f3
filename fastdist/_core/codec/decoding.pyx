"""Bytes to objects: the decoding half of the compiled value encoding (docs/wire.md, "Argument payloads").

Every length is checked against what is left before anything of that size is made: no bytes make this crash, or take
more than a small multiple of their own size.

May import: `fastdist.errors`, and the tables of numpy types beside it.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastdist._core.codec.arrays cimport DTYPE_SIZES, MAX_DIMENSIONS, N_DTYPES, new_array, new_scalar
from fastdist._core.codec.encoding cimport *

from fastdist.errors import FrameError

cdef extern from "Python.h":
    object PyComplex_FromDoubles(double real, double imaginary)
    object PyUnicode_DecodeUTF8(const char* data, Py_ssize_t length, const char* errors)


cdef inline int need(Reader* reader, size_t length) except -1:
    if length > <size_t>(reader.end - reader.at):
        raise FrameError("an encoded value ends too early")
    return 0


cdef inline uint8_t take_u8(Reader* reader) except? 255:
    need(reader, 1)
    reader.at += 1
    return reader.at[-1]


cdef inline uint32_t take_u32(Reader* reader) except? 0xFFFFFFFF:
    cdef uint32_t number
    need(reader, 4)
    memcpy(&number, reader.at, 4)
    reader.at += 4
    return number


cdef inline uint64_t take_u64(Reader* reader) except? 0xFFFFFFFFFFFFFFFF:
    cdef uint64_t number
    need(reader, 8)
    memcpy(&number, reader.at, 8)
    reader.at += 8
    return number


cdef inline uint32_t take_count(Reader* reader, bint is_short) except? 0xFFFFFFFF:
    """A number of items or bytes, each of which takes at least one byte of what is left."""
    cdef uint32_t count = take_u8(reader) if is_short else take_u32(reader)
    need(reader, count)
    return count


cdef object take_tuple(Reader* reader, uint32_t count, int depth):
    cdef tuple value = PyTuple_New(count)
    cdef object item
    cdef uint32_t i
    for i in range(count):
        item = take_value(reader, depth)
        Py_INCREF(item)
        PyTuple_SET_ITEM(value, i, item)
    return value


cdef object take_list(Reader* reader, uint32_t count, int depth):
    cdef list value = PyList_New(count)
    cdef object item
    cdef uint32_t i
    for i in range(count):
        item = take_value(reader, depth)
        Py_INCREF(item)
        PyList_SET_ITEM(value, i, item)
    return value


cdef int refuse_unhashable(Reader* reader, object error) except -1:
    # With inputs, the user's own value is what cannot be hashed: the TypeError goes to the user as it is.
    if reader.inputs != NULL and PyList_GET_SIZE(<list>reader.inputs):
        raise error
    raise FrameError(f"an encoded value cannot be hashed: {error}") from error


cdef object take_dict(Reader* reader, uint32_t count, int depth):
    cdef dict value = {}
    cdef object key
    cdef uint32_t _
    for _ in range(count):
        key = take_value(reader, depth)
        try:
            value[key] = take_value(reader, depth)
        except TypeError as error:
            refuse_unhashable(reader, error)
    return value


cdef object take_set(Reader* reader, uint32_t count, int depth):
    cdef set value = set()
    cdef object item
    cdef uint32_t _
    for _ in range(count):
        item = take_value(reader, depth)
        try:
            value.add(item)
        except TypeError as error:
            refuse_unhashable(reader, error)
    return value


cdef object take_big_int(Reader* reader):
    cdef uint32_t length = take_count(reader, False)
    cdef bytes digits = PyBytes_FromStringAndSize(<const char*>reader.at, length)
    reader.at += length
    return int.from_bytes(digits, "little", signed=True)


cdef object take_str(Reader* reader, bint is_short):
    cdef uint32_t length = take_count(reader, is_short)
    reader.at += length
    try:
        return PyUnicode_DecodeUTF8(<const char*>reader.at - length, length, "surrogatepass")
    except UnicodeDecodeError as error:
        raise FrameError(f"an encoded str is not utf-8: {error}") from error


cdef object take_bytes(Reader* reader, bint is_short):
    cdef uint32_t length = take_count(reader, is_short)
    reader.at += length
    return PyBytes_FromStringAndSize(<const char*>reader.at - length, length)


cdef object take_dependency(Reader* reader):
    cdef uint32_t number = take_u32(reader)
    if reader.inputs == NULL or number >= <size_t>PyList_GET_SIZE(<list>reader.inputs):
        raise FrameError(f"an encoded value refers to input {number}, which does not exist")
    return <object>PyList_GET_ITEM(<list>reader.inputs, number)


cdef uint8_t take_dtype(Reader* reader) except? 255:
    cdef uint8_t code = take_u8(reader)
    if code >= N_DTYPES:
        raise FrameError(f"an encoded numpy value has the unknown dtype {code}")
    return code


cdef object take_scalar(Reader* reader):
    cdef uint8_t code = take_dtype(reader)
    cdef uint8_t size = DTYPE_SIZES[code]
    need(reader, size)
    reader.at += size
    return new_scalar(code, reader.at - size)


cdef object take_array(Reader* reader):
    cdef uint8_t code = take_dtype(reader)
    cdef uint8_t dimensions = take_u8(reader)
    cdef uint64_t length, total = DTYPE_SIZES[code]
    cdef list shape = []
    cdef bint empty = False
    cdef uint8_t _
    if dimensions > MAX_DIMENSIONS:
        raise FrameError(f"an encoded array has {dimensions} dimensions")
    for _ in range(dimensions):
        length = take_u64(reader)
        # numpy refuses large dimensions of an empty array, too.
        if length and total > (<uint64_t>1 << 62) // length:
            raise FrameError("an encoded array is larger than any memory")
        total *= length or 1
        empty = empty or not length
        shape.append(length)
    if empty:
        total = 0
    need(reader, total)
    reader.at += total
    return new_array(code, shape, reader.at - total, total)


cdef object take_value(Reader* reader, int depth):
    """The next value."""
    cdef uint8_t tag = take_u8(reader)
    cdef int8_t narrow
    cdef int32_t middle
    cdef int64_t wide
    cdef double number
    cdef double[2] pair
    if tag == TAG_INT8:
        narrow = <int8_t>take_u8(reader)
        return narrow
    if tag == TAG_INT32:
        middle = <int32_t>take_u32(reader)
        return middle
    if tag == TAG_INT64:
        wide = <int64_t>take_u64(reader)
        return wide
    if tag == TAG_STR8 or tag == TAG_STR32:
        return take_str(reader, tag == TAG_STR8)
    if tag == TAG_FLOAT:
        need(reader, 8)
        memcpy(&number, reader.at, 8)
        reader.at += 8
        return number
    if tag == TAG_NONE:
        return None
    if tag == TAG_TRUE or tag == TAG_FALSE:
        return True if tag == TAG_TRUE else False
    if tag == TAG_DEPENDENCY:
        return take_dependency(reader)
    if tag == TAG_BYTES8 or tag == TAG_BYTES32:
        return take_bytes(reader, tag == TAG_BYTES8)
    if tag == TAG_BIG_INT:
        return take_big_int(reader)
    if tag == TAG_COMPLEX:
        need(reader, 16)
        memcpy(&pair[0], reader.at, 16)
        reader.at += 16
        return PyComplex_FromDoubles(pair[0], pair[1])
    return take_compound(reader, tag, depth + 1)


cdef object take_compound(Reader* reader, uint8_t tag, int depth):
    if depth > MAX_DEPTH:
        raise FrameError(f"an encoded value is nested more than {MAX_DEPTH} deep")
    if tag == TAG_TUPLE8 or tag == TAG_TUPLE32:
        return take_tuple(reader, take_count(reader, tag == TAG_TUPLE8), depth)
    if tag == TAG_LIST:
        return take_list(reader, take_count(reader, False), depth)
    if tag == TAG_DICT:
        return take_dict(reader, take_count(reader, False), depth)
    if tag == TAG_SET:
        return take_set(reader, take_count(reader, False), depth)
    if tag == TAG_FROZENSET:
        return frozenset(take_set(reader, take_count(reader, False), depth))
    if tag == TAG_SCALAR:
        return take_scalar(reader)
    if tag == TAG_ARRAY:
        return take_array(reader)
    raise FrameError(f"an encoded value has the unknown tag {tag}")
