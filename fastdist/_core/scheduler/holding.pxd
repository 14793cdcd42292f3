# Who holds what, with the digests that a worker keeps, too (`_core/digest`).
from libc.stdint cimport uint32_t, uint64_t

from fastdist._core.digest cimport digest_of
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord
from fastdist._core.scheduler.records cimport ACTOR, NONE, Task


cdef inline int hold(Model model, uint32_t slot, uint32_t number) except -1:
    """A worker holds the data of a task."""
    cdef Task* task = model.task(slot)
    cdef WorkerRecord worker = model.worker(number)
    cdef uint32_t before = worker.n_held
    model.add_holder(task, number)
    if worker.n_held != before:
        worker.held_digest += digest_of(model.id_of(slot), 0)
    return 0


cdef inline bint unhold(Model model, uint32_t slot, uint32_t number) noexcept:
    """A worker does not hold the data any more; False if it did not."""
    cdef WorkerRecord worker
    if not model.remove_holder(model.task(slot), number):
        return False
    worker = model.worker(number)
    worker.held_digest -= digest_of(model.id_of(slot), 0)
    return True


cdef inline bint lose_holder(Model model, uint32_t slot, uint32_t number) noexcept:
    """A worker does not hold the data any more; whether that was the last copy, or the actor itself."""
    cdef Task* task = model.task(slot)
    cdef bint home = task.flags & ACTOR and task.holder == number
    return unhold(model, slot, number) and (home or task.holder == NONE)
