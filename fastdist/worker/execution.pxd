# The execution of tasks: what the execution threads of one worker share.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport TaskRecord
from fastdist.worker.reports cimport Reports

cdef class Function:
    cdef object call
    cdef bint is_coroutine


cdef class Task:
    cdef Execution execution
    cdef TaskRecord* record
    cdef uint32_t place
    cdef readonly object worker
    cdef unsigned long thread           # that executes it; 0 = the loop does
    cdef uint32_t depth                 # blocks that wait, inside each other
    cdef bint seceded
    cdef double left_at                 # when it gave its slot back
    cdef double waited                  # seconds without a slot, so far

    cdef int go_out(self, bint seceded) except -1
    cdef int come_back(self) except -1
    cdef void note_back(self) noexcept
    cdef double end(self) noexcept


cdef class Execution(Reports):
    cdef readonly object store
    cdef dict values                    # the dict of the store that takes values of at most `small` bytes, or None
    cdef object large                   # where the other values are, or None
    cdef Py_ssize_t small
    cdef Py_ssize_t room                # how many values that dict takes
    cdef object worker
    cdef object comm
    cdef TaskRecord* found
    cdef object measure
    cdef bint by_reference
    cdef Py_ssize_t inline_limit
    cdef dict types                     # type -> type number
    cdef dict type_names
    cdef set coroutines
    cdef readonly list threads
    cdef public object recorder         # is told of each execution, while somebody wants to know, else None
    cdef str thread_name
    cdef int n_threads
    cdef int n_out                      # threads whose task holds no slot
    cdef int max_threads

    cdef TaskRecord* watch_connection(self) except? NULL
    cdef TaskRecord* execute(self, TaskRecord* record, Task task) except? NULL
    cdef TaskRecord* complete(self, TaskRecord* record, object result, double start, bint go_on) except? NULL
    cdef int fail(self, TaskRecord* record, object error, double start) except -1
    cdef int replace_thread(self) except -1
    cdef TaskRecord* end_coroutine(self, Task task, double* start) noexcept
    cdef int hand_over(self, TaskRecord* record, Function function, tuple args, dict kwargs) except -1
    cdef Function function_of(self, uint32_t function_id)
    cdef list inputs_of(self, TaskRecord* record)
    cdef uint32_t type_number(self, type kind) except? 0
    cdef bint encode(self, vector[uint8_t]& out, object value) except -1
    cdef object value_of(self, uint64_t task_id)
    cdef int keep(self, uint64_t task_id, object value, Py_ssize_t nbytes) except -1
    cdef int drop(self, uint64_t task_id) except -1
