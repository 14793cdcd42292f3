"""What happened to tasks on a worker, read from the ring of its core. May import: `_core/history`, the worker core."""

from libc.stdint cimport uint64_t
from libcpp.unordered_set cimport unordered_set
from libcpp.vector cimport vector

from fastdist._core.history.story cimport Moment, Story
from fastdist._core.worker.core cimport WorkerCore

from fastdist._core.worker.model import TaskState


def tell_story(WorkerCore core, list ids) -> list:
    """(task id, start, finish, name of the batch, time of the batch) of what happened, oldest first.

    Parameters
    ----------
    core : WorkerCore
        The core of the worker.
    ids : list of int
        Ids of tasks; what is forgotten is remembered for a while.
    """
    cdef Story story = core.story
    cdef unordered_set[uint64_t] wanted
    cdef vector[Moment] moments
    cdef vector[double] times
    cdef uint64_t i, id
    cdef size_t row
    for id in ids:
        wanted.insert(id)
    with nogil:
        core.gate.lock()
        for i in range(story.n_moments - min(story.n_moments, <uint64_t>story.ring.size()), story.n_moments):
            if wanted.count(story.ring[i & story.mask].task):
                moments.push_back(story.ring[i & story.mask])
                times.push_back(story.time_of(story.ring[i & story.mask].batch))
        core.gate.unlock()
    return [
        (
            moments[row].task, TaskState(moments[row].start).name.lower(), TaskState(moments[row].finish).name.lower(),
            f"batch-{moments[row].batch}", times[row],
        )
        for row in range(moments.size())
    ]
