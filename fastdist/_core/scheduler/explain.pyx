"""Why a task is where it is, as facts: what it waits for, how many go before it, which worker has it.

Nothing here changes anything, and nothing is kept for it: each function reads the records when it is called, and a
question about the queue costs as much as the queue is long. May import: the scheduler's model, queue and deaths.
"""

from libc.stdint cimport uint32_t, uint64_t
from libcpp.map cimport map

from cython.operator cimport dereference

from fastdist._core.scheduler.deaths cimport DeathNotes
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport Options
from fastdist._core.scheduler.queue cimport ReadyQueue, Run, RunKey, next_of
from fastdist._core.scheduler.records cimport (
    AHEAD,
    MEMORY,
    NO_WORKER,
    PROCESSING,
    READY,
    RETRACTING,
    SECEDED,
    STARTED,
    WAITING,
    WAITS,
    Task,
)

cdef enum:
    MAX_INPUTS = 100           # that are named


def situation(Model model, ReadyQueue queue, DeathNotes deaths, uint64_t id) -> dict | None:
    """The facts about one task; None if it is gone.

    `state` is its number. `inputs` are ids of unfinished inputs, and `n_inputs` how many there are, of a task that
    waits for some. `before` is the number of tasks that go before one in the queue. `worker` is the number of the one
    that has it, with `ahead`, `started`, `waits` (it executes and waits for something) and `retracting`. `due` is the
    time of the core until which it waits to be tried again, `lost` the address of the worker of which the nanny has to
    tell before that. `described` is what the user asked for, and `candidates` who may run it, if not everybody may.
    """
    cdef Task* task = model.find(id)
    cdef Options options
    cdef double due
    if task == NULL:
        return None
    answer = {"state": task.state}
    if task.options:
        options = model.option(task.options)
        answer["described"] = options.described
        if options.restricted:
            answer["candidates"] = list(options.candidates)
            answer["loose"] = options.loose
    if task.state == WAITING or (task.state == PROCESSING and task.flags & AHEAD):
        answer["inputs"] = unfinished(model, task)
        answer["n_inputs"] = task.waiting_on
    if task.state == READY:
        answer["before"] = n_before(model, queue, task)
    elif task.state == NO_WORKER:
        due = model.retries.due(id)
        if due >= 0:
            answer["due"] = due
            answer["lost"] = deaths.waits(id)
    elif task.state == PROCESSING:
        answer["worker"] = task.worker
        answer["ahead"] = bool(task.flags & AHEAD)
        answer["started"] = bool(task.flags & STARTED)
        answer["waits"] = bool(task.flags & (WAITS | SECEDED))
        answer["retracting"] = bool(task.flags & RETRACTING)
    return answer


cdef list unfinished(Model model, Task* task):
    """Ids of inputs that are not in memory."""
    cdef uint32_t i
    cdef uint32_t* dependencies = model.dependencies_of(task)
    cdef list answer = []
    for i in range(task.n_dependencies):
        if model.task(dependencies[i]).state != MEMORY:
            answer.append(model.id_of(dependencies[i]))
            if len(answer) == MAX_INPUTS:
                break
    return answer


cdef double priority_of(Model model, Task* task) noexcept:
    return model.option(task.options).priority if task.options else 0.0


cdef uint64_t rank_of(Task* task) noexcept nogil:
    return <uint64_t>task.submission << 32 | task.order


cdef uint64_t n_before(Model model, ReadyQueue queue, Task* task) except? 0xFFFFFFFF:
    """How many ready tasks go before this one."""
    cdef double priority = priority_of(model, task)
    cdef uint64_t rank = rank_of(task), count = 0
    cdef Task* other
    cdef size_t i
    cdef map[RunKey, Run].iterator position = queue.runs.begin()
    cdef Run* run
    for i in range(queue.loose.size()):
        if queue.loose[i].priority < priority or (queue.loose[i].priority == priority and queue.loose[i].rank < rank):
            other = model.find(queue.loose[i].id)
            count += other != NULL and other.state == READY
    while position != queue.runs.end():
        run = &dereference(position).second
        position = next_of(position)
        if run.priority > priority:
            continue
        for i in range(run.ids.size()):
            other = model.find(run.ids[i])
            if other != NULL and other.state == READY and (run.priority < priority or rank_of(other) < rank):
                count += 1
    return count


def has_unrunnable(Model model, ReadyQueue queue) -> bool:
    """Whether there may be tasks that no worker can run as things are."""
    return not model.no_worker.empty() or (queue.size > 0 and model.load.heap.empty())


def unrunnable(Model model, ReadyQueue queue, size_t limit) -> list:
    """Ids of tasks that no worker can run as things are, so many at most."""
    cdef size_t i
    cdef Task* task
    cdef list answer = []
    cdef map[RunKey, Run].iterator position = queue.runs.begin()
    for i in range(model.no_worker.size()):
        task = model.find(model.no_worker[i])
        if task != NULL and task.state == NO_WORKER and not model.retries.waits(model.no_worker[i]):
            answer.append(model.no_worker[i])
            if <size_t>len(answer) >= limit:
                return answer
    if not model.load.heap.empty():
        return answer
    for i in range(queue.loose.size()):
        add_ready(model, answer, queue.loose[i].id, limit)
    while position != queue.runs.end():
        for i in range(dereference(position).second.ids.size()):
            if not add_ready(model, answer, dereference(position).second.ids[i], limit):
                return answer
        position = next_of(position)
    return answer


cdef bint add_ready(Model model, list answer, uint64_t id, size_t limit) except -1:
    """Append the id of a ready task; whether there is room for more."""
    cdef Task* task = model.find(id)
    if task != NULL and task.state == READY and <size_t>len(answer) < limit:
        answer.append(id)
    return <size_t>len(answer) < limit
