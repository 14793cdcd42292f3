# What users ask for by hand: cancel, retry, scatter, wanting what exists.
from libc.stdint cimport uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord

cdef int cancel(Model model, ClientRecord client, list slots, bint force, bytes payload) except -1
cdef int cancel_everything(Model model, bytes payload) except -1
cdef int retry(Model model, list slots) except -1
cdef int retry_unknown(Model model, ClientRecord client, list ids) except -1
cdef int fail_scatter(Model model, list ids, bytes payload) except -1
cdef list begin_scatter(Model model, ClientRecord client, uint64_t first_id, list keys)
cdef list want_existing(Model model, ClientRecord client, list keys)
