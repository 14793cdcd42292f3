"""A worker is away and comes back, and what it declares to have is compared with what is believed of it.

While a worker is away it keeps its tasks and its data here, and is given nothing. A declaration lists all that a worker
has; what both sides do not agree on is healed: data that is still of use is taken over, attempts that are still valid
go on, the rest is freed, and what was believed of the worker and is not there is computed again. A scheduler that was
recovered looks the rows up by key, and answers with its own ids. May import: the scheduler's model, queue, transitions.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.unordered_map cimport unordered_map

from fastdist._core.codec.frames cimport ColumnReader, ColumnWriter
from fastdist._core.scheduler.holding cimport hold, lose_holder
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.orders cimport tell_free
from fastdist._core.scheduler.parties cimport STOPPING_NANOSECONDS, WorkerRecord
from fastdist._core.scheduler.queue cimport ReadyQueue
from fastdist._core.scheduler.records cimport (
    AHEAD,
    MEMORY,
    NONE,
    NO_WORKER,
    PROCESSING,
    READY,
    RETRACTING,
    SCATTERING,
    SLAB_BITS,
    SLAB_TASKS,
    STARTED,
    WAITING,
    Task,
)
from fastdist._core.scheduler.transitions cimport (
    book,
    memory_to_lost,
    needed_to_memory,
    note_stopping,
    processing_to_memory,
    processing_to_needed,
    scattering_to_memory,
)

from fastdist.errors import FrameError

cdef enum:
    DECLARE_COLUMNS = 10
    ADOPTED_COLUMNS = 3
    MAX_TYPES = 1 << 16

# What a worker says of a task.
cdef enum:
    HELD = 0                   # its data is here
    EXECUTING = 1
    QUEUED = 2                 # not started
    STOPPING = 3               # it executes, and nobody wants it


cdef struct Row:
    uint64_t id                # as the worker knows it
    uint32_t attempt           # 0 for data that was fetched or put there
    uint8_t status
    uint64_t nbytes
    uint32_t type


cdef int part(Model model, ReadyQueue queue, WorkerRecord worker) except -1:
    """The connection of a worker broke, but it may come back: nothing more is sent to it."""
    if worker.away or not worker.alive:
        return 0
    worker.away = True
    worker.running = False
    model.n_away += 1
    worker.given = NONE
    worker.freed.clear()
    worker.unused.clear()
    worker.recalled.clear()
    worker.knows_function.clear()
    worker.knows_options.clear()
    worker.knows_address.clear()
    worker.n_sent = 0
    forget_asked(worker)
    model.load.update(worker)
    queue.give_back(worker)
    return 0


cdef int forget_asked(WorkerRecord worker) except -1:
    worker.asked = False
    worker.asked_ids.clear()
    worker.asked_attempts.clear()
    return 0


cdef int try_unreachable(Model model) except -1:
    """A worker is back or lost: the tasks that waited for what it holds try again."""
    cdef Task* task
    cdef size_t i
    for i in range(model.unreachable.size()):
        task = model.find(model.unreachable[i])
        if task != NULL and task.state == NO_WORKER and not model.retries.waits(model.unreachable[i]):
            model.set_state(task, READY)
            model.became_ready.push_back(model.unreachable[i])
    model.unreachable.clear()
    return 0


cdef int note_given(Model model, WorkerRecord worker) except -1:
    """The worker is asked to declare what it has: what it is given from now on may be missing in that."""
    cdef uint32_t slot = worker.first
    forget_asked(worker)
    worker.asked = True
    while slot != NONE:
        worker.asked_ids.push_back(model.id_of(slot))
        worker.asked_attempts.push_back(model.task(slot).attempt)
        slot = model.task(slot).next
    return 0


cdef object agrees(WorkerRecord worker, uint64_t held, uint64_t given, uint64_t n_received):
    """Whether both sides believe the same of a worker; None while something is on the way to it."""
    if worker.n_sent != n_received or worker.dirty or worker.away or not worker.alive:
        return None
    return worker.held_digest == held and worker.given_digest == given


cdef object take_declared(Model model, WorkerRecord worker, object body, bint fresh, bint by_key):
    """Compare; returns the body of the answer if the rows are known by key."""
    cdef ColumnReader reader = ColumnReader(body, DECLARE_COLUMNS)
    cdef uint32_t n = reader.n_rows, i, slot
    cdef const uint64_t* header = <const uint64_t*>reader.fixed(0, 1, 8)
    cdef const uint64_t* ids = <const uint64_t*>reader.fixed(1, n, 8)
    cdef const uint32_t* attempts = <const uint32_t*>reader.fixed(2, n, 4)
    cdef const uint8_t* status = reader.fixed(3, n, 1)
    cdef const uint64_t* sizes = <const uint64_t*>reader.fixed(4, n, 8)
    cdef const uint32_t* types = <const uint32_t*>reader.fixed(5, n, 4)
    cdef const uint32_t* keys = reader.offsets(6, 7, n)
    cdef unordered_map[uint32_t, uint32_t] declared    # slot -> attempt
    cdef ColumnWriter answer = ColumnWriter(ADOPTED_COLUMNS)
    cdef uint32_t n_held = 0
    cdef Row row
    if not by_key and header[0] != model.epoch:
        raise FrameError("a worker declared tasks of another life of the scheduler")
    learn_types(model, worker, reader)
    for i in range(n):
        if status[i] > STOPPING or types[i] >= worker.types.size():
            raise FrameError(f"row {i} of a declaration has an unknown status or type")
    if fresh:
        begin_anew(model, worker)
    answer.put_u64(0, model.epoch)
    for i in range(n):
        row.id = ids[i]
        row.attempt = attempts[i]
        row.status = status[i]
        row.nbytes = sizes[i]
        row.type = types[i]
        slot = find_row(model, &row, reader.starts[7] + keys[i], keys[i + 1] - keys[i], by_key)
        if slot != NONE and take_row(model, worker, slot, &row, fresh, by_key):
            declared[slot] = row.attempt
            n_held += model.task(slot).state == MEMORY and model.is_held_by(model.task(slot), worker.number)
            answer.put_u64(1, model.id_of(slot))
            answer.put_u32(2, model.task(slot).attempt)
        else:
            answer.put_u64(1, 0)
            answer.put_u32(2, 0)
            refuse_row(model, worker, slot, &row, by_key)
        answer.n_rows += 1
    lose_undeclared(model, worker, declared, fresh)
    if n_held < worker.n_held:
        lose_undeclared_data(model, worker, declared)
    forget_asked(worker)
    model.load.update(worker)
    return answer.finish() if by_key else None


cdef int learn_types(Model model, WorkerRecord worker, ColumnReader reader) except -1:
    """The names of all types of this worker, in the order of its numbers."""
    cdef uint64_t count = reader.length_of(8, 4)
    cdef const uint32_t* offsets
    cdef uint32_t i
    if count == 0 or count - 1 <= worker.types.size():
        return 0
    if count > MAX_TYPES:
        raise FrameError(f"a worker names more than {MAX_TYPES} types of results")
    offsets = reader.offsets(8, 9, count - 1)
    for i in range(<uint32_t>worker.types.size(), <uint32_t>count - 1):
        worker.types.push_back(
            model.type_number(<const char*>reader.starts[9] + offsets[i], offsets[i + 1] - offsets[i])
        )
    return 0


cdef int begin_anew(Model model, WorkerRecord worker) except -1:
    """The connection is new: what was on its way over the last one is lost."""
    cdef uint32_t slot = worker.first
    cdef Task* task
    if worker.away:
        worker.away = False
        model.n_away -= 1
        model.mark_worker(worker)
    worker.occupancy -= <long long>(worker.stopping.size() * STOPPING_NANOSECONDS)
    worker.stopping.clear()
    while slot != NONE:
        task = model.task(slot)
        if task.flags & RETRACTING:
            task.flags &= ~RETRACTING
            worker.n_retracting -= 1
        slot = task.next
    return try_unreachable(model)


cdef uint32_t find_row(Model model, Row* row, const uint8_t* key, uint32_t length, bint by_key) except? NONE:
    """The slot of the task that a row is about, or NONE."""
    if not by_key:
        return NONE if model.find(row.id) == NULL else <uint32_t>row.id
    if length == 0:
        return NONE
    return model.keys.find(model.keys.hash(key, length), key, length)


cdef bint take_row(Model model, WorkerRecord worker, uint32_t slot, Row* row, bint fresh, bint by_key) except -1:
    """Take over what a row declares; False if there is no use for it."""
    cdef Task* task = model.task(slot)
    cdef bint here = task.state == PROCESSING and task.worker == worker.number
    if row.status == HELD:
        return take_data(model, worker, slot, row, fresh, by_key)
    if row.status == STOPPING:
        return False
    if here:
        if row.status == EXECUTING and row.attempt == task.attempt:
            task.flags |= STARTED
        return row.attempt == task.attempt
    if model.is_held_by(task, worker.number):
        # It finished after it was declared, and that was told earlier.
        return not fresh
    if row.status == QUEUED or not fresh or task.state not in (WAITING, READY, NO_WORKER):
        return False
    if not by_key and row.attempt != task.attempt:
        return False
    adopt(model, worker, slot, row.attempt)
    return True


cdef bint take_data(Model model, WorkerRecord worker, uint32_t slot, Row* row, bint fresh, bint by_key) except -1:
    cdef Task* task = model.task(slot)
    cdef uint32_t type = worker.types[row.type]
    if task.state == MEMORY:
        if fresh and not model.is_held_by(task, worker.number):
            hold(model, slot, worker.number)
        return model.is_held_by(task, worker.number)
    if task.state == SCATTERING:
        scattering_to_memory(model, slot, worker.number, row.nbytes, type)
        return True
    if task.state == PROCESSING:
        if task.worker != worker.number or task.flags & AHEAD and task.waiting_on:
            return False
        processing_to_memory(model, slot, row.nbytes, type, NULL, 0)
        return True
    if not fresh or task.state not in (WAITING, READY, NO_WORKER):
        return False
    if not by_key and row.attempt and row.attempt != task.attempt:
        return False
    if by_key:
        task.attempt = max(task.attempt, row.attempt)
    needed_to_memory(model, slot, worker.number, row.nbytes, type)
    return True


cdef int adopt(Model model, WorkerRecord worker, uint32_t slot, uint32_t attempt) except -1:
    """WAITING, READY or NO_WORKER -> PROCESSING: an attempt that was given up goes on all the same."""
    cdef Task* task = model.task(slot)
    task.attempt = max(task.attempt, attempt)
    model.retries.forget(model.id_of(slot))
    book(model, slot, worker)
    task.flags |= STARTED
    model.mark_worker(worker)
    return 0


cdef int refuse_row(Model model, WorkerRecord worker, uint32_t slot, Row* row, bint by_key) except -1:
    """Have the worker forget what a row declares, unless that would take more from it."""
    cdef Task* task
    if by_key:
        return 0
    if row.status == STOPPING:
        return note_stopping(model, worker, row.id)
    if slot != NONE:
        task = model.task(slot)
        if task.worker == worker.number or model.is_held_by(task, worker.number):
            return 0
    return tell_free(model, worker, row.id)


cdef int lose_undeclared(Model model, WorkerRecord worker, unordered_map[uint32_t, uint32_t]& declared,
                         bint fresh) except -1:
    """What the worker was given and does not have is needed again."""
    cdef uint64_t id
    cdef uint32_t slot
    cdef Task* task
    cdef size_t i
    if fresh:
        note_given(model, worker)
    for i in range(worker.asked_ids.size()):
        id = worker.asked_ids[i]
        slot = <uint32_t>id
        task = model.find(id)
        if (
            task == NULL or task.state != PROCESSING or task.worker != worker.number
            or task.attempt != worker.asked_attempts[i] or declared.count(slot)
        ):
            continue
        # The worker may have another attempt.
        processing_to_needed(model, slot, True)
    return 0


cdef int lose_undeclared_data(Model model, WorkerRecord worker, unordered_map[uint32_t, uint32_t]& declared) except -1:
    """What the worker is believed to hold, and does not hold, is lost; it costs as much as there are tasks."""
    cdef uint32_t number, i, slot
    cdef Task* task
    for number in range(<uint32_t>model.slabs.size()):
        if model.slabs[number].tasks == NULL:
            continue
        for i in range(SLAB_TASKS):
            slot = (number << SLAB_BITS) | i
            task = model.task(slot)
            if task.state != MEMORY or declared.count(slot) or not model.is_held_by(task, worker.number):
                continue
            if lose_holder(model, slot, worker.number):
                memory_to_lost(model, slot)
    return 0
