# The values of tasks, from and to the store of a worker.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.worker.model cimport TaskRecord
from fastdist.worker.reports cimport Reports


cdef class Values(Reports):
    cdef readonly object store
    cdef dict values                    # the dict of the store that takes values of at most `small` bytes, or None
    cdef object large                   # where the other values are, or None
    cdef Py_ssize_t small
    cdef Py_ssize_t room                # how many values that dict takes
    cdef object measure
    cdef bint by_reference
    cdef Py_ssize_t inline_limit
    cdef dict types                     # type -> type number
    cdef dict type_names

    cdef list inputs_of(self, TaskRecord* record)
    cdef uint32_t type_number(self, type kind) except? 0
    cdef bint encode(self, vector[uint8_t]& out, object value) except -1
    cdef object value_of(self, uint64_t task_id)
    cdef int keep(self, uint64_t task_id, object value, Py_ssize_t nbytes) except -1
    cdef int drop(self, uint64_t task_id) except -1
