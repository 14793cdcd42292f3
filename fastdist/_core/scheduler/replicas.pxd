# Copies of data: which may go, which must be made.
from libc.stdint cimport uint32_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord

cdef int keep_copies(Model model, list ids, uint32_t count) except -1
cdef int drop_copies(Model model, WorkerRecord worker, list ids) except -1
cdef int reduce_copies(Model model) except -1
