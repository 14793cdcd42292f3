# What may be read of the scheduler's records; the base of the core.
from libc.stdint cimport uint32_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord, WorkerRecord
from fastdist._core.scheduler.queue cimport ReadyQueue
from fastdist._core.scheduler.records cimport Task

cdef class CoreViews:
    cdef readonly Model model
    cdef readonly ReadyQueue queue

    cdef WorkerRecord _worker(self, uint32_t number)
    cdef ClientRecord _client(self, uint32_t number)
    cdef str _type_name(self, uint32_t number)
    cdef list _holders(self, Task* task)
