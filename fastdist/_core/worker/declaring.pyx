"""What a worker declares to have, and what becomes of it in another life of the scheduler.

A declaration lists every record that means something to the scheduler; the rows that were reported before it go out
before it. After a scheduler was recovered, tasks have other ids: what has not started is dropped (it is placed anew),
the rest is declared by key and takes the ids of the answer. Ids of two lives never collide, so one that got no new
id names nothing any more. May import: the worker core.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.unordered_map cimport unordered_map
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport DONE_FINISHED, DONE_RETRACTED, ColumnReader, ColumnWriter
from fastdist._core.digest cimport digest_of
from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport (
    EXECUTING, MEMORY, READY, WAITING, TaskRecord, edges_of,
)

from fastdist.errors import FrameError

cdef enum:
    DECLARE_COLUMNS = 10
    ADOPTED_COLUMNS = 3
    # Functions and options of a former life that tasks execute: their numbers may be given away again.
    FORMER = 0x80000000

cdef enum:
    HELD = 0
    EXECUTES = 1
    QUEUED = 2
    STOPPING = 3


cdef bytes take_rows(WorkerCore core):
    """The open DONE frame, or None; the lock is held. Allocating bytes runs no other code."""
    if core.done.n_rows == 0:
        return None
    body = core.done.finish()
    core.open_frame()
    return body


def digests(WorkerCore core) -> tuple[bytes | None, int, int, int]:
    """The DONE frame to send first; the digests of what is held and of what was given; how many frames came."""
    core.gate.lock()
    try:
        return take_rows(core), core.held_digest, core.given_digest, core.n_received
    finally:
        core.gate.unlock()


def begin_connection(WorkerCore core) -> None:
    """Frames are counted per connection."""
    core.gate.lock()
    core.n_received = 0
    core.gate.unlock()


def declare(WorkerCore core, bint with_keys=False) -> tuple[bytes | None, bytes]:
    """The DONE frame to send first, and the declaration; keys matter only to another life of the scheduler."""
    cdef ColumnWriter out = ColumnWriter(DECLARE_COLUMNS)
    cdef TaskRecord* record
    cdef size_t i
    core.gate.lock()
    try:
        out.put_u64(0, core.epoch)
        out.put_u32(6, 0)
        out.put_u32(8, 0)
        for i in range(core.pool.table.size()):
            record = core.pool.table[i]
            if record != NULL:
                write_row(out, record, with_keys)
        for i in range(core.type_names.size()):
            out.put_piece(8, 9, core.type_names[i].data(), core.type_names[i].size())
        return take_rows(core), out.finish()
    finally:
        core.gate.unlock()


cdef void write_row(ColumnWriter out, TaskRecord* record, bint with_keys) noexcept nogil:
    cdef uint8_t status
    if record.state == MEMORY:
        status = HELD
    elif record.state == EXECUTING:
        status = STOPPING if record.forgotten else EXECUTES
    elif record.state == WAITING or record.state == READY:
        status = QUEUED
    else:
        return
    out.put_u64(1, record.task_id)
    out.put_u32(2, record.attempt)
    out.put_u8(3, status)
    out.put_u64(4, record.nbytes)
    out.put_u32(5, record.type_number if status == HELD else 0)
    out.put_piece(6, 7, record.payload, record.key_length if with_keys and record.payload != NULL else 0)
    out.n_rows += 1


def report_all_away(WorkerCore core, double now) -> None:
    """Say again which tasks execute without a slot."""
    cdef TaskRecord* record
    cdef size_t i
    core.gate.lock()
    for i in range(core.pool.table.size()):
        record = core.pool.table[i]
        if record != NULL and record.state == EXECUTING and record.away:
            core.report_away(record, now)
    core.gate.unlock()


def renumber(WorkerCore core, uint32_t number) -> None:
    """The scheduler knows this worker by another number."""
    core.gate.lock()
    core.number = number
    core.gate.unlock()


def forget_unstarted(WorkerCore core, double now) -> None:
    """Another life of the scheduler begins: drop what has not started and the inputs on their way, and every report."""
    cdef vector[uint64_t] unstarted
    cdef TaskRecord* record
    cdef size_t i
    core.gate.lock()
    for i in range(core.pool.table.size()):
        record = core.pool.table[i]
        if record != NULL and record.state != EXECUTING and record.state != MEMORY:
            unstarted.push_back(record.task_id)
    for i in range(unstarted.size()):
        record = core.pool.find(unstarted[i])
        if record != NULL:
            core.release(record, now)
    core.done.clear()
    core.open_frame()
    core.gate.unlock()


def adopt(WorkerCore core, uint64_t epoch, uint32_t number, object declaration, object answer, double now) -> tuple:
    """Take the ids of another life of the scheduler.

    Parameters
    ----------
    epoch, number : int
        Of that life.
    declaration, answer : bytes
        What was declared, and the scheduler's answer to it.

    Returns
    -------
    renamed, dropped : list
        Pairs of an old and a new id whose values may be in the store; ids of values that leave it.
    """
    cdef ColumnReader declared = ColumnReader(declaration, DECLARE_COLUMNS)
    cdef ColumnReader adopted = ColumnReader(answer, ADOPTED_COLUMNS)
    cdef uint32_t n = declared.n_rows, i
    cdef const uint64_t* old_ids = <const uint64_t*>declared.fixed(1, n, 8)
    cdef const uint8_t* status = declared.fixed(3, n, 1)
    cdef uint64_t n_types = declared.length_of(8, 4)
    cdef const uint64_t* new_ids = <const uint64_t*>adopted.fixed(1, n, 8)
    cdef const uint32_t* attempts = <const uint32_t*>adopted.fixed(2, n, 4)
    cdef unordered_map[uint64_t, uint32_t] rows
    cdef vector[uint64_t] dropped
    if (<const uint64_t*>adopted.fixed(0, 1, 8))[0] != epoch:
        raise FrameError("the answer to a declaration is of another life of the scheduler")
    keep_former(core)
    core.gate.lock()
    core.epoch = epoch
    core.number = number
    core.done.clear()
    core.open_frame()
    # The answer is from somebody who knows the types that were declared.
    for i in range(<uint32_t>n_types - 1 if n_types else 0, <uint32_t>core.type_names.size()):
        core.done.put_piece(9, 10, core.type_names[i].data(), core.type_names[i].size())
    for i in range(n):
        if new_ids[i]:
            rows[old_ids[i]] = i
    forget_others(core, rows, now)
    dropped.swap(core.dropped)
    rename_all(core, rows, new_ids, attempts)
    for i in range(n):
        if new_ids[i] and status[i] == EXECUTES:
            report_ended(core, new_ids[i], attempts[i], now)
    core.gate.unlock()
    return [(old_ids[i], new_ids[i]) for i in range(n) if new_ids[i]], list(dropped)


cdef int keep_former(WorkerCore core) except -1:
    """What tasks execute now stays under numbers that no scheduler gives."""
    cdef TaskRecord* record
    cdef dict functions = {}, options = {}
    cdef size_t i
    for i in range(core.pool.table.size()):
        record = core.pool.table[i]
        if record == NULL or record.state != EXECUTING or record.function_id & FORMER:
            continue
        if record.function_id in core.functions:
            functions[record.function_id | <uint32_t>FORMER] = core.functions[record.function_id]
        if record.option_id in core.options:
            options[record.option_id | <uint32_t>FORMER] = core.options[record.option_id]
            record.option_id |= FORMER
        record.function_id |= FORMER
    functions.update({key: value for key, value in core.functions.items() if key & FORMER})
    options.update({key: value for key, value in core.options.items() if key & FORMER})
    core.functions.clear()
    core.functions.update(functions)
    core.options.clear()
    core.options.update(options)
    core.addresses.clear()
    return 0


cdef void forget_others(WorkerCore core, unordered_map[uint64_t, uint32_t]& rows, double now) noexcept nogil:
    """What the scheduler has no use for is dropped, or ends unheard."""
    cdef vector[uint64_t] others
    cdef TaskRecord* record
    cdef size_t i
    for i in range(core.pool.table.size()):
        record = core.pool.table[i]
        if record != NULL and not rows.count(record.task_id):
            others.push_back(record.task_id)
    for i in range(others.size()):
        record = core.pool.find(others[i])
        if record == NULL:
            continue
        if record.state != EXECUTING:
            core.release(record, now)
        elif not record.forgotten:
            record.forgotten = True
            core.count_given(record)


cdef void rename_all(WorkerCore core, unordered_map[uint64_t, uint32_t]& rows, const uint64_t* new_ids,
                     const uint32_t* attempts) noexcept nogil:
    cdef TaskRecord* record
    cdef size_t i
    cdef uint32_t k, row
    core.held_digest = 0
    core.given_digest = 0
    for i in range(core.pool.table.size()):
        record = core.pool.table[i]
        if record == NULL:
            continue
        if record.state == EXECUTING:
            for k in range(record.n_inputs):
                if rows.count(edges_of(record)[k].task_id):
                    edges_of(record)[k].task_id = new_ids[rows[edges_of(record)[k].task_id]]
        if rows.count(record.task_id):
            row = rows[record.task_id]
            record.task_id = new_ids[row]
            record.attempt = attempts[row]
        record.given = 0
        core.count_given(record)
        if record.state == MEMORY:
            core.held_digest += digest_of(record.task_id, 0)
    core.pool.rehash()


cdef void report_ended(WorkerCore core, uint64_t task_id, uint32_t attempt, double now) noexcept nogil:
    """A task that executed when it was declared may have ended since."""
    cdef TaskRecord* record = core.pool.find(task_id)
    if record == NULL:
        core.report(task_id, attempt, DONE_RETRACTED, 0, 0, 0, NULL, 0, now)
    elif record.state == MEMORY:
        core.report(task_id, attempt, DONE_FINISHED, record.nbytes, 0, record.type_number, NULL, 0, now)
    elif record.away:
        core.report_away(record, now)
