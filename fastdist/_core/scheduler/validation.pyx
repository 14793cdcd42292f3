"""Every invariant of the scheduler's records, checked by counting everything again. For tests; costs O(tasks).

May import: the scheduler's model and queue.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastdist._core.digest cimport digest_of
from fastdist._core.scheduler.load cimport Place
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport STOPPING_NANOSECONDS, WorkerRecord
from fastdist._core.scheduler.queue cimport ReadyQueue
from fastdist._core.scheduler.records cimport (
    AHEAD,
    FREE_SLOT,
    MEMORY,
    NONE,
    NO_WORKER,
    PROCESSING,
    READY,
    RELEASED,
    RETRACTING,
    SECEDED,
    SLAB_BITS,
    SLAB_TASKS,
    WAITING,
    WAITS,
    Task,
)


cdef list live_slots(Model model):
    cdef uint32_t number, i
    cdef list answer = []
    for number in range(<uint32_t>model.slabs.size()):
        if model.slabs[number].tasks != NULL:
            for i in range(SLAB_TASKS):
                if model.slabs[number].tasks[i].state != FREE_SLOT:
                    answer.append((number << SLAB_BITS) | i)
    return answer


cdef int check_model(Model model, ReadyQueue queue) except -1:
    cdef list slots = live_slots(model)
    assert len(slots) == model.n_tasks, "n_tasks is not the number of records"
    for slot in slots:
        check_task(model, <uint32_t>slot)
    check_edges(model, slots)
    for worker in model.workers:
        check_worker(model, <WorkerRecord>worker)
        check_digests(model, slots, <WorkerRecord>worker)
    check_heap(model)
    return 0


cdef int check_task(Model model, uint32_t slot) except -1:
    cdef Task* task = model.task(slot)
    cdef uint32_t length, waiting = 0, i
    cdef const unsigned char* key
    cdef bint needed = task.state in (WAITING, READY, NO_WORKER, PROCESSING)
    key = model.payload.key_bytes(task, &length)
    assert model.keys.find(model.keys.hash(key, length), key, length) == slot, "the key table does not know the task"
    assert (task.holder != NONE) == (task.state == MEMORY), "a task has holders iff it is in memory"
    assert (task.worker != NONE) == (task.state == PROCESSING), "a task has a worker iff it is processing"
    for i in range(task.n_dependencies):
        if model.task(model.dependencies_of(task)[i]).state != MEMORY:
            waiting += 1
    if needed:
        assert task.waiting_on == waiting, "waiting_on is not the number of inputs that are not in memory"
        assert task.n_waiters or task.want_client != NONE, "a task is needed that nobody wants or waits for"
    if task.state == WAITING:
        assert waiting, "a waiting task has all its inputs"
    if task.state in (READY, NO_WORKER):
        assert not waiting, "a ready task lacks an input"
    if task.flags & AHEAD:
        assert task.state == PROCESSING and waiting, "a task is marked as sent ahead and is not"
        check_ahead(model, task)
    if task.state == RELEASED:
        assert task.n_dependents, "a released task without dependents was not forgotten"
    return 0


cdef int check_ahead(Model model, Task* task) except -1:
    cdef Task* dependency
    cdef uint32_t i
    for i in range(task.n_dependencies):
        dependency = model.task(model.dependencies_of(task)[i])
        assert dependency.state == MEMORY or (
            dependency.state == PROCESSING and dependency.worker == task.worker
        ), "a task was sent ahead although an input is not on its way to the same worker"
    return 0


cdef int check_edges(Model model, list slots) except -1:
    cdef dict waiters = {}
    cdef dict dependents = {}
    cdef Task* task
    cdef uint32_t i
    cdef uint64_t id
    cdef uint64_t* ids
    for slot in slots:
        task = model.task(<uint32_t>slot)
        for i in range(task.n_dependencies):
            other = model.dependencies_of(task)[i]
            dependents[other] = dependents.get(other, 0) + 1
            if task.state in (WAITING, READY, NO_WORKER, PROCESSING):
                waiters[other] = waiters.get(other, 0) + 1
            id = model.id_of(<uint32_t>slot)
            ids = model.dependents_of(model.task(<uint32_t>other))
            assert any(
                [ids[position] == id for position in range(model.task(<uint32_t>other).dependents_size)]
            ), "an input does not know its dependent"
    for slot in slots:
        task = model.task(<uint32_t>slot)
        assert task.n_waiters == waiters.get(slot, 0), "n_waiters is not the number of dependents that wait"
        assert task.n_dependents == dependents.get(slot, 0), "n_dependents is not the number of dependents"
    return 0


cdef int check_worker(Model model, WorkerRecord worker) except -1:
    cdef uint32_t slot = worker.first, count = 0, ahead = 0, retracting = 0, waits = 0, seceded = 0
    cdef int64_t occupancy = 0
    cdef Task* task
    while slot != NONE:
        task = model.task(slot)
        assert task.state == PROCESSING and task.worker == worker.number, "a worker's list holds a foreign task"
        count += 1
        ahead += 1 if task.flags & AHEAD else 0
        retracting += 1 if task.flags & RETRACTING else 0
        waits += 1 if task.flags & WAITS else 0
        seceded += 1 if task.flags & SECEDED else 0
        if not task.flags & (WAITS | SECEDED):
            occupancy += model.class_nanoseconds[task.duration_class]
        slot = task.next
    assert count == worker.n_processing, "n_processing is not the length of the worker's list"
    assert ahead == worker.n_ahead, "n_ahead is not the number of tasks sent ahead"
    assert retracting == worker.n_retracting, "n_retracting is not the number of tasks asked back"
    assert waits == worker.n_waits, "n_waits is not the number of tasks that wait"
    assert seceded == worker.n_seceded, "n_seceded is not the number of tasks that seceded"
    occupancy += <int64_t>(worker.stopping.size() * STOPPING_NANOSECONDS)
    assert occupancy == worker.occupancy, "the occupancy is not the sum of what is booked"
    assert worker.alive or count == 0, "a lost worker still has tasks"
    assert worker.given == NONE, "a worker was not told what it was given"
    return 0


cdef int check_digests(Model model, list slots, WorkerRecord worker) except -1:
    cdef uint64_t held = 0, given = 0
    cdef uint32_t slot = worker.first
    while slot != NONE:
        given += digest_of(model.id_of(slot), model.task(slot).attempt)
        slot = model.task(slot).next
    assert given == worker.given_digest, "the digest of what a worker was given is not that of its list"
    if worker.n_held or worker.held_digest:
        for slot in slots:
            if model.is_held_by(model.task(slot), worker.number):
                held += digest_of(model.id_of(slot), 0)
        assert held == worker.held_digest, "the digest of what a worker holds is not that of the tasks"
    assert not (worker.away and worker.running), "a worker that is away is given tasks"
    return 0


cdef int check_heap(Model model) except -1:
    cdef size_t i
    cdef Place place
    for i in range(model.load.heap.size()):
        place = model.load.heap[i]
        assert model.load.positions[place.worker] == <int>i, "a worker is not where the heap thinks"
        assert place.rank == model.load.ranks[place.worker], "a worker has another rank in the heap"
        assert i == 0 or model.load.heap[(i - 1) // 4].rank <= place.rank, "the heap of workers is out of order"
        assert model.worker(place.worker).running, "a worker that is not running is in the heap"
    return 0
