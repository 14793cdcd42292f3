"""Copies of data: which of them may go, and which tasks live on some workers only.

Making a copy is a matter between the shell and the workers; it comes in as a REPLICA row. A copy may go while another
one stays and no task on its worker is about to use it. May import: the scheduler's model and orders.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastdist._core.scheduler.holding cimport unhold
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.orders cimport tell_free
from fastdist._core.scheduler.parties cimport WorkerRecord
from fastdist._core.scheduler.records cimport (
    ACTOR,
    ACTOR,
    MEMORY,
    NONE,
    NO_WORKER,
    PROCESSING,
    READY,
    SCATTERING,
    SLAB_BITS,
    SLAB_TASKS,
    WAITING,
    Task,
)

cdef enum:
    MAX_KEPT = 255
    # With more dependents than this that wait, it is not worth knowing where each of them will run.
    MAX_WAITERS = 20


cdef int keep_copies(Model model, list ids, uint32_t count) except -1:
    """The user wants so many copies of these tasks: `reduce_copies` leaves them."""
    cdef Task* task
    for id in ids:
        task = model.find(<uint64_t>id)
        if task != NULL:
            task.kept = <uint8_t>min(count, MAX_KEPT)
    return 0


cdef bint is_used_at(Model model, Task* task, uint32_t worker) noexcept:
    """Whether a dependent is on its way through this worker."""
    cdef uint64_t* dependents = model.dependents_of(task)
    cdef Task* dependent
    cdef uint32_t i
    for i in range(task.dependents_size):
        dependent = model.find(dependents[i])
        if dependent != NULL and dependent.state == PROCESSING and dependent.worker == worker:
            return True
    return False


cdef bint drop_copy(Model model, uint32_t slot, uint32_t worker) except -1:
    """Have a worker drop its copy, if another one stays and it has no use for it."""
    cdef Task* task = model.task(slot)
    if task.state != MEMORY or task.more_holders == NONE or not model.is_held_by(task, worker):
        return False
    if is_used_at(model, task, worker) or (task.flags & ACTOR and task.holder == worker):
        return False
    unhold(model, slot, worker)
    tell_free(model, model.worker(worker), model.id_of(slot))
    return True


cdef int drop_copies(Model model, WorkerRecord worker, list ids) except -1:
    """Drop what a worker holds of these tasks, as far as that is safe; returns how many went."""
    cdef int count = 0
    for id in ids:
        if model.find(<uint64_t>id) != NULL and drop_copy(model, <uint32_t><uint64_t>id, worker.number):
            count += 1
    return count


cdef uint32_t copies_wanted(Model model, Task* task) except? NONE:
    """One; as many as the user asked for; or one for each worker that is about to use it, and each task not placed."""
    cdef uint64_t* dependents = model.dependents_of(task)
    cdef Task* dependent
    cdef uint32_t i, unplaced = 0
    cdef uint32_t wanted
    if task.n_waiters > MAX_WAITERS:
        return MAX_WAITERS if MAX_WAITERS > task.kept else task.kept
    workers = set()
    if task.n_waiters:
        for i in range(task.dependents_size):
            dependent = model.find(dependents[i])
            if dependent == NULL:
                continue
            if dependent.state == PROCESSING:
                workers.add(dependent.worker)
            elif dependent.state == WAITING or dependent.state == READY or dependent.state == NO_WORKER:
                unplaced += 1
    wanted = <uint32_t>len(workers) + unplaced
    return max(wanted, <uint32_t>task.kept, <uint32_t>1)


cdef int64_t copies_beyond_first(Model model) except -1:
    """How many copies there are besides one of each task in memory."""
    cdef int64_t held = 0
    for worker in model.workers:
        held += (<WorkerRecord>worker).n_held if (<WorkerRecord>worker).alive else 0
    return held - <int64_t>model.n_in_state[MEMORY]


cdef int reduce_copies(Model model) except -1:
    """Drop the copies that nobody needs, from workers that do not run and from the fullest ones first."""
    cdef uint32_t number, i, slot
    cdef Task* task
    cdef int count = 0
    cdef int64_t unseen = copies_beyond_first(model)
    for number in range(<uint32_t>model.slabs.size()):
        # Mostly there are none; then there is nothing to look for.
        if unseen <= 0:
            break
        if model.slabs[number].tasks == NULL:
            continue
        for i in range(SLAB_TASKS):
            slot = (number << SLAB_BITS) | i
            task = model.task(slot)
            if task.state == MEMORY and task.more_holders != NONE:
                unseen -= <int64_t>len(holder_numbers(model, task)) - 1
                count += reduce_task(model, slot, copies_wanted(model, task))
    return count


cdef int reduce_task(Model model, uint32_t slot, uint32_t wanted) except -1:
    cdef Task* task = model.task(slot)
    cdef list holders = holder_numbers(model, task)
    cdef int surplus = <int>len(holders) - <int>wanted
    cdef int count = 0
    if surplus <= 0:
        return 0
    ranked = sorted([(
        (<WorkerRecord>model.worker(<uint32_t>number)).running,
        -<long long>(<WorkerRecord>model.worker(<uint32_t>number)).nbytes,
        number,
    ) for number in holders])
    for _, _, number in ranked:
        if count < surplus and drop_copy(model, slot, <uint32_t>number):
            count += 1
    return count


cdef list holder_numbers(Model model, Task* task):
    cdef list numbers = [task.holder]
    cdef uint32_t link = task.more_holders
    while link != NONE:
        numbers.append(model.holders[link].worker)
        link = model.holders[link].next
    return numbers


def is_scattering(Model model, uint64_t id) -> bool:
    """Whether this task is data that was announced and has not come."""
    cdef Task* task = model.find(id)
    return task != NULL and task.state == SCATTERING


def has_actors(Model model, uint32_t worker) -> bool:
    """Whether a worker has an actor, or is about to make one."""
    cdef Task* task
    cdef size_t i
    for i in range(model.actors.size()):
        task = model.find(model.actors[i])
        if task != NULL and (task.worker == worker or model.is_held_by(task, worker)):
            return True
    return False


def copies_at(Model model, uint32_t worker, leaving: set | None, limit: int) -> list:
    """(task id, canonical key, size, numbers of the holders) of what a worker holds, up to `limit`.

    With `leaving`, a set of worker numbers, only what no worker outside of the set holds. Actors are left out: they
    cannot be copied. It costs as much as there are tasks.
    """
    cdef uint32_t number, i, length
    cdef Task* task
    cdef const uint8_t* key
    cdef list answer = []
    if model.worker(worker).n_held == 0:
        return answer
    for number in range(<uint32_t>model.slabs.size()):
        if model.slabs[number].tasks == NULL:
            continue
        for i in range(SLAB_TASKS):
            task = &model.slabs[number].tasks[i]
            if task.state != MEMORY or task.flags & ACTOR or not model.is_held_by(task, worker):
                continue
            holders = holder_numbers(model, task)
            if leaving is not None and not leaving.issuperset(holders):
                continue
            key = model.payload.key_bytes(task, &length)
            id = model.id_of((number << SLAB_BITS) | i)
            answer.append((id, (<const char*>key)[:length], task.nbytes, holders))
            if len(answer) >= limit:
                return answer
    return answer
