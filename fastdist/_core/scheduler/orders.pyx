"""What workers are told: FREE, RUN and RETRACT frames.

May import: _core/codec, the model.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport FREE, RETRACT, RUN, ColumnWriter
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport MAX_FRAME_BYTES, Recall, WorkerRecord
from fastdist._core.scheduler.records cimport AHEAD, INLINE, MEMORY, NONE, Task


cdef enum:
    TO_WORKER = 0              # the target of a command, as in `core`
    FAILURES_BIT = 2           # the upper bits of a row's flags count the failures of its task so far, up to a limit
    MAX_FAILURES = 63


cdef int worker_frames(Model model, WorkerRecord worker, list commands) except -1:
    """Append the commands with all that a worker must be told.

    Rows are written here, worker by worker, into buffers that all of them share: those of thousands of workers would
    not fit into a cache.
    """
    cdef Py_ssize_t before = len(commands)
    # FREE first: a slot that is freed and used again in one batch must be free at the worker before it runs there.
    if not worker.freed.empty() or not worker.unused.empty():
        commands.append((<int>TO_WORKER, worker.number, <int>FREE, free_frame(model, worker)))
    if worker.given != NONE:
        run_frames(model, worker, commands)
    # RETRACT last: what is recalled back may have been given in this very batch.
    if not worker.recalled.empty():
        commands.append((<int>TO_WORKER, worker.number, <int>RETRACT, retract_frame(model, worker)))
    worker.n_sent += len(commands) - before
    return 0


cdef bytes free_frame(Model model, WorkerRecord worker):
    cdef ColumnWriter free = model.free
    cdef vector[uint64_t] ids
    cdef vector[uint32_t] functions
    ids.swap(worker.freed)
    functions.swap(worker.unused)
    free.put_u64(0, model.epoch)
    free.put(1, ids.data(), ids.size() * sizeof(uint64_t))
    free.put(3, functions.data(), functions.size() * sizeof(uint32_t))
    free.n_rows = <uint32_t>ids.size()
    return free.finish()


cdef bytes retract_frame(Model model, WorkerRecord worker):
    cdef ColumnWriter retract = model.free
    cdef vector[Recall] recalled
    cdef size_t i
    recalled.swap(worker.recalled)
    retract.put_u64(0, model.epoch)
    for i in range(recalled.size()):
        retract.put_u64(1, recalled[i].id)
        retract.put_u32(2, recalled[i].attempt)
    retract.n_rows = <uint32_t>recalled.size()
    return retract.finish()


cdef int run_frames(Model model, WorkerRecord worker, list commands) except -1:
    """What the worker was given since the last batch is the end of the list of its tasks."""
    cdef ColumnWriter run = model.run
    cdef uint32_t slot = worker.given, length
    cdef Task* task
    worker.given = NONE
    while slot != NONE:
        task = model.task(slot)
        model.payload.argument_bytes(task, &length)
        if run.n_rows and run.size(9) + run.size(19) + length > MAX_FRAME_BYTES:
            commands.append((<int>TO_WORKER, worker.number, <int>RUN, run.finish()))
        if run.n_rows == 0:
            begin_run_frame(model, run)
        write_run_row(model, slot, worker)
        slot = task.next
    commands.append((<int>TO_WORKER, worker.number, <int>RUN, run.finish()))
    return 0


cdef void begin_run_frame(Model model, ColumnWriter run) noexcept:
    run.put_u64(0, model.epoch)
    run.put_u32(6, 0)
    run.put_u32(8, 0)
    run.put_u32(10, 0)
    run.put_u32(13, 0)
    run.put_u32(18, 0)
    run.put_u32(21, 0)
    run.put_u32(24, 0)


cdef int write_run_row(Model model, uint32_t slot, WorkerRecord worker) except -1:
    """One RUN row, with what the worker does not know yet of function, options and addresses."""
    cdef ColumnWriter run = model.run
    cdef Task* task = model.task(slot)
    cdef Task* dependency
    cdef uint32_t* dependencies = model.dependencies_of(task)
    cdef uint32_t length, i, holder
    cdef const uint8_t* data
    cdef double priority = 0.0
    cdef uint8_t flags = 0
    cdef uint32_t failures
    if task.options:
        priority = model.option(task.options).priority
        failures = model.option(task.options).retries - task.retries
        flags = <uint8_t>(min(failures, <uint32_t>MAX_FAILURES) << FAILURES_BIT)
    run.put_u64(1, model.id_of(slot))
    run.put_u32(2, task.attempt)
    run.put_u32(3, task.function)
    run.put_f64(4, priority)
    run.put_u64(5, (<uint64_t>task.submission << 32) | task.order)
    data = model.payload.key_bytes(task, &length)
    run.put_piece(6, 7, data, length)
    data = model.payload.argument_bytes(task, &length)
    run.put_piece(8, 9, data, length)
    for i in range(task.n_dependencies):
        dependency = model.task(dependencies[i])
        run.put_u64(11, model.id_of(dependencies[i]))
        run.put_u64(12, dependency.nbytes if dependency.state == MEMORY else 0)
        if dependency.holder != NONE:
            run.put_u32(14, dependency.holder)
            tell_address(model, worker, dependency.holder)
            holder = dependency.more_holders
            while holder != NONE:
                run.put_u32(14, model.holders[holder].worker)
                tell_address(model, worker, model.holders[holder].worker)
                holder = model.holders[holder].next
        run.put_u32(13, <uint32_t>(run.size(14) >> 2))
    run.put_u32(10, <uint32_t>(run.size(11) >> 3))
    if task.flags & INLINE:
        flags |= 1
    if task.flags & AHEAD:
        flags |= 2
    run.put_u8(15, flags)
    run.put_u32(16, tell_options(model, worker, task.options))
    tell_function(model, worker, task.function)
    run.n_rows += 1
    return 0


cdef inline int tell_function(Model model, WorkerRecord worker, uint32_t number) except -1:
    if number >= worker.knows_function.size():
        worker.knows_function.resize(number + 1)
    if not worker.knows_function[number]:
        worker.knows_function[number] = True
        model.run.put_u32(17, number)
        model.run.put_piece(18, 19, model.functions[number].payload, model.functions[number].length)
    return 0


cdef inline uint32_t tell_options(Model model, WorkerRecord worker, uint32_t number) except? NONE:
    cdef bytes text
    if number == 0:
        return 0
    text = model.option(number).for_worker
    if not text:
        return 0
    if number >= worker.knows_options.size():
        worker.knows_options.resize(number + 1)
    if not worker.knows_options[number]:
        worker.knows_options[number] = True
        model.run.put_u32(20, number)
        model.run.put_piece(21, 22, <const char*>text, len(text))
    return number


cdef inline int tell_address(Model model, WorkerRecord worker, uint32_t number) except -1:
    cdef bytes address
    if number >= worker.knows_address.size():
        worker.knows_address.resize(number + 1)
    if not worker.knows_address[number] and number != worker.number:
        worker.knows_address[number] = True
        address = model.worker(number).address_bytes
        model.run.put_u32(23, number)
        model.run.put_piece(24, 25, <const char*>address, len(address))
    return 0


cdef int tell_free(Model model, WorkerRecord worker, uint64_t id) except -1:
    """Have `worker` forget a task and drop its data."""
    if worker.alive and not worker.away:
        worker.freed.push_back(id)
        model.mark_worker(worker)
    return 0
