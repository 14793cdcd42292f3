"""Payloads: values and arguments as bytes, and payloads of any encoding back to objects.

The compiled value encoding (`encoding`, `decoding`) takes exact builtin types, numpy scalars and small numpy arrays;
everything else is pickled by `fastdist.protocol`, and read here.

May import: `fastdist.errors`, and the two halves of the value encoding.
"""

from pickle import loads as load_pickle

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy
from libcpp.vector cimport vector

from fastdist._core.codec.decoding cimport Reader, take_value
from fastdist._core.codec.encoding cimport EncodeState, TAG_TUPLE8, put_dict, put_tag, put_tuple, put_value

from fastdist.errors import FrameError

cdef extern from "Python.h":
    int PyBUF_READ

cdef extern from *:
    """
    /* The inputs of the decode in progress on this thread; borrowed, the decoding call owns them. */
    static thread_local PyObject* fastdist_decoding_inputs = NULL;
    """
    PyObject* decoding_inputs "fastdist_decoding_inputs"


# ---------------------------------------------------------------------------------------------------------------------
# Objects to bytes

cdef bint encode_into(vector[uint8_t]& out, object value, Py_ssize_t limit) except -1:
    cdef EncodeState state
    cdef size_t start = out.size()
    cdef bint done = False
    state.out = &out
    state.end = start + <size_t>max(limit, 0)
    state.reference_type = NULL
    state.references = NULL
    try:
        done = put_tag(&state, ENCODED) and put_tag(&state, 0) and put_value(&state, value, 0)
    finally:
        if not done:
            out.resize(start)
    return done


cdef bint encode_arguments_into(
    vector[uint8_t]& out, tuple args, dict kwargs, type reference_type, list references
) except -1:
    cdef EncodeState state
    cdef size_t start = out.size()
    cdef Py_ssize_t i, old_references = PyList_GET_SIZE(references)
    cdef bint has_kwargs = kwargs is not None and len(kwargs) > 0
    cdef bint done = False
    state.out = &out
    state.end = start + ARGUMENTS_LIMIT
    state.reference_type = <PyObject*>NULL if reference_type is None else <PyObject*>reference_type
    state.references = <PyObject*>references
    for i in range(old_references):
        state.reference_numbers[<uintptr_t>PyList_GET_ITEM(references, i)] = <uint32_t>i
    try:
        done = put_tag(&state, ENCODED) and put_tag(&state, has_kwargs)
        if has_kwargs:
            done = done and put_tag(&state, TAG_TUPLE8) and put_tag(&state, 2)
            done = done and put_tuple(&state, args, 2) and put_dict(&state, kwargs, 2)
        else:
            done = done and put_tuple(&state, args, 1)
    finally:
        if not done:
            out.resize(start)
            if PyList_GET_SIZE(references) != old_references:
                del references[old_references:]
    return done


# ---------------------------------------------------------------------------------------------------------------------
# Bytes to objects

cdef object unpickle(const uint8_t* data, size_t length, list inputs, list buffers):
    """Load a pickle whose calls of `dependency` find `inputs`; a decode inside a decode has its own."""
    cdef PyObject* outer = decoding_inputs
    global decoding_inputs
    view = PyMemoryView_FromMemory(<char*>data, <Py_ssize_t>length, PyBUF_READ)
    decoding_inputs = <PyObject*>NULL if inputs is None else <PyObject*>inputs
    try:
        return load_pickle(view, buffers=buffers)
    finally:
        decoding_inputs = outer


cdef object unpickle_with_buffers(const uint8_t* data, size_t length, list inputs):
    cdef uint32_t count, i
    cdef uint64_t size, pickle_size = 0, position, table
    cdef list buffers = []
    if length < 4:
        raise FrameError("a payload with buffers ends inside its table")
    memcpy(&count, data, 4)
    table = 4 + 8 * <uint64_t>count
    if count < 1 or count > MAX_BUFFERS + 1 or table > length:
        raise FrameError(f"a payload cannot have a table of {count} buffers")
    position = table
    for i in range(count):
        memcpy(&size, data + 4 + 8 * <size_t>i, 8)
        if size > length - position:
            raise FrameError("a buffer reaches beyond the end of its payload")
        if i == 0:
            pickle_size = size
        else:
            # A bytearray: what was writable stays so, and pickle makes the read-only ones read-only.
            buffers.append(PyByteArray_FromStringAndSize(<const char*>data + position, <Py_ssize_t>size))
        position += size
    if position != length:
        raise FrameError("a payload has bytes after its last buffer")
    return unpickle(data + table, pickle_size, inputs, buffers)


cdef object decode_payload(const uint8_t* data, size_t length, list inputs):
    """The object of a payload; its second byte is for the caller to judge."""
    cdef Reader reader
    cdef object value
    if length < 2:
        raise FrameError(f"a payload of {length} bytes is too short")
    if data[0] == ENCODED:
        reader.at = data + 2
        reader.end = data + length
        reader.inputs = <PyObject*>NULL if inputs is None else <PyObject*>inputs
        value = take_value(&reader, 0)
        if reader.at != reader.end:
            raise FrameError("an encoded value is followed by bytes that do not belong to it")
        return value
    if data[0] == PICKLED:
        return unpickle(data + 2, length - 2, inputs, None)
    if data[0] == BUFFERS:
        return unpickle_with_buffers(data + 2, length - 2, inputs)
    raise FrameError(f"a payload has the unknown encoding {data[0]}")


