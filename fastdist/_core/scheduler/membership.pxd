# Workers and clients come and go.
from libc.stdint cimport uint32_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord, WorkerRecord
from fastdist._core.scheduler.queue cimport ReadyQueue

cdef WorkerRecord add_worker(Model model, str address, uint32_t nthreads, bint has_nanny, dict resources)
cdef int set_running(Model model, ReadyQueue queue, WorkerRecord worker, bint running) except -1
cdef int lose_worker(Model model, ReadyQueue queue, WorkerRecord worker) except -1
cdef int try_unplaced(Model model) except -1
cdef int try_due(Model model, double now) except -1
cdef ClientRecord add_client(Model model, str name)
cdef int lose_client(Model model, ClientRecord client) except -1
