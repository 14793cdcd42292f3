"""The values of tasks, from and to the store of a worker, and the types by which the scheduler hears of them.

May import: `fastdist._core`, the reports, the stores.
"""

from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.limits cimport LONG_MAX
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.codec.values cimport encode_into
from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport TaskRecord, edges_of
from fastdist.worker.reports cimport Reports

from fastdist.worker.store import SMALL_BYTES, DictStore, SplitStore

cdef enum:
    MAX_TYPES = 10_000          # types and names of types that are remembered

cdef list NO_INPUTS = []


cdef class Values(Reports):
    """What one worker computed, and what it needs for that; a part of `Execution`."""

    def __cinit__(self, WorkerCore core, object store, *, object measure, bint by_reference=False,
                  Py_ssize_t inline_limit=4096, **of_execution):
        self.store = store
        self.values = store.values if type(store) in (DictStore, SplitStore) else None
        self.large = store.large if type(store) is SplitStore else (store if self.values is None else None)
        self.small = SMALL_BYTES if type(store) is SplitStore else <Py_ssize_t>LONG_MAX
        self.room = store.room if type(store) is SplitStore else <Py_ssize_t>LONG_MAX
        self.measure = measure
        self.by_reference = by_reference
        self.inline_limit = inline_limit
        self.types = {}
        self.type_names = {}

    def drop_values(self, list task_ids) -> None:
        """Take the values of tasks that the core has forgotten out of the store."""
        cdef uint64_t task_id
        for task_id in task_ids:
            self.drop(task_id)

    cdef list inputs_of(self, TaskRecord* record):
        """The values of the inputs; None if one has been freed since the task became ready."""
        cdef uint32_t i
        if record.n_inputs == 0:
            return NO_INPUTS
        try:
            return [self.value_of(edges_of(record)[i].task_id) for i in range(record.n_inputs)]
        except KeyError:
            return None

    cdef uint32_t type_number(self, type kind) except? 0:
        cdef PyObject* known = PyDict_GetItem(self.types, kind)
        if known != NULL:
            return <object>known
        return self.name_type(kind)

    def name_type(self, kind) -> int:
        """The number of a type; a new name is sent with the next DONE frame."""
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        number = self.type_names.get(name)
        if number is None:
            if len(self.type_names) >= MAX_TYPES:
                return 0
            number = self.type_names[name] = self.core.add_type(name.encode("utf-8", "backslashreplace"))
        if len(self.types) >= MAX_TYPES:
            self.types.clear()
        self.types[kind] = number
        return number

    def number_of(self, object value) -> int:
        """The number of the type of a value."""
        return self.type_number(type(value))

    cdef bint encode(self, vector[uint8_t]& out, object value) except -1:
        """Append the bytes of a result that may travel with its report."""
        if self.by_reference and not (
            value is None or type(value) in (bool, int, float, complex, str, bytes)
        ):
            return False
        return encode_into(out, value, self.inline_limit)

    cdef object value_of(self, uint64_t task_id):
        """A value of the store; KeyError if there is none."""
        cdef PyObject* value
        number = task_id
        if self.values is not None:
            value = PyDict_GetItem(self.values, number)
            if value != NULL:
                return <object>value
            if self.large is None:
                raise KeyError(number)
        return self.large.get(number)

    cdef int keep(self, uint64_t task_id, object value, Py_ssize_t nbytes) except -1:
        """What `put` of the store does, without a call for small values."""
        if self.values is not None and nbytes <= self.small and len(self.values) < self.room:
            self.values[task_id] = value
        else:
            self.store.put(task_id, value, nbytes)
        return 0

    cdef int drop(self, uint64_t task_id) except -1:
        number = task_id
        if self.values is not None:
            # The value goes when `value` does, after the dict is consistent again.
            value = self.values.pop(number, self)
            if value is not self or self.large is None:
                return 0
        self.large.drop(number)
        return 0
