# What workers send: DONE frames.
from fastdist._core.scheduler.model cimport Model, WorkerRecord

cdef int take_done(Model model, WorkerRecord worker, object body) except -1
