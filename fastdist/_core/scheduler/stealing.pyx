"""Balance: tasks that a loaded worker has not started are asked back when another worker idles.

Nothing moves before the worker has answered: a task that started stays where it is. May import: the scheduler's model.
"""

from libc.stdint cimport int64_t, uint32_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport Options, Recall, WorkerRecord, n_startable
from fastdist._core.scheduler.records cimport AHEAD, NONE, RETRACTING, STARTED, Task

cdef enum:
    SAMPLE = 16                # loaded workers looked at for one idle worker
    MAX_ASKED = 1024           # tasks asked back from one worker at a time


cdef int ask_back(Model model, WorkerRecord worker, uint32_t slot) except -1:
    cdef Task* task = model.task(slot)
    cdef Recall recall
    task.flags |= RETRACTING
    worker.n_retracting += 1
    recall.id = model.id_of(slot)
    recall.attempt = task.attempt
    worker.recalled.push_back(recall)
    model.mark_worker(worker)
    return 0


cdef int retract_unstarted(Model model, WorkerRecord worker) except -1:
    """Ask a worker that may not start anything now to give back what it has not started."""
    cdef uint32_t slot = worker.last
    cdef Task* task
    while slot != NONE:
        task = model.task(slot)
        if not task.flags & (RETRACTING | STARTED):
            ask_back(model, worker, slot)
        slot = task.previous
    return 0


cdef int balance(Model model) except -1:
    """If the least loaded worker idles, ask a loaded one for part of the difference."""
    cdef WorkerRecord thief, victim
    if model.load.heap.size() < 2:
        return 0
    thief = model.worker(model.load.heap[0].worker)
    if n_startable(thief) >= thief.nthreads:
        return 0
    victim = most_loaded(model)
    if victim is not None and victim is not thief and victim.n_retracting == 0:
        ask_for_half(model, victim, thief)
    return 0


cdef WorkerRecord most_loaded(Model model):
    """The most loaded of a sample of the running workers (of all, if there are few)."""
    cdef uint32_t size = <uint32_t>model.load.heap.size()
    cdef uint32_t count = size if size < SAMPLE else <uint32_t>SAMPLE
    cdef uint32_t i, number
    cdef uint32_t best = NONE
    for i in range(count):
        # The last places of a heap hold its larger elements.
        number = model.load.heap[(size - 1 - (model.sample_cursor + i) % size) % size].worker
        if best == NONE or model.load.seconds[number] > model.load.seconds[best] or (
            model.load.seconds[number] == model.load.seconds[best] and number < best
        ):
            best = number
    model.sample_cursor = (model.sample_cursor + count) % size
    return model.worker(best) if best != NONE else None


cdef bint ask_for_half(Model model, WorkerRecord victim, WorkerRecord thief) except -1:
    cdef int64_t gap = <int64_t>((model.load.seconds[victim.number] - model.load.seconds[thief.number]) * 1e9)
    cdef int64_t wanted = gap // 2 * thief.nthreads
    cdef int64_t moved = 0, duration
    cdef uint32_t slot = victim.last
    cdef uint32_t asked = 0, looked = 0
    # What was sent ahead cannot start elsewhere any sooner than its inputs.
    cdef int64_t startable = n_startable(victim)
    cdef Task* task
    if startable <= victim.nthreads or gap < 2 * <int64_t>(model.latency * 1e9):
        return False
    while slot != NONE and moved < wanted and asked < MAX_ASKED and looked < 4 * MAX_ASKED:
        task = model.task(slot)
        looked += 1
        duration = model.class_nanoseconds[task.duration_class]
        if startable - asked <= victim.nthreads or moved + duration > wanted + duration // 2:
            break
        if not task.flags & (RETRACTING | STARTED | AHEAD) and may_run_on(model, task, thief):
            ask_back(model, victim, slot)
            asked += 1
            moved += duration
        slot = task.previous
    return asked > 0


cdef bint may_run_on(Model model, Task* task, WorkerRecord worker) except -1:
    cdef Options options
    cdef size_t i
    if not task.options:
        return True
    options = model.option(task.options)
    if not options.restricted:
        return True
    for i in range(options.candidates.size()):
        if options.candidates[i] == worker.number:
            return True
    return False
