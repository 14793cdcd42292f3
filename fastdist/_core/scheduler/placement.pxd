# Where ready tasks go.
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.queue cimport ReadyQueue

cdef int place(Model model, ReadyQueue queue) except -1
