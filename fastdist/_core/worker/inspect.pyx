"""What is in a worker core, for views, tests and debugging.

May import: the worker core.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t

from fastdist._core.digest cimport digest_of
from fastdist._core.history.log cimport TransitionLog
from fastdist._core.worker.away cimport HERE, WAITS
from fastdist._core.worker.core cimport WorkerCore
from fastdist._core.worker.model cimport (
    ERRED, EXECUTING, FETCH, IN_FLIGHT, MEMORY, READY, STATE_COUNT, WAITING, Edge, TaskRecord, edges_of,
)

from fastdist._core.worker.model import TaskState


cdef bytes key_bytes(TaskRecord* record):
    return PyBytes_FromStringAndSize(<const char*>record.payload, record.key_length) if record.payload else b""


def key_of(WorkerCore core, uint64_t task_id) -> bytes | None:
    """Canonical key bytes of a task; None if it is unknown, b"" for an input whose key nobody told."""
    cdef TaskRecord* record
    core.gate.lock()
    record = core.pool.find(task_id)
    key = None if record == NULL else key_bytes(record)
    core.gate.unlock()
    return key


def submission_of(WorkerCore core, uint64_t task_id) -> int:
    """The number of the submission that a task came with; 0 if it is unknown."""
    cdef TaskRecord* record
    cdef uint64_t number = 0
    core.gate.lock()
    record = core.pool.find(task_id)
    if record != NULL:
        number = record.order >> 32
    core.gate.unlock()
    return number


def state_of(WorkerCore core, uint64_t task_id) -> TaskState:
    """State of a task; RELEASED if it is unknown."""
    cdef TaskRecord* record
    core.gate.lock()
    record = core.pool.find(task_id)
    state = 0 if record == NULL else record.state
    core.gate.unlock()
    return TaskState(state)


def state_counts(WorkerCore core) -> dict[str, int]:
    """How many tasks are in each state."""
    return {TaskState(i).name.lower(): core.counts[i] for i in range(1, STATE_COUNT)}


def n_transitions(WorkerCore core) -> int:
    """How many transitions there were since the start."""
    return core.story.n_moments


def listen(WorkerCore core, bint on) -> None:
    """Start or stop to write every transition down for `take_transitions`."""
    core.gate.lock()
    core.listened = on
    core.gate.unlock()


def take_transitions(WorkerCore core) -> tuple[list[tuple[object, str, str]], int]:
    """(key, start, finish) of what happened since the last call while `listen` was on; how much found no room."""
    cdef TransitionLog taken = TransitionLog()
    core.gate.lock()
    core.history.swap(taken)
    core.gate.unlock()
    rows = [(row[0], state_name(row[1]), state_name(row[2])) for row in taken.rows()]
    return rows, taken.lost


cdef str state_name(int state):
    return "forgotten" if state == STATE_COUNT else TaskState(state).name.lower()


def resources(WorkerCore core) -> dict[str, tuple[float, float]]:
    """Name of a resource -> (total, available)."""
    return {
        name: (core.ready.total[<uint32_t>number], core.ready.available[<uint32_t>number])
        for name, number in core.resource_numbers.items()
    }


def held(WorkerCore core) -> list[tuple[int, bytes, int]]:
    """(task id, canonical key bytes, size) of everything in memory."""
    cdef TaskRecord* record
    found = []
    core.gate.lock()
    records = core.pool.table      # a copy of the pointers: the list below may run the garbage collector
    core.gate.unlock()
    for record in records:
        if record != NULL and record.state == MEMORY:
            found.append((record.task_id, key_bytes(record), record.nbytes))
    return found


def wants_fetch(WorkerCore core) -> bool:
    """Whether `next_fetch` has something to ask for."""
    cdef bint wants
    core.gate.lock()
    wants = not core.paused and core.plan.next_peer() >= 0
    core.gate.unlock()
    return wants


def awaits(WorkerCore core, uint64_t task_id) -> bool:
    """Whether the data of this input is still wanted (ask before storing what arrived)."""
    cdef TaskRecord* record
    core.gate.lock()
    record = core.pool.find(task_id)
    wanted = record != NULL and (record.state == FETCH or record.state == IN_FLIGHT)
    core.gate.unlock()
    return wanted


def takes(WorkerCore core, uint64_t task_id) -> bool:
    """Whether data put here under this id would be kept (ask before storing it)."""
    cdef TaskRecord* record
    core.gate.lock()
    record = core.pool.find(task_id)
    kept = record == NULL or record.state == FETCH or record.state == IN_FLIGHT
    core.gate.unlock()
    return kept


def sizes_of(WorkerCore core, list task_ids) -> int:
    """Bytes that these tasks take together, as far as they are in memory."""
    cdef TaskRecord* record
    cdef uint64_t task_id, total = 0
    for task_id in task_ids:
        core.gate.lock()
        record = core.pool.find(task_id)
        if record != NULL and record.state == MEMORY:
            total += record.nbytes
        core.gate.unlock()
    return total


def validate(WorkerCore core) -> None:
    """Check all invariants of the core; AssertionError names the first that is broken.

    For tests: nothing else may use the core meanwhile.
    """
    cdef TaskRecord* record
    cdef uint64_t counts[STATE_COUNT]
    cdef size_t live = 0
    cdef uint64_t held = 0, given = 0
    if core.illegal:
        raise AssertionError(
            f"illegal transition {TaskState((core.illegal >> 8) & 0xFF).name} -> {TaskState(core.illegal & 0xFF).name}"
        )
    for state in range(STATE_COUNT):
        counts[state] = 0
    for record in core.pool.table:
        if record == NULL:
            continue
        live += 1
        counts[record.state] += 1
        if core.pool.find(record.task_id) != record:
            raise AssertionError(f"task {record.task_id} is not found by its id")
        check_record(core, record)
        held += digest_of(record.task_id, 0) if record.state == MEMORY else 0
        given += record.given
    if (held, given) != (core.held_digest, core.given_digest):
        raise AssertionError("the digests are not those of the records")
    if live != core.pool.live:
        raise AssertionError(f"{live} records in the table, {core.pool.live} counted")
    for state in range(1, STATE_COUNT):
        if counts[state] != core.counts[state]:
            raise AssertionError(f"{counts[state]} tasks {TaskState(state).name}, {core.counts[state]} counted")
    if core.ready.live != counts[<int>READY]:
        raise AssertionError(f"{counts[<int>READY]} tasks are ready, {core.ready.live} stand in the heaps")
    if core.plan.wants.size() != counts[<int>FETCH] + counts[<int>IN_FLIGHT]:
        raise AssertionError(f"{core.plan.wants.size()} inputs in the plan, others in the records")
    check_heaps(core)
    check_away(core)


cdef int check_record(WorkerCore core, TaskRecord* record) except -1:
    cdef Edge* edge
    cdef uint32_t i, missing = 0
    name = f"task {record.task_id} ({TaskState(record.state).name})"
    if record.state not in (WAITING, READY, EXECUTING, MEMORY, ERRED, FETCH, IN_FLIGHT):
        raise AssertionError(f"{name} is in the table")
    if record.linked:
        for i in range(record.n_inputs):
            edge = &edges_of(record)[i]
            if core.pool.find(edge.task_id) != edge.dependency or edge.waiter != record:
                raise AssertionError(f"{name} has an edge to a record that is gone")
            missing += edge.dependency.state != MEMORY
    if record.state == WAITING and (not record.linked or missing == 0):
        raise AssertionError(f"{name} waits for nothing")
    if record.state == READY and missing:
        raise AssertionError(f"{name} misses {missing} inputs")
    if record.linked and missing != record.missing:
        raise AssertionError(f"{name} counts {record.missing} missing inputs, {missing} are")
    if record.linked and record.state not in (WAITING, READY):
        raise AssertionError(f"{name} is linked to its inputs")
    if record.state in (FETCH, IN_FLIGHT) and record.waiters == NULL:
        raise AssertionError(f"{name} is fetched for nobody")
    if record.state == FETCH and not core.plan.obtainable(record.task_id):
        raise AssertionError(f"{name} has no holder left")
    if record.forgotten and record.state != EXECUTING:
        raise AssertionError(f"{name} is forgotten but still here")
    edge = record.waiters
    while edge != NULL:
        if edge.dependency != record or not edge.waiter.linked:
            raise AssertionError(f"{name} has a waiter that does not wait")
        edge = edge.next
    return 0


cdef int check_away(WorkerCore core) except -1:
    cdef TaskRecord* record
    cdef size_t away = 0, waiting = 0
    for record in core.pool.table:
        if record != NULL and record.away != HERE:
            away += 1
            waiting += record.away == WAITS
            if record.state != EXECUTING:
                raise AssertionError(f"task {record.task_id} is away and {TaskState(record.state).name}")
    if away != core.away.n_away:
        raise AssertionError(f"{away} tasks are away, {core.away.n_away} counted")
    if waiting != core.away.waiting.size() or (waiting == 0) != (core.away.floor == NULL):
        raise AssertionError(f"{waiting} tasks wait, {core.away.waiting.size()} stand in the list")
    return 0


cdef int check_heaps(WorkerCore core) except -1:
    cdef size_t number, i, live = 0, entries = 0
    cdef TaskRecord* record
    for number in range(core.ready.heaps.size()):
        for i in range(core.ready.heaps[number].size()):
            record = core.ready.heaps[number][i].record
            entries += 1
            live += record.state == READY and record.arrival == core.ready.heaps[number][i].arrival
    if live != core.ready.live or entries != live + core.ready.stale:
        raise AssertionError(f"{live} of {entries} heap entries are live; {core.ready.live} and "
                             f"{core.ready.stale} stale ones counted")
    for number in range(core.ready.total.size()):
        if core.ready.available[number] < -1e-6 or core.ready.available[number] > core.ready.total[number] + 1e-6:
            raise AssertionError("a resource is booked wrongly")
    return 0
