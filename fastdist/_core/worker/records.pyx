"""The records of a worker core, one by one, as Python values: for views, plugins and tests.

What is asked for is copied under the lock in C, and turned into objects after it. May import: the worker core.
"""

from libc.stdint cimport uint32_t, uint64_t
from libcpp.string cimport string
from libcpp.vector cimport vector

from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport EXECUTING, Edge, TaskRecord, edges_of

from fastdist._core.worker.model import TaskState


cdef struct Row:
    uint64_t task_id
    uint32_t state
    bint away


cdef struct Facts:
    uint64_t nbytes
    double priority
    uint64_t order
    uint32_t attempt
    uint32_t option_id
    uint32_t function_id
    uint32_t type_number
    uint32_t missing
    uint32_t state


def all_tasks(WorkerCore core) -> list[tuple[int, bytes, str]]:
    """(task id, canonical key bytes or b"" if nobody told it, name of the state) of every record.

    A task that executes without a slot is "AWAY".
    """
    cdef vector[Row] rows
    cdef vector[string] keys
    cdef TaskRecord* record
    cdef Row row
    cdef bytes key
    cdef size_t i
    core.gate.lock()
    for i in range(core.pool.table.size()):
        record = core.pool.table[i]
        if record != NULL:
            row.task_id = record.task_id
            row.state = record.state
            row.away = record.state == EXECUTING and record.away
            rows.push_back(row)
            if record.payload:
                keys.push_back(string(<const char*>record.payload, record.key_length))
            else:
                keys.push_back(string())
    core.gate.unlock()
    answer = []
    for i in range(rows.size()):
        key = keys[i]
        answer.append((rows[i].task_id, key, "AWAY" if rows[i].away else TaskState(rows[i].state).name))
    return answer


def facts(WorkerCore core, uint64_t task_id) -> dict | None:
    """What the record of a task says, or None if there is none."""
    cdef TaskRecord* record
    cdef Facts found
    cdef vector[uint64_t] inputs
    cdef Edge* edge
    cdef uint32_t i
    cdef bint linked = False, away = False
    core.gate.lock()
    record = core.pool.find(task_id)
    if record != NULL:
        found.nbytes = record.nbytes
        found.priority = record.priority
        found.order = record.order
        found.attempt = record.attempt
        found.option_id = record.option_id
        found.function_id = record.function_id
        found.type_number = record.type_number
        found.missing = record.missing
        found.state = record.state
        away = record.state == EXECUTING and record.away
        linked = record.linked
        if record.payload:
            for i in range(record.n_inputs):
                edge = &edges_of(record)[i]
                inputs.push_back(edge.task_id)
    core.gate.unlock()
    if record == NULL:
        return None
    return {
        "state": "AWAY" if away else TaskState(found.state).name,
        "nbytes": found.nbytes,
        "priority": (found.priority, found.order),
        "attempt": found.attempt,
        "option": found.option_id,
        "inputs": [inputs[i] for i in range(inputs.size())],
        "missing": found.missing if linked else 0,
    }


def waiters(WorkerCore core, uint64_t task_id) -> list[int]:
    """Ids of the tasks that wait for this one as an input."""
    cdef TaskRecord* record
    cdef Edge* edge
    cdef vector[uint64_t] found
    cdef size_t i
    core.gate.lock()
    record = core.pool.find(task_id)
    edge = NULL
    if record != NULL:
        edge = record.waiters
    while edge != NULL:
        found.push_back(edge.waiter.task_id)
        edge = edge.next
    core.gate.unlock()
    return [found[i] for i in range(found.size())]
