"""Deterministic keys: the same function and inputs give the same `name-<32 hex>` on every machine.

A value is written down as bytes in which different values always differ (types tagged, lengths first), and those bytes
are hashed with SipHash-2-4-128 under a fixed key. Builtin containers and numpy data are walked here, in C; functions,
classes and other objects are first taken apart by `parts.py`. Every nested container is replaced by its digest, so sets
and dicts can be put in the order of their digests, and shared structure is hashed once. Values that are cyclic or
nested too deep are pickled whole. May import `fastdist.errors` and `fastdist._core.keys`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy
from libcpp.algorithm cimport sort
from libcpp.pair cimport pair
from libcpp.vector cimport vector

from fastdist._core.keys.canonical cimport encode_key
from fastdist._core.keys.siphash cimport siphash_2_4_128

import functools
import pickle
import sys

from fastdist._core.keys.parts import parts_of
from fastdist.errors import NondeterministicError

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1

ctypedef pair[uint64_t, uint64_t] Digest

# The fixed key of the hash: changing it changes every key, so it never changes.
cdef uint64_t SEED0 = 0x6661737464697374
cdef uint64_t SEED1 = 0x6B6579732D763031

cdef enum:
    MAX_DEPTH = 64
    MEMO_AFTER = 1000       # containers walked before remembering them by identity is worth its price
    LONG_DATA = 1024        # longer text and bytes are hashed where they are instead of being copied

cdef enum Tag:
    NONE = 1
    FALSE
    TRUE
    INT
    LARGE_INT
    FLOAT
    COMPLEX
    TEXT
    LONG_TEXT
    SURROGATE_TEXT
    BYTES
    LONG_BYTES
    BYTEARRAY
    TUPLE
    LIST
    SET
    FROZENSET
    DICT
    SLICE
    ARRAY
    OBJECT_ARRAY
    NUMPY_SCALAR
    FUTURE
    PARTS
    BACK_REFERENCE
    PICKLE

cdef object ndarray_type = None
cdef object numpy_scalar_type = None


cdef int look_for_numpy() except -1:
    global ndarray_type, numpy_scalar_type
    numpy = sys.modules.get("numpy")
    # A module that is still being imported has no array type yet.
    if numpy is not None and hasattr(numpy, "ndarray") and hasattr(numpy, "generic"):
        numpy_scalar_type = numpy.generic
        ndarray_type = numpy.ndarray
    return 0


cdef class _TooDeep(Exception):
    """A value is cyclic or nested too deep for the walk."""


@cython.final
@cython.auto_pickle(False)
cdef class _Encoder:
    # Writes values down; one encoder serves one call at a time.
    cdef vector[uint8_t] buffer
    cdef int depth
    cdef size_t walked
    cdef dict memo              # id -> (value, digest) of containers, once many have been walked
    cdef dict active            # id -> nesting of the objects being taken apart
    cdef bint doubtful          # user code had a say: the walk must be repeated to see if it gives the same

    cdef void reset(self) noexcept:
        self.buffer.clear()
        self.depth = 0
        self.walked = 0
        self.memo = None
        self.active = None
        self.doubtful = False

    # Raw output

    cdef inline void put(self, const void* data, size_t length) noexcept nogil:
        cdef size_t old = self.buffer.size()
        self.buffer.resize(old + length)
        memcpy(self.buffer.data() + old, data, length)

    cdef inline void put_tag(self, Tag tag) noexcept nogil:
        self.buffer.push_back(<uint8_t>tag)

    cdef inline void put_number(self, uint64_t number) noexcept nogil:
        self.put(&number, 8)

    cdef void put_data(self, Tag tag, Tag long_tag, const void* data, size_t length) noexcept nogil:
        cdef uint64_t[2] digest
        if length < LONG_DATA:
            self.put_tag(tag)
            self.put_number(length)
            self.put(data, length)
        else:
            siphash_2_4_128(<const uint8_t*>data, length, SEED0, SEED1, digest)
            self.put_tag(long_tag)
            self.put_number(length)
            self.put(digest, 16)

    # The digest of everything written since `start`, which is taken back.
    cdef Digest take_digest(self, size_t start) noexcept nogil:
        cdef uint64_t[2] digest
        siphash_2_4_128(self.buffer.data() + start, self.buffer.size() - start, SEED0, SEED1, digest)
        self.buffer.resize(start)
        return Digest(digest[0], digest[1])

    cdef void put_sorted(self, vector[Digest]& digests) noexcept nogil:
        cdef Digest digest
        sort(digests.begin(), digests.end())
        self.put_number(digests.size())
        for digest in digests:
            self.put_number(digest.first)
            self.put_number(digest.second)

    # Values

    cdef int value(self, object value) except -1:
        cdef double number
        if value is None:
            self.put_tag(NONE)
        elif value is True:
            self.put_tag(TRUE)
        elif value is False:
            self.put_tag(FALSE)
        elif type(value) is int:
            self.integer(value)
        elif type(value) is float:
            number = <double>value
            self.put_tag(FLOAT)
            self.put(&number, 8)
        elif type(value) is str:
            self.text(value)
        elif type(value) is bytes:
            self.put_data(BYTES, LONG_BYTES, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
        else:
            self.rarer_value(value)
        return 0

    cdef int rarer_value(self, object value) except -1:
        cdef double number
        kind = type(value)
        if kind is tuple or kind is list or kind is dict or kind is set or kind is frozenset:
            self.container(value)
        elif kind is complex:
            self.put_tag(COMPLEX)
            number = value.real
            self.put(&number, 8)
            number = value.imag
            self.put(&number, 8)
        elif kind is bytearray:
            self.put_tag(BYTEARRAY)
            self.value(bytes(value))
        elif kind is slice:
            self.put_tag(SLICE)
            self.nested(value.start)
            self.nested(value.stop)
            self.nested(value.step)
        else:
            self.container(value)
        return 0

    cdef int nested(self, object value) except -1:
        self.enter()
        self.value(value)
        self.depth -= 1
        return 0

    cdef int enter(self) except -1:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _TooDeep()
        return 0

    cdef int integer(self, object value) except -1:
        cdef int overflow
        cdef long long number = PyLong_AsLongLongAndOverflow(value, &overflow)
        cdef bytes raw
        if not overflow:
            self.put_tag(INT)
            self.put_number(<uint64_t>number)
        else:
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.put_tag(LARGE_INT)
            self.put_data(BYTES, LONG_BYTES, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw))
        return 0

    cdef int text(self, object value) except -1:
        cdef Py_ssize_t size
        cdef const char* data
        try:
            data = PyUnicode_AsUTF8AndSize(value, &size)
        except UnicodeEncodeError:
            # Lone surrogates: legal in a str, and written in a form that no other text has.
            self.put_tag(SURROGATE_TEXT)
            self.value(value.encode("utf-8", "surrogatepass"))
            return 0
        self.put_data(TEXT, LONG_TEXT, data, size)
        return 0

    # Containers and objects: written as one digest each

    cdef int container(self, object value) except -1:
        cdef size_t start
        cdef Digest digest
        cdef object identity = None
        self.walked += 1
        if self.walked > MEMO_AFTER:
            identity = id(value)
            if self.memo is None:
                self.memo = {}
            known = self.memo.get(identity)
            if known is not None:
                self.put(PyBytes_AS_STRING(known[1]), 17)
                return 0
        start = self.buffer.size()
        self.enter()
        self.contents(value)
        self.depth -= 1
        digest = self.take_digest(start)
        self.put_tag(PARTS)
        self.put_number(digest.first)
        self.put_number(digest.second)
        if identity is not None:
            self.memo[identity] = (value, PyBytes_FromStringAndSize(<const char*>self.buffer.data() + start, 17))
        return 0

    cdef int contents(self, object value) except -1:
        kind = type(value)
        if kind is tuple:
            self.put_tag(TUPLE)
            self.put_number(len(<tuple>value))
            for item in <tuple>value:
                self.value(item)
        elif kind is list:
            self.list_contents(<list>value)
        elif kind is dict:
            self.dict_contents(<dict>value)
        elif kind is set or kind is frozenset:
            self.put_tag(SET if kind is set else FROZENSET)
            self.set_contents(value)
        else:
            self.object_contents(value)
        return 0

    cdef int list_contents(self, list value) except -1:
        cdef Py_ssize_t length = len(value)
        self.put_tag(LIST)
        self.put_number(length)
        for item in value:
            self.value(item)
        if len(value) != length:
            raise NondeterministicError("a list changed while it was hashed")
        return 0

    cdef int dict_contents(self, dict value) except -1:
        cdef vector[Digest] digests
        cdef size_t start = 0
        digests.reserve(len(value))
        self.put_tag(DICT)
        start = self.buffer.size()
        for key, item in value.items():
            self.value(key)
            self.value(item)
            digests.push_back(self.take_digest(start))
        self.put_sorted(digests)
        return 0

    cdef int set_contents(self, object value) except -1:
        cdef vector[Digest] digests
        cdef size_t start = self.buffer.size()
        digests.reserve(len(value))
        for item in value:
            self.value(item)
            digests.push_back(self.take_digest(start))
        self.put_sorted(digests)
        return 0

    cdef int object_contents(self, object value) except -1:
        if ndarray_type is None:
            look_for_numpy()
        if ndarray_type is not None:
            if type(value) is ndarray_type:
                return self.array(value)
            if isinstance(value, numpy_scalar_type):
                self.put_tag(NUMPY_SCALAR)
                self.value(value.dtype.str)
                if value.dtype.names is not None:
                    self.value(value.dtype)
                self.value(value.tobytes())
                return 0
        if getattr(type(value), "__fastdist_key__", None) is not None:
            self.put_tag(FUTURE)
            self.value(value.__fastdist_key__)
            return 0
        return self.parts(value)

    cdef int array(self, object value) except -1:
        cdef Py_buffer view
        dtype = value.dtype
        self.put_tag(OBJECT_ARRAY if dtype.hasobject else ARRAY)
        self.value(dtype.str)
        if dtype.names is not None or dtype.subdtype is not None or dtype.hasobject:
            self.value(dtype)
        self.value(value.shape)
        if dtype.hasobject:
            # Not tolist(): that would open arrays and lists that are items.
            return self.value([item for item in value.flat])
        if not value.flags.c_contiguous:
            value = value.copy("C")
        if value.size == 0 or dtype.itemsize == 0:
            return 0
        value = value.reshape(-1).view("u1")
        PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
        self.put_data(BYTES, LONG_BYTES, view.buf, view.len)
        PyBuffer_Release(&view)
        return 0

    cdef int parts(self, object value) except -1:
        identity = id(value)
        if self.active is None:
            self.active = {}
        nesting = self.active.get(identity)
        if nesting is not None:
            self.put_tag(BACK_REFERENCE)
            self.put_number(nesting)
            return 0
        self.active[identity] = len(self.active)
        label, parts, certain = parts_of(value)
        if not certain:
            self.doubtful = True
        self.put_tag(PARTS)
        self.value(label)
        self.value(parts)
        del self.active[identity]
        return 0


# The digest of `values`, which follow `head` (NULL, or 16 bytes of an earlier digest).
cdef Digest digest_of(_Encoder encoder, const uint8_t* head, tuple values) except *:
    cdef Digest digest, again
    try:
        digest = walk(encoder, head, values)
        if encoder.doubtful:
            again = walk(encoder, head, values)
            if digest.first != again.first or digest.second != again.second:
                raise NondeterministicError(
                    "hashing the same function and arguments twice gave two results: they have no deterministic key"
                )
        return digest
    except _TooDeep:
        return digest_of_pickle(encoder, head, values)
    except (NondeterministicError, MemoryError):
        raise
    except Exception as error:
        raise NondeterministicError(f"no deterministic key: {error}") from error
    finally:
        encoder.reset()


cdef Digest walk(_Encoder encoder, const uint8_t* head, tuple values) except *:
    encoder.reset()
    if head != NULL:
        encoder.put(head, 16)
    encoder.put_number(len(values))
    for value in values:
        encoder.value(value)
    return encoder.take_digest(0)


cdef Digest digest_of_pickle(_Encoder encoder, const uint8_t* head, tuple values) except *:
    cdef bytes data
    try:
        data = pickle.dumps(values, 4)
        same = data == pickle.dumps(values, 4)
    except Exception as error:
        raise NondeterministicError(f"no deterministic key: {error}") from error
    if not same:
        raise NondeterministicError("two pickles of the same deeply nested value differ")
    encoder.reset()
    if head != NULL:
        encoder.put(head, 16)
    encoder.put_tag(PICKLE)
    encoder.put(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return encoder.take_digest(0)


cdef void write_hex(const Digest& digest, char* target) noexcept nogil:
    cdef const char* digits = "0123456789abcdef"
    cdef uint64_t word = digest.first
    cdef int i
    for i in range(32):
        if i == 16:
            word = digest.second
        target[i] = digits[(word >> (60 - 4 * (i & 15))) & 15]


# What users call

def tokenize(*args, **kwargs) -> str:
    """32 hexadecimal digits that stand for the values of the arguments.

    Equal values of equal types give equal tokens, in any process on any machine; the order of keyword arguments does
    not matter.

    Raises
    ------
    NondeterministicError
        If an argument has no deterministic form, such as a lock or an open file.

    Examples
    --------
    >>> tokenize([1, 2]) == tokenize([1, 2])
    True
    >>> tokenize(1) == tokenize(1.0)
    False
    """
    cdef char[32] text
    cdef Digest digest = digest_of(_Encoder(), NULL, (args, kwargs))
    write_hex(digest, text)
    return text[:32].decode("ascii")


def function_name(func) -> str:
    """The short name of a callable, by which its tasks are called.

    Examples
    --------
    >>> function_name(len)
    'len'
    >>> function_name(lambda x: x)
    'lambda'
    """
    for _ in range(MAX_DEPTH):
        if not isinstance(func, functools.partial):
            break
        func = func.func
    name = getattr(func, "__name__", None)
    if not isinstance(name, str) or not name:
        name = type(func).__name__
    return name.strip("<>")[:50]


def task_key(func, tuple args not None, kwargs=None, name=None) -> str | None:
    """The key of the task that calls `func(*args, **kwargs)`.

    Parameters
    ----------
    func : callable
    args : tuple
    kwargs : dict, optional
    name : str, optional
        The part before the hash; the name of the function by default.

    Returns
    -------
    str or None
        `name-<32 hex>`, or None if function or arguments have no deterministic form: the call counts as impure.
    """
    cdef bytes key = KeyMaker(func, kwargs, name).key(args)
    return None if key is None else key[1:].decode("utf-8")


@cython.final
@cython.auto_pickle(False)
cdef class KeyMaker:
    """Makes the keys of many calls of one function.

    The function and the keyword arguments are hashed once, the positional arguments for each key. A key equals what
    `task_key` gives for the same call.

    Parameters
    ----------
    func : callable
    kwargs : dict, optional
        The keyword arguments that all calls share.
    name : str, optional
        The part before the hash; the name of the function by default.

    Attributes
    ----------
    deterministic : bool
        Whether function and keyword arguments have a deterministic form; without one, each key is None.

    Examples
    --------
    >>> KeyMaker(len, name="size").key(("x",))[:6]
    b'ssize-'
    """

    cdef readonly bint deterministic
    cdef readonly str name
    cdef bytes head             # the canonical key up to the hash
    cdef uint8_t[16] base       # digest of function and keyword arguments
    cdef _Encoder encoder

    def __init__(self, func, kwargs=None, name=None):
        cdef Digest digest
        self.name = function_name(func) if name is None else name
        self.head = encode_key(self.name + "-")
        self.encoder = _Encoder()
        try:
            digest = digest_of(self.encoder, NULL, (func, {} if kwargs is None else dict(kwargs)))
        except NondeterministicError:
            self.deterministic = False
            return
        memcpy(self.base, &digest.first, 8)
        memcpy(self.base + 8, &digest.second, 8)
        self.deterministic = True

    def key(self, tuple args not None):
        """The canonical key bytes of one call, or None if it has no deterministic key."""
        cdef Digest digest
        cdef bytes key
        cdef char* text
        cdef _Encoder encoder = self.encoder
        cdef Py_ssize_t length = PyBytes_GET_SIZE(self.head)
        if not self.deterministic:
            return None
        # Hashing may run Python code, and another thread, or that code itself, may come here again meanwhile.
        self.encoder = None
        if encoder is None:
            encoder = _Encoder()
        try:
            digest = digest_of(encoder, self.base, args)
        except NondeterministicError:
            return None
        finally:
            self.encoder = encoder
        key = PyBytes_FromStringAndSize(NULL, length + 32)
        text = PyBytes_AS_STRING(key)
        memcpy(text, PyBytes_AS_STRING(self.head), length)
        write_hex(digest, text + length)
        return key
