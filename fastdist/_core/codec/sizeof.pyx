"""How much memory a value takes: counted for builtins and numpy arrays, asked from dask for what dask knows.

Long containers are sampled, and a walk visits a bounded number of objects: the size of any value is known in well under
a millisecond. What is met twice is counted once.

May import: nothing; dask only where it is loaded already, or for an object of a library that dask knows.
"""

import importlib.util
import sys
from weakref import WeakSet

import cython

from cpython.dict cimport PyDict_Next
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE

cdef extern from "Python.h":
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    int PyUnicode_KIND(object text) noexcept
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1
    bint PyUnicode_IS_COMPACT_ASCII(object text) noexcept
    Py_ssize_t PyBytes_GET_SIZE(object data) noexcept

cdef enum:
    SAMPLES = 64            # items of a longer container that stand for all of them
    MAX_VISITS = 4096       # objects that one walk looks into
    MAX_DEPTH = 32
    POINTER = 8

DEFAULT_SIZE = 1_000_000
"""Bytes assumed for an object whose class cannot tell its size."""

KNOWN_TO_DASK = frozenset({"pandas", "pyarrow", "scipy", "cupy", "cudf", "rmm", "numba", "xarray", "sparse"})

getsizeof = sys.getsizeof
cdef object plain_sizeof = object.__sizeof__
broken_types = WeakSet()


