"""What is in the scheduler's records, one look at a time: for views, plugins, dumps and tests.

Nothing here changes anything, and nothing is kept: each function reads the records when it is called. Tasks are named
by id (slot and generation), so that a view of a task that is gone finds out. May import: the scheduler's model.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord, WorkerRecord
from fastdist._core.scheduler.records cimport (
    ACTOR,
    AHEAD,
    ERRED,
    FREE_SLOT,
    MEMORY,
    NONE,
    NO_WORKER,
    PROCESSING,
    PURE_DATA,
    READY,
    SECEDED,
    SLAB_BITS,
    SLAB_TASKS,
    STARTED,
    WAITING,
    WAITS,
    Task,
)
from fastdist._core.scheduler.results cimport n_attempts
from fastdist._core.scheduler.transitions cimport readable_key


cdef Task* _task(Model model, uint64_t id) except? NULL:
    cdef Task* task = model.find(id)
    if task == NULL:
        raise KeyError(f"the task {id} is gone")
    return task


def find(Model model, bytes key) -> int | None:
    """Id of the task with these canonical key bytes, or None."""
    cdef const uint8_t* data = <const uint8_t*><const char*>key
    cdef uint32_t length = <uint32_t>len(key)
    cdef uint32_t slot = model.keys.find(model.keys.hash(data, length), data, length)
    return None if slot == NONE else model.id_of(slot)


def exists(Model model, uint64_t id) -> bool:
    """Whether the task is still known."""
    return model.find(id) != NULL


def key_of(Model model, uint64_t id) -> object:
    """The key of a task."""
    cdef uint32_t length
    cdef const uint8_t* key = model.payload.key_bytes(_task(model, id), &length)
    return readable_key(key, length)


def state_of(Model model, uint64_t id) -> tuple:
    """(state number, whether it was sent ahead of an input, whether it executes); (-1, ...) if the task is gone."""
    cdef Task* task = model.find(id)
    if task == NULL:
        return -1, False, False
    return (
        task.state,
        task.state == PROCESSING and bool(task.flags & AHEAD) and task.waiting_on > 0,
        task.state == PROCESSING and bool(task.flags & STARTED),
    )


def facts(Model model, uint64_t id) -> dict:
    """The figures of one task."""
    cdef Task* task = _task(model, id)
    cdef bytes type_name = model.type_names[task.type]
    cdef bytes prefix = model.prefix_names[task.prefix]
    cdef uint32_t key_length, arguments_length = 0
    model.payload.key_bytes(task, &key_length)
    model.payload.argument_bytes(task, &arguments_length)
    return {
        "attempt": task.attempt,
        "retries": task.retries,
        "suspicious": task.suspicious,
        "nbytes": task.nbytes if task.state == MEMORY else -1,
        "type": type_name.decode(errors="replace") if task.state == MEMORY else None,
        "prefix": prefix.decode(errors="replace"),
        "submission": task.submission,
        "order": task.order,
        "options": task.options,
        "is_data": bool(task.flags & PURE_DATA) or task.function == NONE,
        "actor": bool(task.flags & ACTOR),
        "worker": None if task.worker == NONE else task.worker,
        "argument_bytes": arguments_length,
    }


def error_of(Model model, uint64_t id) -> bytes:
    """The pickled error of a failed task, b"" of others."""
    cdef Task* task = _task(model, id)
    if task.state != ERRED:
        return b""
    return model.errors[task.nbytes].payload[:model.errors[task.nbytes].length]


def dependencies(Model model, uint64_t id) -> list:
    """Ids of the inputs of a task."""
    cdef Task* task = _task(model, id)
    cdef uint32_t i
    return [model.id_of(model.dependencies_of(task)[i]) for i in range(task.n_dependencies)]


def dependents(Model model, uint64_t id) -> list:
    """Ids of the tasks that have this one as an input."""
    cdef Task* task = _task(model, id)
    cdef uint32_t i
    return [
        model.dependents_of(task)[i]
        for i in range(task.dependents_size)
        if model.find(model.dependents_of(task)[i]) != NULL
    ]


def is_needy(Model model, uint64_t id) -> bool:
    """Whether the task still has to read its inputs."""
    cdef Task* task = model.find(id)
    return task != NULL and task.state in (WAITING, READY, NO_WORKER, PROCESSING)


def holders(Model model, uint64_t id) -> list:
    """Numbers of the workers that hold the result."""
    cdef Task* task = _task(model, id)
    cdef uint32_t number
    answer = []
    if task.holder != NONE:
        answer.append(task.holder)
        number = task.more_holders
        while number != NONE:
            answer.append(model.holders[number].worker)
            number = model.holders[number].next
    return answer


def wanted_by(Model model, uint64_t id) -> list:
    """Numbers of the clients that want the result, each once."""
    cdef Task* task = _task(model, id)
    cdef uint32_t number
    if task.want_client == NONE:
        return []
    answer = [task.want_client]
    number = task.more_wants
    while number != NONE:
        answer.append(model.wants[number].client)
        number = model.wants[number].next
    return list(dict.fromkeys(answer))


def tasks_in(Model model, states: tuple | None = None) -> list:
    """Ids of all tasks, or of those in some states (by number); it costs as much as there are tasks."""
    cdef uint32_t number
    cdef int i
    cdef uint8_t state
    cdef bint wanted[256]
    for i in range(256):
        wanted[i] = states is None and i != FREE_SLOT
    for state in states or ():
        wanted[state] = True
    answer = []
    for number in range(<uint32_t>model.slabs.size()):
        if model.slabs[number].tasks != NULL:
            for i in range(SLAB_TASKS):
                if wanted[model.slabs[number].tasks[i].state]:
                    answer.append(model.id_of((number << SLAB_BITS) | i))
    return answer


def held_by(Model model, uint32_t worker) -> list:
    """Ids of the results that a worker holds; it costs as much as there are tasks."""
    return [id for id in tasks_in(model, (MEMORY,)) if model.is_held_by(model.find(<uint64_t>id), worker)]


def wanted_from(Model model, uint32_t client) -> list:
    """Ids of the tasks that a client wants; it costs as much as there are tasks."""
    return [id for id in tasks_in(model) if client in wanted_by(model, id)]


def given_to(Model model, uint32_t worker) -> list:
    """(id, waits for an input, executes without a thread) of the tasks that a worker was given and has not finished.

    The oldest come first.
    """
    cdef WorkerRecord record = model.worker(worker)
    cdef uint32_t slot = record.first
    cdef Task* task
    answer = []
    while slot != NONE:
        task = model.task(slot)
        answer.append((model.id_of(slot), task.waiting_on > 0, bool(task.flags & (SECEDED | WAITS))))
        slot = task.next
    return answer


def assignments(Model model) -> set:
    """(number of the worker, task id, attempt) of all that workers were given and have not finished."""
    cdef WorkerRecord record
    cdef uint32_t slot
    cdef set answer = set()
    for record in model.workers:
        slot = record.first
        while slot != NONE:
            answer.add((record.number, model.id_of(slot), model.task(slot).attempt))
            slot = model.task(slot).next
    return answer


def resources_of(Model model, uint32_t worker) -> dict:
    """Name of a resource -> (amount of this worker, amount in use)."""
    cdef WorkerRecord record = model.worker(worker)
    answer = {}
    for name, number in model.resource_numbers.items():
        if <size_t>number < record.supply.size() and (record.supply[number] or record.used[number]):
            answer[name] = (record.supply[number], record.used[number])
    return answer


def option(Model model, uint32_t number) -> object:
    """The options that a task names, or None for none."""
    return model.options[number] if number else None


def worker_record(Model model, uint32_t number) -> WorkerRecord:
    """The core's record of a worker."""
    if number >= <uint32_t>len(model.workers):
        raise KeyError(f"there is no worker {number}")
    return model.worker(number)


def client_record(Model model, uint32_t number) -> ClientRecord:
    """The core's record of a client."""
    if number >= <uint32_t>len(model.clients):
        raise KeyError(f"there is no client {number}")
    return model.client(number)


def prefixes(Model model) -> dict:
    """Name of a prefix -> (tasks that have it, average seconds, average bytes); negative = not known yet."""
    cdef size_t i
    cdef bytes name
    answer = {}
    for i in range(model.prefixes.size()):
        if model.prefixes[i].n_alive:
            name = model.prefix_names[i]
            answer[name.decode(errors="replace")] = (
                model.prefixes[i].n_alive, model.prefixes[i].duration, model.prefixes[i].nbytes
            )
    return answer


def attempts(Model model, uint32_t client, list ids) -> list:
    """For each id of a client, how often its task was tried, or None if the client does not want it."""
    cdef ClientRecord record = client_record(model, client)
    cdef list answer = []
    cdef uint32_t slot
    for id in ids:
        slot = record.slot_of(id)
        answer.append(None if slot == NONE else n_attempts(model, model.task(slot)))
    return answer
