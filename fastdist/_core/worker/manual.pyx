"""Execution by hand: the calls of an execution thread, with task ids instead of records.

Tests and the simulator drive a core with these; execution threads use the C-level methods. May import: the worker core.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.codec.frames cimport DONE_RESCHEDULE, DONE_RETRACTED
from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker cimport slots
from fastdist._core.worker.model cimport EXECUTING, TaskRecord, arguments_of, edges_of


cdef TaskRecord* executing(WorkerCore core, uint64_t task_id) except NULL:
    cdef TaskRecord* record
    core.gate.lock()
    record = core.pool.find(task_id)
    core.gate.unlock()
    if record == NULL or record.state != EXECUTING:
        raise KeyError(f"task {task_id} is not executing")
    return record


def pop(WorkerCore core) -> dict | None:
    """Start the next task; a dict of what an execution thread sees, or None."""
    cdef TaskRecord* record = core.take()
    cdef uint32_t i
    if record == NULL:
        return None
    return {
        "task_id": record.task_id,
        "attempt": record.attempt,
        "function": record.function_id,
        "key": PyBytes_FromStringAndSize(<const char*>record.payload, record.key_length),
        "arguments": PyBytes_FromStringAndSize(<const char*>arguments_of(record), record.arguments_length),
        "inputs": [edges_of(record)[i].task_id for i in range(record.n_inputs)],
        "flags": record.flags,
    }


def finished(WorkerCore core, uint64_t task_id, uint64_t nbytes=0, uint32_t type_number=0, float seconds=0,
             bytes payload=b"", double now=0) -> bool:
    """The task returned. False if it had been forgotten: its value must be dropped."""
    cdef TaskRecord* record = executing(core, task_id)
    cdef bint wanted = core.finish(record, nbytes, type_number, seconds, <const uint8_t*>PyBytes_AS_STRING(payload),
                                   len(payload), now, NULL)
    if not wanted:
        core.discard(record, now)
    return wanted


def failed(WorkerCore core, uint64_t task_id, bytes failure, float seconds=0, double now=0,
           uint64_t verdict=0) -> None:
    """The task raised; `verdict` is what its policy says about another attempt."""
    core.fail(
        executing(core, task_id), verdict, seconds, <const uint8_t*>PyBytes_AS_STRING(failure), len(failure), now
    )


def rescheduled(WorkerCore core, uint64_t task_id, float seconds=0, double now=0) -> None:
    """The task asked to be placed again."""
    core.give_up(executing(core, task_id), DONE_RESCHEDULE, seconds, now)


def input_gone(WorkerCore core, uint64_t task_id, double now=0) -> None:
    """An input was freed between the start of the task and its use."""
    core.give_up(executing(core, task_id), DONE_RETRACTED, 0, now)


def started(WorkerCore core, uint64_t task_id, double now=0) -> None:
    """The task has been executing for some time."""
    slots.note_started(core, executing(core, task_id), now)


def left_slot(WorkerCore core, uint64_t task_id, bint seceded=False, double now=0) -> None:
    """The task waits for something, or seceded."""
    slots.leave_slot(core, executing(core, task_id), seceded, now)


def took_slot(WorkerCore core, uint64_t task_id, double now=0) -> None:
    """The task goes on, whether there is a slot for it or not."""
    slots.take_slot(core, executing(core, task_id), True, now)


def relaxed(WorkerCore core, double since) -> None:
    """Tasks that have waited since then or longer let any task use their slots."""
    slots.relax(core, since)
