# What clients send: new tasks and releases.
from libc.stdint cimport uint32_t, uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord
from fastdist._core.scheduler.queue cimport ReadyQueue

cdef int take_tasks(Model model, ReadyQueue queue, ClientRecord client, object body, list options, double now) except -1
cdef int check_ids(ClientRecord client, uint64_t first, uint32_t count) except -1
cdef int take_release(Model model, ClientRecord client, object body) except -1
cdef int release_ids(Model model, ClientRecord client, list ids) except -1
cdef int refuse(Model model, ClientRecord client, uint64_t id, bytes payload) except -1
