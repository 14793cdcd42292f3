# What users ask for by hand: cancel, retry, scatter.
from libc.stdint cimport uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord

cdef int cancel(Model model, ClientRecord client, list slots, bint force, bytes payload) except -1
cdef int retry(Model model, list slots) except -1
cdef list begin_scatter(Model model, ClientRecord client, uint64_t first_id, list keys)
