"""Workers and clients come and go.

A lost worker's tasks go elsewhere; its data is computed again where no other worker holds it and somebody needs it.
A client that goes takes its wants along.
May import: the scheduler's model, queue, transitions, stealing.
"""

from libc.stdint cimport uint32_t, uint64_t

from fastdist._core.scheduler.holding cimport lose_holder
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord, WorkerRecord
from fastdist._core.scheduler.queue cimport ReadyQueue
from fastdist._core.scheduler.records cimport (
    MEMORY,
    NONE,
    NO_WORKER,
    READY,
    SLAB_BITS,
    SLAB_TASKS,
    Task,
)
from fastdist._core.scheduler.stealing cimport retract_unstarted
from fastdist._core.scheduler.transitions cimport (
    memory_to_lost,
    processing_to_needed,
)

cdef enum:
    PAGE_BITS = 10
    PAGE_IDS = 1 << PAGE_BITS


cdef WorkerRecord add_worker(Model model, str address, uint32_t nthreads, bint has_nanny, dict resources):
    cdef WorkerRecord worker = WorkerRecord(<uint32_t>len(model.workers), address, nthreads, has_nanny)
    cdef size_t n_resources = len(model.resource_numbers)
    model.workers.append(worker)
    for name in resources:
        model.resource_numbers.setdefault(name, len(model.resource_numbers))
    for name, number in model.resource_numbers.items():
        while worker.supply.size() <= number:
            worker.supply.push_back(0.0)
            worker.used.push_back(0.0)
        worker.supply[number] = resources.get(name, 0.0)
    if len(model.resource_numbers) > n_resources:
        for worker_record in model.workers:
            widen_resources(<WorkerRecord>worker_record, len(model.resource_numbers))
    model.load.update(worker)
    try_unplaced(model)
    return worker


cdef int widen_resources(WorkerRecord worker, size_t count) except -1:
    while worker.supply.size() < count:
        worker.supply.push_back(0.0)
        worker.used.push_back(0.0)
    return 0


cdef int try_unplaced(Model model) except -1:
    """Let the tasks that no running worker could take try again."""
    cdef size_t i
    cdef uint64_t id
    cdef Task* task
    for i in range(model.no_worker.size()):
        id = model.no_worker[i]
        task = model.find(id)
        if task != NULL and task.state == NO_WORKER and not model.retries.waits(id):
            model.set_state(task, READY)
            model.became_ready.push_back(id)
    model.no_worker.clear()
    return 0


cdef int try_due(Model model, double now) except -1:
    """Let the tasks whose wait for another attempt is over be placed."""
    cdef Task* task
    cdef uint64_t id = model.retries.take_due(now)
    while id:
        task = model.find(id)
        if task != NULL and task.state == NO_WORKER:
            model.set_state(task, READY)
            model.became_ready.push_back(id)
        id = model.retries.take_due(now)
    return 0


cdef int set_running(Model model, ReadyQueue queue, WorkerRecord worker, bint running) except -1:
    """Start or stop giving tasks to a worker; a paused one gives back what it has not started."""
    if worker.running == running or not worker.alive:
        return 0
    worker.running = running
    model.load.update(worker)
    if running:
        try_unplaced(model)
    else:
        queue.give_back(worker)
        retract_unstarted(model, worker)
    return 0


cdef int lose_worker(Model model, ReadyQueue queue, WorkerRecord worker) except -1:
    cdef uint32_t number, i, slot
    cdef Task* task
    if not worker.alive:
        return 0
    worker.alive = False
    worker.running = False
    worker.given = NONE
    worker.freed.clear()
    worker.recalled.clear()
    worker.unused.clear()
    model.load.update(worker)
    queue.give_back(worker)
    while worker.first != NONE:
        processing_to_needed(model, worker.first, False)
    if worker.n_held == 0:
        return 0
    for number in range(<uint32_t>model.slabs.size()):
        if model.slabs[number].tasks == NULL:
            continue
        for i in range(SLAB_TASKS):
            slot = (number << SLAB_BITS) | i
            task = model.task(slot)
            if task.state == MEMORY and lose_holder(model, slot, worker.number):
                memory_to_lost(model, slot)
    return 0


cdef ClientRecord add_client(Model model, str name):
    cdef ClientRecord client = ClientRecord(<uint32_t>len(model.clients), name)
    model.clients.append(client)
    return client


cdef int lose_client(Model model, ClientRecord client) except -1:
    """Release everything that a client wants, and the functions in its cache."""
    cdef size_t page
    cdef uint32_t i, slot
    cdef uint64_t id
    cdef Task* task
    if not client.alive:
        return 0
    client.alive = False
    client.state.clear()
    client.early = []
    for i in range(<uint32_t>client.open_ids.size()):
        slot = client.slot_of(client.open_ids[i])
        if slot != NONE:
            model.remove_want(model.task(slot), client.number, 0)
            model.to_check.push_back(model.id_of(slot))
    client.open_ids.clear()
    for page in range(client.pages.size()):
        if client.pages[page] == NULL:
            continue
        for i in range(PAGE_IDS):
            slot = client.pages[page][i]
            if slot == NONE:
                continue
            id = ((client.first_page + page) << PAGE_BITS) | i
            task = model.task(slot)
            if model.remove_want(task, client.number, id):
                model.to_check.push_back(model.id_of(slot))
    while client.pages.size():
        client.drop_first_page()
    for number in list(client.functions):
        model.functions[number].n_clients -= 1
        model.release_function(number)
    client.functions = set()
    return 0
