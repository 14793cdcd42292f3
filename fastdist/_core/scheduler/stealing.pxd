# Giving idle workers what others have not started.
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord

cdef int balance(Model model) except -1
cdef int retract_unstarted(Model model, WorkerRecord worker) except -1
