# Every invariant of the scheduler's records.
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.queue cimport ReadyQueue

cdef int check_model(Model model, ReadyQueue queue) except -1
