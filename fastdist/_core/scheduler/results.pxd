# What workers send: DONE frames.
from libc.stdint cimport uint32_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord
from fastdist._core.scheduler.records cimport Task

cdef int take_done(Model model, WorkerRecord worker, object body) except -1
cdef uint32_t n_attempts(Model model, Task* task) noexcept
