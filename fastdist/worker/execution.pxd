# The execution of tasks: what the execution threads of one worker share.
from libc.stdint cimport uint32_t

from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport TaskRecord
from fastdist.worker.interrupting cimport Attempt, Stopper
from fastdist.worker.values cimport Values

cdef class Function:
    cdef object call
    cdef bint is_coroutine


cdef class Task(Attempt):
    cdef Execution execution
    cdef uint32_t place
    cdef readonly object worker
    cdef uint32_t depth                 # blocks that wait, inside each other
    cdef bint seceded
    cdef double left_at                 # when it gave its slot back
    cdef double waited                  # seconds without a slot, so far

    cdef int go_out(self, bint seceded) except -1
    cdef int come_back(self) except -1
    cdef void note_back(self) noexcept
    cdef double end(self) noexcept


cdef class Execution(Values):
    cdef object worker
    cdef object comm
    cdef TaskRecord* found
    cdef set coroutines
    cdef readonly list threads
    cdef public object recorder         # is told of each execution, while somebody wants to know, else None
    cdef str thread_name
    cdef readonly Stopper stopper
    cdef int n_threads
    cdef int n_out                      # threads whose task holds no slot
    cdef int max_threads

    cdef TaskRecord* watch_connection(self) except? NULL
    cdef TaskRecord* execute(self, TaskRecord* record, Task task) except? NULL
    cdef TaskRecord* complete(self, TaskRecord* record, object result, double start, bint go_on) except? NULL
    cdef int fail(self, TaskRecord* record, object error, double start) except -1
    cdef int end_stopped(self, TaskRecord* record, Task task, object error, double start) except -1
    cdef int run_tasks(self, Task task) except -1
    cdef int watch_time(self, TaskRecord* record, Task task) except -1
    cdef int replace_thread(self) except -1
    cdef TaskRecord* end_coroutine(self, Task task, double* start) noexcept
    cdef int hand_over(self, TaskRecord* record, Function function, tuple args, dict kwargs) except -1
    cdef Function function_of(self, uint32_t function_id)
