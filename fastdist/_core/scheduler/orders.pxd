# What workers are told: the rows of RUN and FREE frames.
from libc.stdint cimport uint32_t, uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord

cdef int write_run_row(Model model, uint32_t slot, WorkerRecord worker) except -1
cdef int tell_free(Model model, WorkerRecord worker, uint64_t id) except -1
