# What workers send: DONE frames.
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord

cdef int take_done(Model model, WorkerRecord worker, object body) except -1
