# Which tasks were executing when a worker died, and the wait for the word of its nanny.
cimport cython
from libc.stdint cimport uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord


@cython.final
cdef class DeathNotes:
    cdef dict by_task                  # task id -> list of what is known of the deaths that it is blamed for
    cdef dict held                     # address of a lost worker -> (time until which, ids of its tasks)

    cdef list given(self, Model model, WorkerRecord worker)
    cdef int hold(self, Model model, WorkerRecord worker, list ids, double until) except -1
    cdef int let_go(self, Model model, str address) except -1
    cdef int blame(self, Model model, str address, list executing, str how, dict details) except -1
    cdef int give_up(self, Model model, uint64_t id, str address, str how) except -1
    cdef int prune(self, Model model) except -1

cdef list presumed_executing(Model model, WorkerRecord worker)