cdef object decode_result(const uint8_t* data, size_t length):
    if length >= 2 and data[1] != 0:
        raise FrameError(f"the payload of a result has the shape {data[1]}, not 0")
    return decode_payload(data, length, None)


cdef tuple decode_arguments(const uint8_t* data, size_t length, list inputs):
    cdef object value, args, kwargs
    if length >= 2 and data[1] > 1:
        raise FrameError(f"the payload of arguments has the unknown shape {data[1]}")
    value = decode_payload(data, length, inputs)
    if type(value) is tuple:
        if data[1] == 0:
            return (value, None)
        if len(<tuple>value) == 2:
            args, kwargs = <tuple>value
            if type(args) is tuple and type(kwargs) is dict:
                return <tuple>value
    raise FrameError(f"the payload of arguments holds a {type(value).__name__} that is no arguments")


def dependency(Py_ssize_t number) -> object:
    """The value of input `number` of the task whose arguments are being decoded on this thread.

    A pickle of arguments calls it in the place of each reference to another task.

    Parameters
    ----------
    number : int
        The number of the input.

    Returns
    -------
    object
        The value of the input itself, not a copy.

    Raises
    ------
    FrameError
        If the task does not have such an input.
    RuntimeError
        If no arguments are being decoded on this thread.
    """
    if decoding_inputs == NULL:
        raise RuntimeError("a reference to the input of a task has a value only while arguments are decoded")
    if number < 0 or number >= PyList_GET_SIZE(<list>decoding_inputs):
        raise FrameError(f"a pickle refers to input {number}, which does not exist")
    return <object>PyList_GET_ITEM(<list>decoding_inputs, number)


# ---------------------------------------------------------------------------------------------------------------------
# For Python callers

cdef bytes to_bytes(vector[uint8_t]& out):
    return PyBytes_FromStringAndSize(<const char*>out.data(), <Py_ssize_t>out.size())


def encode_value(object value, Py_ssize_t limit=ARGUMENTS_LIMIT):
    """The ENCODED payload of a value.

    Parameters
    ----------
    value : object
        What to encode.
    limit : int
        The most bytes that the payload may have.

    Returns
    -------
    bytes or None
        None if the value cannot be encoded (it can still be pickled), or not within the limit.

    Examples
    --------
    >>> decode_value(encode_value({"a": [1, 2.5]}))
    {'a': [1, 2.5]}
    """
    cdef vector[uint8_t] out
    return to_bytes(out) if encode_into(out, value, limit) else None


def encode_call(tuple args, dict kwargs=None, type reference_type=None):
    """The ENCODED payload of arguments, and the references in it.

    Parameters
    ----------
    args, kwargs : tuple, dict or None
        The arguments of a call.
    reference_type : type or None
        Items of exactly this type stand for the results of other tasks.

    Returns
    -------
    tuple of bytes and list, or None
        None if the arguments cannot be encoded (they can still be pickled).
    """
    cdef vector[uint8_t] out
    cdef list references = []
    if encode_arguments_into(out, args, kwargs, reference_type, references):
        return to_bytes(out), references
    return None


def decode_value(object payload):
    """The value of a payload of any encoding.

    Parameters
    ----------
    payload : bytes-like
        What `encode_value` or `fastdist.protocol.results.dumps` made.

    Raises
    ------
    FrameError
        If these bytes are no payload.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        return decode_result(<const uint8_t*>view.buf, <size_t>view.len)
    finally:
        PyBuffer_Release(&view)


def decode_call(object payload, list inputs):
    """The arguments of a payload of any encoding.

    Parameters
    ----------
    payload : bytes-like
        What `encode_call` or `fastdist.protocol.arguments.serialize_arguments` made.
    inputs : list
        The values of its references, in their order.

    Returns
    -------
    tuple
        ``(args, kwargs)``; kwargs is None if there are none.

    Raises
    ------
    FrameError
        If these bytes are no payload, or refer to inputs that do not exist.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        return decode_arguments(<const uint8_t*>view.buf, <size_t>view.len, inputs)
    finally:
        PyBuffer_Release(&view)


def own_buffer(object buffer):
    """Memory that an unpickled object may keep and write to.

    The buffer itself if it is writable, aligned and at least half of the memory that it would keep alive; else a copy.

    Parameters
    ----------
    buffer : memoryview
        An out-of-band buffer as it came from a connection: contiguous bytes.
    """
    cdef Py_buffer view
    cdef bint keep
    owner = buffer.obj
    whole = memoryview(owner).nbytes if owner is not None else buffer.nbytes
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        keep = not view.readonly and <uintptr_t>view.buf % 16 == 0 and 2 * view.len >= whole
        return buffer if keep else PyByteArray_FromStringAndSize(<const char*>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
