# What workers are told: FREE, RUN and RETRACT frames.
from libc.stdint cimport uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord

cdef int worker_frames(Model model, WorkerRecord worker, list commands) except -1
cdef int tell_free(Model model, WorkerRecord worker, uint64_t id) except -1
