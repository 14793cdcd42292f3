"""What workers are told: the rows of RUN and FREE frames.

May import: _core/codec, the model.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport MAX_FRAME_BYTES, WorkerRecord
from fastdist._core.scheduler.records cimport AHEAD, INLINE, MEMORY, NONE, Task


cdef enum:
    FAILURES_BIT = 2           # the upper bits of a row's flags count the failures of its task so far, up to a limit
    MAX_FAILURES = 63


cdef int write_run_row(Model model, uint32_t slot, WorkerRecord worker) except -1:
    """One RUN row, with what the worker does not know yet of function, options and addresses."""
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
    model.payload.argument_bytes(task, &length)
    if worker.run.n_rows and worker.run.size(9) + worker.run.size(19) + length > MAX_FRAME_BYTES:
        worker.early.append(worker.run.finish())
    if worker.run.n_rows == 0:
        worker.run.put_u64(0, model.epoch)
        worker.run.put_u32(6, 0)
        worker.run.put_u32(8, 0)
        worker.run.put_u32(10, 0)
        worker.run.put_u32(13, 0)
        worker.run.put_u32(18, 0)
        worker.run.put_u32(21, 0)
        worker.run.put_u32(24, 0)
        model.mark_worker(worker)
    worker.run.put_u64(1, model.id_of(slot))
    worker.run.put_u32(2, task.attempt)
    worker.run.put_u32(3, task.function)
    worker.run.put_f64(4, priority)
    worker.run.put_u64(5, (<uint64_t>task.submission << 32) | task.order)
    data = model.payload.key_bytes(task, &length)
    worker.run.put_piece(6, 7, data, length)
    data = model.payload.argument_bytes(task, &length)
    worker.run.put_piece(8, 9, data, length)
    for i in range(task.n_dependencies):
        dependency = model.task(dependencies[i])
        worker.run.put_u64(11, model.id_of(dependencies[i]))
        worker.run.put_u64(12, dependency.nbytes if dependency.state == MEMORY else 0)
        if dependency.holder != NONE:
            worker.run.put_u32(14, dependency.holder)
            tell_address(model, worker, dependency.holder)
            holder = dependency.more_holders
            while holder != NONE:
                worker.run.put_u32(14, model.holders[holder].worker)
                tell_address(model, worker, model.holders[holder].worker)
                holder = model.holders[holder].next
        worker.run.put_u32(13, <uint32_t>(worker.run.size(14) >> 2))
    worker.run.put_u32(10, <uint32_t>(worker.run.size(11) >> 3))
    if task.flags & INLINE:
        flags |= 1
    if task.flags & AHEAD:
        flags |= 2
    worker.run.put_u8(15, flags)
    worker.run.put_u32(16, tell_options(model, worker, task.options))
    tell_function(model, worker, task.function)
    worker.run.n_rows += 1
    return 0


cdef inline int tell_function(Model model, WorkerRecord worker, uint32_t number) except -1:
    if number >= worker.knows_function.size():
        worker.knows_function.resize(number + 1)
    if not worker.knows_function[number]:
        worker.knows_function[number] = True
        worker.run.put_u32(17, number)
        worker.run.put_piece(18, 19, model.functions[number].payload, model.functions[number].length)
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
        worker.run.put_u32(20, number)
        worker.run.put_piece(21, 22, <const char*>text, len(text))
    return number


cdef inline int tell_address(Model model, WorkerRecord worker, uint32_t number) except -1:
    cdef bytes address
    if number >= worker.knows_address.size():
        worker.knows_address.resize(number + 1)
    if not worker.knows_address[number] and number != worker.number:
        worker.knows_address[number] = True
        address = model.worker(number).address_bytes
        worker.run.put_u32(23, number)
        worker.run.put_piece(24, 25, <const char*>address, len(address))
    return 0


cdef int tell_free(Model model, WorkerRecord worker, uint64_t id) except -1:
    """Have `worker` forget a task and drop its data."""
    if worker.alive and not worker.away:
        if worker.free.size(0) == 0:
            worker.free.put_u64(0, model.epoch)
        worker.free.put_u64(1, id)
        worker.free.n_rows += 1
        model.mark_worker(worker)
    return 0
