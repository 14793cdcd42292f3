# The execution of tasks: what the execution threads of one worker share.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport TaskRecord

# What one place (a thread, or a coroutine on the loop) executes.
cdef struct Running:
    TaskRecord* record
    double start
    bint reported


cdef class Function:
    cdef object call
    cdef bint is_coroutine


cdef class Task:
    cdef Execution execution
    cdef TaskRecord* record
    cdef uint32_t place
    cdef readonly object worker


cdef class Execution:
    cdef readonly WorkerCore core
    cdef readonly object store
    cdef dict values                    # the dict of the store that takes values of at most `small` bytes, or None
    cdef object large                   # where the other values are, or None
    cdef Py_ssize_t small
    cdef Py_ssize_t room                # how many values that dict takes
    cdef object worker
    cdef object send
    cdef object loop
    cdef object measure
    cdef bint by_reference
    cdef Py_ssize_t inline_limit
    cdef dict types                     # type -> type number
    cdef dict type_names
    cdef list free_places               # of the page, for coroutines
    cdef set coroutines
    cdef vector[Running] running
    cdef uint64_t* page
    cdef uint64_t own_page[512]
    cdef Py_buffer mapped
    cdef bint is_mapped
    cdef bint flushing
    cdef bint flush_again
    cdef double timer_at
    cdef object timer
    cdef readonly list threads

    cdef TaskRecord* execute(self, TaskRecord* record, Task task) except? NULL
    cdef TaskRecord* complete(self, TaskRecord* record, object result, double start, bint go_on) except? NULL
    cdef int fail(self, TaskRecord* record, object error, double start) except -1
    cdef int hand_over(self, TaskRecord* record, Function function, tuple args, dict kwargs) except -1
    cdef Function function_of(self, uint32_t function_id)
    cdef list inputs_of(self, TaskRecord* record)
    cdef uint32_t type_number(self, type kind) except? 0
    cdef bint encode(self, vector[uint8_t]& out, object value) except -1
    cdef object value_of(self, uint64_t task_id)
    cdef int keep(self, uint64_t task_id, object value, Py_ssize_t nbytes) except -1
    cdef int drop(self, uint64_t task_id) except -1
    cdef int begin(self, TaskRecord* record, uint32_t place, double now) except -1
    cdef void end(self, uint32_t place) noexcept
    cdef int arm_from_thread(self, double when) except -1
    cdef double next_tick(self) noexcept
    cdef bint rows_are_old(self, double now) noexcept
