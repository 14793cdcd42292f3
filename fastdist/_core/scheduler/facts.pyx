"""What of the core's state is a fact that a journal keeps: outcomes, retries spent, deaths blamed.

Everything else that a journal keeps arrives as events. An outcome names its task by key and says how the task stands,
so that applying it twice is harmless. May import: the scheduler's model and transitions.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.codec.frames cimport DONE_ERRED, ColumnReader
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord
from fastdist._core.scheduler.records cimport (
    ERRED, MEMORY, NONE, SCATTERING, SLAB_BITS, SLAB_TASKS, Task,
)
from fastdist._core.scheduler.transitions cimport any_to_erred, release_unneeded

cdef enum:
    DONE_COLUMNS = 11
    PAGE_BITS = 10
    PAGE_IDS = 1 << PAGE_BITS


cdef bytes key_of(Model model, Task* task):
    cdef uint32_t length
    cdef const uint8_t* key = model.payload.key_bytes(task, &length)
    return (<const char*>key)[:length]


cdef uint32_t slot_of_key(Model model, bytes key) noexcept:
    cdef const uint8_t* start = <const uint8_t*><const char*>key
    cdef uint32_t length = <uint32_t>len(key)
    return model.keys.find(model.keys.hash(start, length), start, length)


def raised_ids(object body) -> list:
    """The ids in a DONE frame whose tasks raised."""
    cdef ColumnReader reader = ColumnReader(body, DONE_COLUMNS)
    cdef const uint64_t* ids = <const uint64_t*>reader.fixed(1, reader.n_rows, 8)
    cdef const uint8_t* status = reader.fixed(3, reader.n_rows, 1)
    cdef uint32_t i
    cdef list answer = []
    for i in range(reader.n_rows):
        if status[i] == DONE_ERRED:
            answer.append(ids[i])
    return answer


def given_to(Model model, uint32_t number) -> list:
    """The ids of the tasks that a worker was given and has not finished."""
    cdef list answer = []
    cdef uint32_t slot = model.worker(number).first
    while slot != NONE:
        answer.append(model.id_of(slot))
        slot = model.task(slot).next
    return answer


def outcomes(Model model, list ids) -> list:
    """(key, retries left, deaths blamed for, error or None) of the tasks with these ids that exist."""
    cdef list answer = []
    cdef Task* task
    cdef object error
    for id in ids:
        task = model.find(<uint64_t>id)
        if task != NULL:
            error = None
            if task.state == ERRED:
                error = <bytes>(<const char*>model.errors[task.nbytes].payload)[:model.errors[task.nbytes].length]
            answer.append((key_of(model, task), task.retries, task.suspicious, error))
    return answer


def apply_outcomes(Model model, list rows) -> None:
    """Have tasks stand as `outcomes` described them; those that are gone do not matter."""
    cdef Task* task
    cdef uint32_t slot
    for key, retries, suspicious, error in rows:
        slot = slot_of_key(model, key)
        if slot == NONE:
            continue
        task = model.task(slot)
        task.retries = retries
        task.suspicious = suspicious
        if error is not None and task.state != ERRED and task.state != MEMORY:
            any_to_erred(model, slot, <const uint8_t*><const char*>(<bytes>error), <uint32_t>len(error))
    release_unneeded(model)


def keys_of(Model model, list ids) -> list:
    """The canonical keys of the tasks with these ids that exist."""
    cdef list answer = []
    cdef Task* task
    for id in ids:
        task = model.find(<uint64_t>id)
        if task != NULL:
            answer.append(key_of(model, task))
    return answer


def ids_of_keys(Model model, list keys) -> list:
    """The task ids of the canonical keys that are known."""
    return [model.id_of(slot) for slot in [slot_of_key(model, key) for key in keys] if slot != NONE]


def wanted_ids(Model model, uint32_t number) -> list:
    """The client ids by which a client wants tasks."""
    cdef ClientRecord client = model.client(number)
    cdef list answer = []
    cdef size_t page
    cdef uint32_t i
    for page in range(client.pages.size()):
        if client.pages[page] != NULL:
            for i in range(PAGE_IDS):
                if client.pages[page][i] != NONE:
                    answer.append(((client.first_page + page) << PAGE_BITS) | i)
    return answer


def awaited_data(Model model) -> list:
    """The ids of announced data that no worker has; it costs as much as there are tasks."""
    cdef list answer = []
    cdef uint32_t number, i
    for number in range(<uint32_t>model.slabs.size()):
        if model.slabs[number].tasks == NULL:
            continue
        for i in range(SLAB_TASKS):
            if model.slabs[number].tasks[i].state == SCATTERING:
                answer.append(model.id_of((number << SLAB_BITS) | i))
    return answer
