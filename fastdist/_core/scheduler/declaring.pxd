# Workers whose connection broke, and what a worker declares to have.
from libc.stdint cimport uint32_t, uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord
from fastdist._core.scheduler.queue cimport ReadyQueue

cdef int part(Model model, ReadyQueue queue, WorkerRecord worker) except -1
cdef int try_unreachable(Model model) except -1
cdef int note_given(Model model, WorkerRecord worker) except -1
cdef object take_declared(Model model, WorkerRecord worker, object body, bint fresh, bint by_key)
cdef object agrees(WorkerRecord worker, uint64_t held, uint64_t given, uint64_t n_received)
