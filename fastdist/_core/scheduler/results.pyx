"""What workers send: DONE frames become transitions.

Rows are applied in order. A row that does not name the current attempt of a task at its current worker is stale: it is
counted, and data that the scheduler does not want is given back to be freed. Durations and sizes are averaged per
prefix over the frame. May import: the scheduler's model and transitions.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport (
    DONE_ERRED,
    DONE_FINISHED,
    DONE_MISSING,
    DONE_REPLICA,
    DONE_RESCHEDULE,
    DONE_RETRACT_REFUSED,
    DONE_RETRACTED,
    DONE_RETURNED,
    DONE_STARTED,
    DONE_WAITS,
    ColumnReader,
)
from fastdist._core.scheduler.holding cimport hold, lose_holder
from fastdist._core.scheduler.model cimport Model, Prefix
from fastdist._core.scheduler.orders cimport tell_free
from fastdist._core.scheduler.parties cimport WorkerRecord
from fastdist._core.scheduler.records cimport (
    AHEAD,
    ERRED,
    MEMORY,
    NONE,
    NO_WORKER,
    PROCESSING,
    READY,
    RETRACTING,
    SCATTERING,
    SECEDED,
    STARTED,
    WAITS,
    Task,
)
from fastdist._core.scheduler.retries cimport AGAIN_BIT, ELSEWHERE_BIT, FINAL
from fastdist._core.scheduler.transitions cimport (
    any_to_erred,
    give_thread_back,
    memory_to_lost,
    note_stopped,
    note_stopping,
    processing_to_memory,
    processing_to_needed,
    scattering_to_memory,
    take_thread,
)

from fastdist.errors import FrameError

cdef enum:
    DONE_COLUMNS = 11
    MAX_TYPES = 1 << 16
    UNREACHED = 1              # attempt of a MISSING row: the holder was not reached, it may have the data all the same
    MAX_LOOKED_AT = 1000       # tasks; with more of them, data counts as too dear to compute it again


cdef struct Row:
    uint64_t id
    uint32_t attempt
    uint8_t status
    uint64_t nbytes
    float seconds
    uint32_t type
    const uint8_t* payload
    uint32_t length


cdef int take_done(Model model, WorkerRecord worker, object body) except -1:
    """Apply a DONE frame of `worker`."""
    cdef ColumnReader reader = ColumnReader(body, DONE_COLUMNS)
    cdef uint32_t n = reader.n_rows, i
    cdef const uint64_t* header = <const uint64_t*>reader.fixed(0, 1, 8)
    cdef const uint64_t* ids = <const uint64_t*>reader.fixed(1, n, 8)
    cdef const uint32_t* attempts = <const uint32_t*>reader.fixed(2, n, 4)
    cdef const uint8_t* status = reader.fixed(3, n, 1)
    cdef const uint64_t* sizes = <const uint64_t*>reader.fixed(4, n, 8)
    cdef const float* seconds = <const float*>reader.fixed(5, n, 4)
    cdef const uint32_t* types = <const uint32_t*>reader.fixed(6, n, 4)
    cdef const uint32_t* offsets = reader.offsets(7, 8, n)
    cdef vector[uint32_t] prefixes
    cdef uint64_t n_types
    cdef Row row
    if header[0] != model.epoch:
        model.stale_results += n
        return 0
    n_types = worker.types.size() + count_types(worker, reader)
    for i in range(n):
        if status[i] > DONE_RETURNED or types[i] >= n_types and status[i] == DONE_FINISHED:
            raise FrameError(f"row {i} of a DONE frame has an unknown status or type")
    learn_types(model, worker, reader)
    for i in range(n):
        row.id = ids[i]
        row.attempt = attempts[i]
        row.status = status[i]
        row.nbytes = sizes[i]
        row.seconds = seconds[i]
        row.type = types[i]
        row.payload = reader.starts[8] + offsets[i]
        row.length = offsets[i + 1] - offsets[i]
        take_row(model, worker, &row, prefixes)
    learn_durations(model, prefixes)
    model.mark_worker(worker)
    return 0


cdef uint64_t count_types(WorkerRecord worker, ColumnReader reader) except? 0xFFFFFFFF:
    """How many new types the frame names."""
    cdef uint64_t count = reader.length_of(9, 4)
    if count == 0:
        return 0
    reader.offsets(9, 10, count - 1)
    if worker.types.size() + count > MAX_TYPES:
        raise FrameError(f"a worker names more than {MAX_TYPES} types of results")
    return count - 1


cdef int learn_types(Model model, WorkerRecord worker, ColumnReader reader) except -1:
    cdef uint64_t count = reader.length_of(9, 4)
    cdef const uint32_t* offsets = <const uint32_t*>reader.starts[9]
    cdef uint32_t i
    if count == 0:
        return 0
    for i in range(<uint32_t>count - 1):
        worker.types.push_back(
            model.type_number(<const char*>reader.starts[10] + offsets[i], offsets[i + 1] - offsets[i])
        )
    return 0


cdef int take_row(Model model, WorkerRecord worker, Row* row, vector[uint32_t]& prefixes) except -1:
    cdef Task* task = model.find(row.id)
    if row.status == DONE_REPLICA:
        return take_replica(model, worker, task, row)
    if row.status == DONE_MISSING:
        return take_missing(model, task, row)
    if task == NULL or task.state != PROCESSING or task.worker != worker.number or task.attempt != row.attempt:
        if take_dismissed(model, worker, task, row):
            return 0
        model.stale_results += 1
        if row.status == DONE_FINISHED and not has_use_for(model, task, worker):
            tell_free(model, worker, row.id)
        return 0
    if row.status == DONE_FINISHED or row.status == DONE_ERRED:
        return take_outcome(model, worker, task, row, prefixes)
    if row.status == DONE_STARTED:
        task.flags |= STARTED
    elif row.status == DONE_RETRACT_REFUSED:
        if task.flags & RETRACTING:
            task.flags &= ~RETRACTING
            worker.n_retracting -= 1
        task.flags |= STARTED
    elif row.status >= DONE_WAITS:
        take_away(model, task, row.status)
    else:
        processing_to_needed(model, <uint32_t>row.id, row.status == DONE_RESCHEDULE)
        if model.n_away and row.status == DONE_RETRACTED:
            wait_for_away(model, <uint32_t>row.id)
        if row.status == DONE_RETRACTED and row.nbytes and task.state == READY:
            # Its inputs are there, but its worker did not reach them.
            return try_again(model, worker, task, row)
    return 0


cdef int wait_for_away(Model model, uint32_t slot) except -1:
    """A task that was given back waits if all that hold one of its inputs are away: until they are back or lost."""
    cdef Task* task = model.task(slot)
    cdef vector[uint32_t] holders
    cdef bint reachable
    cdef uint32_t i
    if task.state != READY:
        return 0
    for i in range(task.n_dependencies):
        model.holders_into(model.task(model.dependencies_of(task)[i]), holders)
        reachable = False
        for number in holders:
            reachable = reachable or not model.worker(number).away
        if not reachable:
            model.set_state(task, NO_WORKER)
            model.unreachable.push_back(model.id_of(slot))
            return 0
    return 0


cdef bint take_dismissed(Model model, WorkerRecord worker, Task* task, Row* row) except -1:
    """A row of a task that was taken from this worker; whether it only says how long its thread is taken."""
    if row.status == DONE_STARTED:
        if task != NULL and task.state == PROCESSING and task.worker == worker.number:
            # It executes for the attempt that is wanted.
            return False
        note_stopping(model, worker, row.id)
        return True
    if row.status == DONE_FINISHED or row.status == DONE_ERRED or row.status == DONE_RESCHEDULE:
        return note_stopped(model, worker, row.id) and row.status == DONE_RESCHEDULE
    return False


cdef void take_away(Model model, Task* task, uint8_t status) noexcept:
    """The task gave its thread back, or has one again."""
    if status == DONE_RETURNED:
        take_thread(model, task)
    else:
        give_thread_back(model, task, WAITS if status == DONE_WAITS else SECEDED)


cdef int take_outcome(Model model, WorkerRecord worker, Task* task, Row* row, vector[uint32_t]& prefixes) except -1:
    cdef Prefix* prefix
    model.row_seconds = row.seconds
    if task.flags & AHEAD and task.waiting_on:
        # Its inputs were computed again elsewhere, or never: the outcome belongs to another history.
        model.stale_results += 1
        return processing_to_needed(model, <uint32_t>row.id, True)
    if row.status == DONE_ERRED:
        if task.retries and row.nbytes != FINAL:
            task.retries -= 1
            processing_to_needed(model, <uint32_t>row.id, True)
            return try_again(model, worker, task, row)
        any_to_erred(model, <uint32_t>row.id, row.payload, row.length)
        note_stopped(model, worker, row.id)
        return 0
    prefix = &model.prefixes[task.prefix]
    if prefix.recent_count == 0:
        prefixes.push_back(task.prefix)
    prefix.recent_count += 1
    prefix.recent_seconds += row.seconds
    prefix.recent_bytes += <double>row.nbytes
    return processing_to_memory(model, <uint32_t>row.id, row.nbytes, worker.types[row.type], row.payload, row.length)


cdef int try_again(Model model, WorkerRecord worker, Task* task, Row* row) except -1:
    """A task that raised is needed again: later, or elsewhere, if its policy says so."""
    cdef double seconds = 0.0
    cdef uint32_t avoid = NONE
    if not row.nbytes >> AGAIN_BIT:
        return 0
    if row.nbytes >> ELSEWHERE_BIT & 1:
        avoid = worker.number
    if task.state == READY:
        seconds = (row.nbytes & ((<uint64_t>1 << ELSEWHERE_BIT) - 1)) * 1e-6
    if seconds == 0 and avoid == NONE:
        model.retries.forget(row.id)
        return 0
    model.retries.add(row.id, seconds, avoid)
    if seconds > 0:
        model.set_state(task, NO_WORKER)
    return 0


cdef uint32_t n_attempts(Model model, Task* task) noexcept:
    """How often the task was tried, with the attempt that runs or has ended it; lost workers count."""
    cdef uint32_t count = task.suspicious
    if task.attempt == 0:
        return 0
    if task.options:
        count += model.option(task.options).retries - task.retries
    if task.state == PROCESSING or task.state == MEMORY:
        return count + 1
    return count + 1 if task.state == ERRED and task.suspicious <= model.allowed_failures else count


cdef int take_replica(Model model, WorkerRecord worker, Task* task, Row* row) except -1:
    if task != NULL and task.state == MEMORY:
        return hold(model, <uint32_t>row.id, worker.number)
    if task != NULL and task.state == SCATTERING:
        return scattering_to_memory(
            model, <uint32_t>row.id, worker.number, row.nbytes,
            worker.types[row.type] if row.type < worker.types.size() else 0
        )
    model.stale_results += 1
    if not has_use_for(model, task, worker):
        tell_free(model, worker, row.id)
    return 0


cdef bint has_use_for(Model model, Task* task, WorkerRecord worker) noexcept:
    """Whether FREE would take from the worker what it is known to hold, or is about to compute."""
    if task == NULL:
        return False
    return model.is_held_by(task, worker.number) or task.worker == worker.number


cdef int take_missing(Model model, Task* task, Row* row) except -1:
    """A worker (`nbytes` is its number) did not have what it was believed to hold, or (attempt 1) was not reached."""
    if task == NULL or task.state != MEMORY or row.nbytes >= model.load.positions.size():
        return 0
    if row.attempt == UNREACHED and not can_be_computed_again(model, <uint32_t>row.id):
        # The worker lives as far as is known, and what it holds is all there is.
        return 0
    if model.is_held_by(task, <uint32_t>row.nbytes) and not model.worker(<uint32_t>row.nbytes).away:
        tell_free(model, model.worker(<uint32_t>row.nbytes), row.id)
        if lose_holder(model, <uint32_t>row.id, <uint32_t>row.nbytes):
            memory_to_lost(model, <uint32_t>row.id)
    return 0


cdef bint can_be_computed_again(Model model, uint32_t slot) except -1:
    """Whether everything that is needed to compute the data of a task a second time is there, or can be computed."""
    cdef list stack = [slot]
    cdef set seen = set()
    cdef Task* task
    cdef uint32_t i, dependency
    while stack:
        task = model.task(stack.pop())
        if task.function == NONE or len(seen) > MAX_LOOKED_AT:
            return False
        for i in range(task.n_dependencies):
            dependency = model.dependencies_of(task)[i]
            if dependency not in seen and model.task(dependency).state != MEMORY:
                seen.add(dependency)
                stack.append(dependency)
    return True


cdef int learn_durations(Model model, vector[uint32_t]& prefixes) except -1:
    """Move each prefix's averages half way to those of the frame."""
    cdef Prefix* prefix
    cdef double seconds, nbytes
    cdef size_t i
    for i in range(prefixes.size()):
        prefix = &model.prefixes[prefixes[i]]
        seconds = prefix.recent_seconds / prefix.recent_count
        nbytes = prefix.recent_bytes / prefix.recent_count
        if not 0 <= seconds < 1e9:
            seconds = 0.0
        prefix.duration = seconds if prefix.duration < 0 else (prefix.duration + seconds) / 2
        prefix.nbytes = nbytes if prefix.nbytes < 0 else (prefix.nbytes + nbytes) / 2
        prefix.duration_class = model.class_of(prefix.duration)
        prefix.recent_seconds = 0.0
        prefix.recent_bytes = 0.0
        prefix.recent_count = 0
    return 0
