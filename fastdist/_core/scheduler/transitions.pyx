"""The transitions of the scheduler's task states.

Each legal edge of `LEGAL` is one function, named after it; `needed` stands for WAITING or READY, whichever the inputs
allow. A transition changes the records and leaves work behind - tasks that became ready, tasks that nobody may need any
more, rows for workers and clients - and decides nothing: placement does. May import: the scheduler's model and the rows
(`orders`, `reporting`).
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport (
    STATUS_FINISHED,
    STATUS_PENDING,
)
from fastdist._core.digest cimport digest_of
from fastdist._core.keys.canonical cimport decode_key_at
from fastdist._core.scheduler.holding cimport hold, unhold
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.orders cimport tell_free
from fastdist._core.scheduler.parties cimport STOPPING_NANOSECONDS, Options, WorkerRecord
from fastdist._core.scheduler.records cimport (
    ACTOR,
    AHEAD,
    ERRED,
    FREE_SLOT,
    MEMORY,
    NONE,
    NO_WORKER,
    PROCESSING,
    READY,
    RELEASED,
    RETRACTING,
    SCATTERING,
    SECEDED,
    STARTED,
    WAITING,
    WAITS,
    Task,
)
from fastdist._core.scheduler.reporting cimport report, report_error

from fastdist._core.scheduler.reasons import Reason, reason_payload

cdef enum:
    MAX_STOPPING = 10_000       # that are counted at one worker

# The legal edges, as (start, finish): the source of the state diagram and of the checks in the tests. A record is made
# RELEASED; it is forgotten when it is RELEASED or SCATTERING, nobody wants it and nothing depends on it.
LEGAL = (
    ("released", "waiting"),
    ("released", "ready"),
    ("released", "scattering"),
    ("released", "erred"),
    ("waiting", "ready"),
    ("waiting", "processing"),
    ("waiting", "released"),
    ("waiting", "erred"),
    ("waiting", "memory"),
    ("ready", "waiting"),
    ("ready", "no_worker"),
    ("ready", "processing"),
    ("ready", "released"),
    ("ready", "erred"),
    ("ready", "memory"),
    ("no_worker", "ready"),
    ("no_worker", "waiting"),
    ("no_worker", "released"),
    ("no_worker", "erred"),
    ("no_worker", "memory"),
    ("no_worker", "processing"),
    ("processing", "waiting"),
    ("processing", "ready"),
    ("processing", "memory"),
    ("processing", "released"),
    ("processing", "erred"),
    ("memory", "released"),
    ("erred", "released"),
    ("scattering", "memory"),
    ("scattering", "erred"),
)


cdef inline bint is_needed_state(uint8_t state) noexcept nogil:
    return state == WAITING or state == READY or state == NO_WORKER or state == PROCESSING


# -- edges ------------------------------------------------------------------------------------------------------------

cdef int released_to_needed(Model model, uint32_t slot) except -1:
    """RELEASED -> WAITING or READY, and so on for every input that has to be computed (again)."""
    cdef vector[uint32_t] stack
    cdef Task* task
    cdef Task* dependency
    cdef uint32_t* dependencies
    cdef uint32_t i
    cdef uint32_t erred
    cdef vector[uint32_t] failed
    stack.push_back(slot)
    while not stack.empty():
        slot = stack.back()
        stack.pop_back()
        task = model.task(slot)
        if task.state != RELEASED:
            continue
        if task.function == NONE:
            failed.push_back(slot)
            continue
        task.waiting_on = 0
        erred = NONE
        dependencies = model.dependencies_of(task)
        for i in range(task.n_dependencies):
            dependency = model.task(dependencies[i])
            dependency.n_waiters += 1
            if dependency.state != MEMORY:
                task.waiting_on += 1
                if dependency.state == RELEASED:
                    stack.push_back(dependencies[i])
                elif dependency.state == ERRED:
                    erred = dependencies[i]
        if task.waiting_on:
            model.set_state(task, WAITING)
            if erred != NONE:
                failed.push_back(slot)
        else:
            model.set_state(task, READY)
            model.became_ready.push_back(model.id_of(slot))
    for i in range(failed.size()):
        needed_to_erred_by_input(model, failed[i])
    return 0


cdef int needed_to_erred_by_input(Model model, uint32_t slot) except -1:
    """A task cannot run: an input erred, or it is data that nobody holds any more."""
    cdef Task* task = model.task(slot)
    cdef Task* dependency
    cdef bytes payload, copy
    cdef uint32_t i
    if task.state != RELEASED and not is_needed_state(task.state):
        return 0
    for i in range(task.n_dependencies):
        dependency = model.task(model.dependencies_of(task)[i])
        if dependency.state == ERRED:
            copy = model.errors[dependency.nbytes].payload[:model.errors[dependency.nbytes].length]
            return any_to_erred(model, slot, copy, <uint32_t>len(copy))
    if task.function == NONE:
        payload = lost_payload(model, task)
        return any_to_erred(model, slot, payload, <uint32_t>len(payload))
    return 0


cdef object readable_key(const uint8_t* key, uint32_t length):
    """The key with these canonical bytes; a client that sends other bytes sees them as they are."""
    try:
        return decode_key_at(key, length)
    except ValueError:
        return (<const char*>key)[:length]


cdef bytes lost_payload(Model model, Task* task):
    cdef uint32_t length
    cdef const uint8_t* key = model.payload.key_bytes(task, &length)
    text = str(readable_key(key, length))
    if task.flags & ACTOR:
        return reason_payload(
            Reason.LOST_DATA,
            f"the actor {text!r} was lost with the worker that held it, and its state cannot be computed again; make "
            "another one",
            key=text,
        )
    return reason_payload(
        Reason.LOST_DATA,
        f"the data of {text!r} was lost with the last worker that held it, and there is no task that could compute "
        "it again; scatter it again",
        key=text,
    )


cdef int input_came(Model model, Task* dependent, uint64_t id) except -1:
    """One input of `dependent` is in memory now: WAITING -> READY with the last one."""
    cdef WorkerRecord worker
    if dependent.state == WAITING:
        dependent.waiting_on -= 1
        if dependent.waiting_on == 0:
            model.set_state(dependent, READY)
            model.became_ready.push_back(id)
        elif dependent.n_dependencies <= 16:
            model.may_go_ahead.push_back(id)
    elif dependent.state == PROCESSING and dependent.waiting_on:
        dependent.waiting_on -= 1
        if dependent.waiting_on == 0 and dependent.flags & AHEAD:
            dependent.flags &= ~AHEAD
            worker = model.worker(dependent.worker)
            worker.n_ahead -= 1
    return 0


cdef int ready_to_processing(Model model, uint32_t slot, WorkerRecord worker, bint ahead) except -1:
    """READY (or, ahead of its inputs, WAITING) -> PROCESSING on `worker`, which is told at the end of the batch."""
    cdef Task* task = model.task(slot)
    if not worker.stopping.empty():
        # Where it executes still, it does so for this attempt.
        note_stopped(model, worker, model.id_of(slot))
    task.attempt += 1
    book(model, slot, worker)
    if ahead:
        task.flags |= AHEAD
        worker.n_ahead += 1
    if worker.given == NONE:
        worker.given = slot
        model.mark_worker(worker)
    return 0


cdef int book(Model model, uint32_t slot, WorkerRecord worker) except -1:
    """READY, WAITING or NO_WORKER -> PROCESSING: the bookings at the worker for the current attempt."""
    cdef Task* task = model.task(slot)
    cdef Options options
    cdef size_t i
    task.worker = worker.number
    task.flags &= ~(STARTED | RETRACTING | AHEAD)
    task.duration_class = model.prefixes[task.prefix].duration_class
    worker.n_processing += 1
    worker.occupancy += model.class_nanoseconds[task.duration_class]
    if task.options:
        options = model.option(task.options)
        for i in range(options.needs.size()):
            worker.used[options.needs[i].resource] += options.needs[i].amount
    model.link(worker, slot)
    worker.given_digest += digest_of(model.id_of(slot), task.attempt)
    model.set_state(task, PROCESSING)
    return 0


cdef void give_thread_back(Model model, Task* task, uint8_t flag) noexcept:
    """A PROCESSING task executes without a thread from now on; `flag` (WAITS or SECEDED) says why."""
    cdef WorkerRecord worker = model.worker(task.worker)
    take_thread(model, task)
    task.flags |= flag | STARTED
    worker.occupancy -= model.class_nanoseconds[task.duration_class]
    if flag == WAITS:
        worker.n_waits += 1
    else:
        worker.n_seceded += 1
    model.mark_worker(worker)


cdef void take_thread(Model model, Task* task) noexcept:
    """Undo `give_thread_back`."""
    cdef WorkerRecord worker = model.worker(task.worker)
    if not task.flags & (WAITS | SECEDED):
        return
    worker.occupancy += model.class_nanoseconds[task.duration_class]
    if task.flags & WAITS:
        worker.n_waits -= 1
    else:
        worker.n_seceded -= 1
    task.flags &= ~(WAITS | SECEDED)
    model.mark_worker(worker)


cdef int note_stopping(Model model, WorkerRecord worker, uint64_t id) except -1:
    """A task that is not wanted any more executes at the worker: its thread is not free before it says so."""
    if worker.stopping.size() < MAX_STOPPING and worker.stopping.insert(id).second:
        # As much work as makes other workers look better, whatever they do.
        worker.occupancy += STOPPING_NANOSECONDS
        model.mark_worker(worker)
    return 0


cdef bint note_stopped(Model model, WorkerRecord worker, uint64_t id) except -1:
    """Undo `note_stopping`, if it was called for this task."""
    if worker.stopping.erase(id) == 0:
        return False
    worker.occupancy -= STOPPING_NANOSECONDS
    model.mark_worker(worker)
    return True


cdef int dismiss(Model model, uint32_t slot) except -1:
    """Take a PROCESSING task that is not wanted any more from its worker."""
    cdef Task* task = model.task(slot)
    cdef WorkerRecord worker = model.worker(task.worker)
    tell_free(model, worker, model.id_of(slot))
    if task.flags & STARTED and not task.flags & (WAITS | SECEDED):
        note_stopping(model, worker, model.id_of(slot))
    return leave_worker(model, slot)


cdef int leave_worker(Model model, uint32_t slot) except -1:
    """Undo the bookings of a PROCESSING task at its worker."""
    cdef Task* task = model.task(slot)
    cdef WorkerRecord worker = model.worker(task.worker)
    cdef Options options
    cdef size_t i
    take_thread(model, task)
    model.unlink(worker, slot)
    worker.given_digest -= digest_of(model.id_of(slot), task.attempt)
    worker.n_processing -= 1
    worker.occupancy -= model.class_nanoseconds[task.duration_class]
    if task.flags & AHEAD:
        worker.n_ahead -= 1
    if task.flags & RETRACTING:
        worker.n_retracting -= 1
    if task.options:
        options = model.option(task.options)
        for i in range(options.needs.size()):
            worker.used[options.needs[i].resource] -= options.needs[i].amount
    task.flags &= ~(AHEAD | STARTED | RETRACTING)
    model.left_worker = task.worker
    task.worker = NONE
    model.mark_worker(worker)
    return 0


cdef int processing_to_memory(Model model, uint32_t slot, uint64_t nbytes, uint32_t type,
                              const uint8_t* inline_bytes, uint32_t inline_length) except -1:
    """PROCESSING -> MEMORY: the inputs lose a waiter, the dependents may become ready."""
    cdef Task* task = model.task(slot)
    cdef uint32_t worker = task.worker
    leave_worker(model, slot)
    task.nbytes = nbytes
    task.type = type
    model.set_state(task, MEMORY)
    hold(model, slot, worker)
    if task.flags & ACTOR:
        forget_work(model, task)
    drop_waiter_of_inputs(model, task)
    tell_dependents(model, task)
    report(model, task, STATUS_FINISHED, inline_bytes, inline_length)
    if task.n_waiters == 0 and task.want_client == NONE:
        model.to_check.push_back(model.id_of(slot))
    return 0


cdef void forget_work(Model model, Task* task) noexcept:
    """The state of an actor cannot be computed again: from now on it is data."""
    if task.function != NONE:
        model.functions[task.function].n_tasks -= 1
        model.release_function(task.function)
        task.function = NONE


cdef int drop_waiter_of_inputs(Model model, Task* task) except -1:
    cdef uint32_t* dependencies = model.dependencies_of(task)
    cdef Task* dependency
    cdef uint32_t i
    for i in range(task.n_dependencies):
        dependency = model.task(dependencies[i])
        dependency.n_waiters -= 1
        if dependency.n_waiters == 0 and dependency.want_client == NONE:
            model.to_check.push_back(model.id_of(dependencies[i]))
    return 0


cdef int tell_dependents(Model model, Task* task) except -1:
    cdef uint64_t* dependents = model.dependents_of(task)
    cdef Task* dependent
    cdef uint32_t i
    for i in range(task.dependents_size):
        dependent = model.find(dependents[i])
        if dependent != NULL:
            input_came(model, dependent, dependents[i])
    return 0


cdef int scattering_to_memory(Model model, uint32_t slot, uint32_t worker, uint64_t nbytes, uint32_t type) except -1:
    """SCATTERING -> MEMORY: the first worker has stored what a client sent; or it had it already."""
    cdef Task* task = model.task(slot)
    task.nbytes = nbytes
    task.type = type
    model.set_state(task, MEMORY)
    hold(model, slot, worker)
    tell_dependents(model, task)
    report(model, task, STATUS_FINISHED, NULL, 0)
    if task.n_waiters == 0 and task.want_client == NONE:
        model.to_check.push_back(model.id_of(slot))
    return 0


cdef int needed_to_memory(Model model, uint32_t slot, uint32_t worker, uint64_t nbytes, uint32_t type) except -1:
    """WAITING, READY or NO_WORKER -> MEMORY: a worker that was away has brought the data back."""
    cdef Task* task = model.task(slot)
    drop_waiter_of_inputs(model, task)
    task.waiting_on = 0
    model.retries.forget(model.id_of(slot))
    if task.flags & ACTOR:
        forget_work(model, task)
    return scattering_to_memory(model, slot, worker, nbytes, type)


cdef int processing_to_needed(Model model, uint32_t slot, bint tell_worker) except -1:
    """PROCESSING -> READY or WAITING: the attempt is over without an outcome."""
    cdef Task* task = model.task(slot)
    if tell_worker:
        tell_free(model, model.worker(task.worker), model.id_of(slot))
    withdraw_ahead(model, slot)
    leave_worker(model, slot)
    if task.waiting_on:
        model.set_state(task, WAITING)
    else:
        model.set_state(task, READY)
        model.became_ready.push_back(model.id_of(slot))
    return 0


cdef int withdraw_ahead(Model model, uint32_t slot) except -1:
    """Take back, transitively, the dependents of `slot` that were sent ahead of their inputs."""
    cdef vector[uint32_t] stack
    cdef Task* task
    cdef Task* dependent
    cdef uint64_t* dependents
    cdef uint32_t i
    stack.push_back(slot)
    while not stack.empty():
        task = model.task(stack.back())
        stack.pop_back()
        dependents = model.dependents_of(task)
        for i in range(task.dependents_size):
            dependent = model.find(dependents[i])
            if dependent != NULL and dependent.state == PROCESSING and dependent.flags & AHEAD:
                tell_free(model, model.worker(dependent.worker), dependents[i])
                leave_worker(model, <uint32_t>dependents[i])
                model.set_state(dependent, WAITING)
                stack.push_back(<uint32_t>dependents[i])
    return 0


cdef int any_to_erred(Model model, uint32_t slot, const uint8_t* payload, uint32_t length) except -1:
    """The task and everything that needs it -> ERRED, with the same error."""
    cdef uint32_t error = model.new_error(payload, length)
    cdef vector[uint32_t] stack
    cdef Task* task
    cdef uint64_t* dependents
    cdef Task* dependent
    cdef uint32_t i
    stack.push_back(slot)
    model.errors[error].n_tasks += 1
    while not stack.empty():
        slot = stack.back()
        stack.pop_back()
        task = model.task(slot)
        if task.state == ERRED or task.state == MEMORY:
            continue
        if task.state == PROCESSING:
            dismiss(model, slot)
        if task.state != RELEASED and task.state != SCATTERING:
            drop_waiter_of_inputs(model, task)
        model.set_state(task, ERRED)
        task.nbytes = error
        model.errors[error].n_tasks += 1
        report_error(model, task)
        if task.n_waiters == 0 and task.want_client == NONE:
            model.to_check.push_back(model.id_of(slot))
        dependents = model.dependents_of(task)
        for i in range(task.dependents_size):
            dependent = model.find(dependents[i])
            if dependent != NULL and is_needed_state(dependent.state):
                stack.push_back(<uint32_t>dependents[i])
    model.release_error(error)
    return 0


cdef int memory_to_lost(Model model, uint32_t slot) except -1:
    """MEMORY without a holder (or the actor itself): computed again if anyone needs it, else RELEASED."""
    cdef Task* task = model.task(slot)
    cdef Task* dependent
    cdef uint64_t* dependents = model.dependents_of(task)
    cdef uint32_t i
    cdef uint64_t id = model.id_of(slot)
    withdraw_ahead(model, slot)
    drop_holders(model, task, id)
    task.nbytes = 0
    model.set_state(task, RELEASED)
    for i in range(task.dependents_size):
        dependent = model.find(dependents[i])
        if dependent == NULL or not is_needed_state(dependent.state):
            continue
        dependent.waiting_on += 1
        if dependent.state == READY or dependent.state == NO_WORKER:
            model.set_state(dependent, WAITING)
    if task.n_waiters or task.want_client != NONE:
        if task.function != NONE:
            report(model, task, STATUS_PENDING, NULL, 0)
        released_to_needed(model, slot)
    else:
        model.to_check.push_back(id)
    return 0


# -- what nobody needs any more ---------------------------------------------------------------------------------------

cdef int memory_to_released(Model model, uint32_t slot) except -1:
    cdef Task* task = model.task(slot)
    drop_holders(model, task, model.id_of(slot))
    task.nbytes = 0
    model.set_state(task, RELEASED)
    return 0


cdef int drop_holders(Model model, Task* task, uint64_t id) except -1:
    """Have all workers that hold the data of a task drop it."""
    cdef uint32_t worker
    while task.holder != NONE:
        worker = task.holder
        tell_free(model, model.worker(worker), id)
        unhold(model, <uint32_t>id, worker)
    return 0


cdef int needed_to_released(Model model, uint32_t slot) except -1:
    cdef Task* task = model.task(slot)
    if task.state == PROCESSING:
        dismiss(model, slot)
    drop_waiter_of_inputs(model, task)
    task.waiting_on = 0
    model.set_state(task, RELEASED)
    return 0


cdef int erred_to_released(Model model, uint32_t slot) except -1:
    cdef Task* task = model.task(slot)
    model.release_error(<uint32_t>task.nbytes)
    task.nbytes = 0
    model.set_state(task, RELEASED)
    return 0


cdef int released_to_forgotten(Model model, uint32_t slot) except -1:
    """The record goes; its inputs may go after it."""
    cdef Task* task = model.task(slot)
    cdef uint32_t* dependencies = model.dependencies_of(task)
    cdef Task* dependency
    cdef uint32_t i, length
    cdef uint64_t hash
    cdef const uint8_t* key
    if model.listened:
        model.note_change(task, FREE_SLOT)
    for i in range(task.n_dependencies):
        dependency = model.task(dependencies[i])
        dependency.n_dependents -= 1
        if dependency.n_dependents == 0 and dependency.want_client == NONE:
            model.to_check.push_back(model.id_of(dependencies[i]))
    key = model.payload.key_bytes(task, &length)
    hash = model.keys.hash(key, length)
    model.story.note(<uint64_t>task, hash, task.generation, slot, task.state, FREE_SLOT)
    model.keys.remove(hash, slot)
    if task.function != NONE:
        model.functions[task.function].n_tasks -= 1
        model.release_function(task.function)
    model.release_options(task.options)
    model.release_prefix(task.prefix)
    model.free_task(slot)
    return 0


cdef int release_unneeded(Model model) except -1:
    """Release, and forget where nothing depends on them, the tasks on the list that nobody wants or waits for."""
    cdef uint64_t id
    cdef uint32_t slot
    cdef Task* task
    while not model.to_check.empty():
        id = model.to_check.back()
        model.to_check.pop_back()
        task = model.find(id)
        if task == NULL or task.want_client != NONE or task.n_waiters:
            continue
        slot = <uint32_t>id
        if task.state == MEMORY:
            memory_to_released(model, slot)
        elif task.state == ERRED:
            erred_to_released(model, slot)
        elif task.state != RELEASED and task.state != SCATTERING:
            needed_to_released(model, slot)
        if task.n_dependents == 0:
            released_to_forgotten(model, slot)
    return 0