@cython.final
cdef class _Walk:
    cdef Py_ssize_t visits
    cdef set seen           # ids of what can be met twice and is worth counting once

    cdef Py_ssize_t size(self, object value, int depth) except -1:
        cdef type kind = type(value)
        if kind is int:
            return size_of_int(value)
        if kind is float or kind is bool or kind is complex or value is None:
            return 32
        if kind is str:
            if PyUnicode_IS_COMPACT_ASCII(value):
                return 49 + PyUnicode_GET_LENGTH(value)
            return 73 + PyUnicode_GET_LENGTH(value) * PyUnicode_KIND(value)
        if kind is bytes:
            return 33 + PyBytes_GET_SIZE(value)
        address = id(value)
        if address in self.seen:
            return 0
        if depth > MAX_DEPTH or self.visits >= MAX_VISITS:
            return shallow(value)
        self.visits += 1
        self.seen.add(address)
        if isinstance(value, tuple):
            return shallow(value) + self.tuple_items(<tuple>value, depth + 1)
        if isinstance(value, list):
            return shallow(value) + self.list_items(<list>value, depth + 1)
        if isinstance(value, dict):
            return shallow(value) + self.dict_items(<dict>value, depth + 1)
        if isinstance(value, (set, frozenset)):
            return shallow(value) + self.set_items(value, depth + 1)
        if kind is memoryview:
            return getsizeof(value) + value.nbytes
        return self.size_of_other(value, kind, depth)

    cdef Py_ssize_t tuple_items(self, tuple value, int depth) except -1:
        cdef Py_ssize_t i, count = PyTuple_GET_SIZE(value), total = 0
        cdef Py_ssize_t step = max(1, count // SAMPLES), taken = 0
        for i in range(0, count, step):
            total += self.size(<object>PyTuple_GET_ITEM(value, i), depth)
            taken += 1
        return scaled(total, taken, count)

    cdef Py_ssize_t list_items(self, list value, int depth) except -1:
        cdef Py_ssize_t i = 0, count = PyList_GET_SIZE(value), total = 0
        cdef Py_ssize_t step = max(1, count // SAMPLES), taken = 0
        # The user's __sizeof__ may change the list meanwhile.
        while i < PyList_GET_SIZE(value):
            total += self.size(<object>PyList_GET_ITEM(value, i), depth)
            taken += 1
            i += step
        return scaled(total, taken, count)

    cdef Py_ssize_t dict_items(self, dict value, int depth) except -1:
        cdef Py_ssize_t position = 0, count = len(value), total = 0, taken = 0
        cdef PyObject* key_pointer
        cdef PyObject* item_pointer
        cdef object key, item
        while taken < 2 * SAMPLES and PyDict_Next(value, &position, &key_pointer, &item_pointer):
            key, item = <object>key_pointer, <object>item_pointer
            total += self.size(key, depth) + self.size(item, depth)
            taken += 1
        return scaled(total, taken, count)

    cdef Py_ssize_t set_items(self, object value, int depth) except -1:
        cdef Py_ssize_t count = len(value), total = 0, taken = 0
        # A copy of the first items: the user's __sizeof__ may change the set meanwhile.
        cdef list sample = []
        for item in value:
            sample.append(item)
            if len(sample) >= 2 * SAMPLES:
                break
        for item in sample:
            total += self.size(item, depth)
            taken += 1
        return scaled(total, taken, count)

    cdef Py_ssize_t size_of_other(self, object value, type kind, int depth) except -1:
        try:
            if kind in broken_types:
                return DEFAULT_SIZE
            numpy = sys.modules.get("numpy")
            if numpy is not None and kind is getattr(numpy, "ndarray", None):
                return self.array_size(value, depth)
            implementation = implementation_of_dask(kind)
            if implementation is not None:
                return checked(implementation(value))
            if kind.__sizeof__ is plain_sizeof and hasattr(value, "__dict__"):
                return getsizeof(value) + self.size(value.__dict__, depth + 1)
            return getsizeof(value)
        except Exception:  # the user's class is broken: that must not fail the task that made a value of it
            broken_types.add(kind)
            return DEFAULT_SIZE

    cdef Py_ssize_t array_size(self, object array, int depth) except -1:
        cdef Py_ssize_t total = array.itemsize
        for length, stride in zip(array.shape, array.strides):
            # A broadcast dimension takes no memory.
            total *= length if stride or not length else 1
        if array.dtype.hasobject and array.size:
            step = max(1, array.size // SAMPLES)
            sample = array.flat[::step].tolist()
            total += scaled(self.list_items(sample, depth + 1), len(sample), array.size)
        return 112 + total


cdef Py_ssize_t size_of_int(object value) except -1:
    cdef int overflow = 0
    PyLong_AsLongLongAndOverflow(value, &overflow)
    return getsizeof(value) if overflow else 32


cdef Py_ssize_t scaled(Py_ssize_t total, Py_ssize_t taken, Py_ssize_t count) except -1:
    if taken == 0 or taken >= count:
        return total
    return <Py_ssize_t>(<double>total / <double>taken * <double>count)


cdef Py_ssize_t shallow(object value) except -1:
    """What the object itself takes, without what it refers to."""
    cdef type kind = type(value)
    if kind is list:
        return 56 + POINTER * PyList_GET_SIZE(<list>value)
    if kind is tuple:
        return 56 + POINTER * PyTuple_GET_SIZE(<tuple>value)
    try:
        return DEFAULT_SIZE if kind in broken_types else getsizeof(value)
    except Exception:  # as above
        broken_types.add(kind)
        return DEFAULT_SIZE


cdef Py_ssize_t checked(object size) except -1:
    cdef Py_ssize_t number = int(size)
    if number < 0:
        raise ValueError(f"a size of {number} bytes")
    return number


cdef object implementation_of_dask(type kind):
    """The function by which dask sizes objects of this type; None if it has none for this type."""
    cdef str library = kind.__module__.partition(".")[0]
    # A size must not depend on what else happens to be loaded.
    if library in sys.stdlib_module_names:
        return None
    if "dask" not in sys.modules and (library not in KNOWN_TO_DASK or importlib.util.find_spec("dask") is None):
        return None
    from dask.sizeof import sizeof as dask_sizeof

    implementation = dask_sizeof.dispatch(kind)
    return None if implementation is dask_sizeof.dispatch(object) else implementation


cpdef Py_ssize_t sizeof(object value) except -1:
    """How many bytes of memory a value takes.

    Counts what builtin containers, plain objects and numpy arrays hold; a view of an array counts its own elements.
    Long containers are estimated from a sample.

    Parameters
    ----------
    value : object
        Anything. An object whose ``__sizeof__`` fails counts `DEFAULT_SIZE` bytes.

    Examples
    --------
    >>> 1_000 <= sizeof(b"x" * 1_000) < 1_100
    True
    """
    cdef _Walk walk
    cdef type kind = type(value)
    if kind is int:
        return size_of_int(value)
    walk = _Walk.__new__(_Walk)
    walk.visits = 0
    walk.seen = set()
    return walk.size(value, 0)
