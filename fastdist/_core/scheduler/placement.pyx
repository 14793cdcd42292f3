"""Where ready tasks go: functions over the model, called once per batch.

A task with inputs goes to the worker that holds most of their bytes, unless another one would start it sooner even with
the transfer. A task without inputs waits in the queue until a worker has room: about `prefill` seconds of work beyond
its threads, or `ceil(saturation x threads)` tasks while durations are unknown, long or outputs bulky. A task whose
unfinished inputs are all on their way to one worker is sent there ahead of them. The cost of placing a task is
proportional to its inputs, never to the number of workers. May import: the scheduler's model, queue and transitions.
"""

from libc.math cimport ceil
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.scheduler.model cimport Model, Prefix
from fastdist._core.scheduler.parties cimport Options, WorkerRecord, n_pressing
from fastdist._core.scheduler.queue cimport ReadyQueue
from fastdist._core.scheduler.records cimport (
    MEMORY,
    NONE,
    NO_WORKER,
    PROCESSING,
    READY,
    RETRACTING,
    WAITING,
    Task,
)
from fastdist._core.scheduler.transitions cimport ready_to_processing

cdef enum:
    MAX_AHEAD = 4096           # tasks sent ahead to one worker at a time
    MAX_AHEAD_INPUTS = 16      # a task with more inputs is never sent ahead


cdef int place(Model model, ReadyQueue queue) except -1:
    """Place everything that became ready, then serve the queue, then send ahead."""
    cdef size_t i = 0
    cdef uint64_t id
    cdef Task* task
    while i < model.became_ready.size():
        id = model.became_ready[i]
        i += 1
        task = model.find(id)
        if task != NULL and task.state == READY:
            place_ready(model, queue, <uint32_t>id)
    model.became_ready.clear()
    serve_queue(model, queue)
    send_ahead(model)
    return 0


cdef int place_ready(Model model, ReadyQueue queue, uint32_t slot) except -1:
    cdef Task* task = model.task(slot)
    cdef Options options
    if task.options:
        options = model.option(task.options)
        if options.actor:
            return place_actor(model, queue, slot, options)
        if not model.retries.notes.empty() and place_elsewhere(model, slot, options):
            return 0
        if options.restricted:
            return place_restricted(model, queue, slot, options)
    if task.n_dependencies and not model.load.heap.empty():
        return place_near_inputs(model, queue, slot)
    return enqueue(model, queue, slot)


cdef int enqueue(Model model, ReadyQueue queue, uint32_t slot) except -1:
    cdef Task* task = model.task(slot)
    cdef double priority = model.option(task.options).priority if task.options else 0.0
    queue.push(priority, (<uint64_t>task.submission << 32) | task.order, model.id_of(slot))
    return 0


cdef int give(Model model, uint32_t slot, WorkerRecord worker) except -1:
    ready_to_processing(model, slot, worker, False)
    if model.task(slot).n_dependents:
        model.assigned.push_back(model.id_of(slot))
    return 0


cdef int place_actor(Model model, ReadyQueue queue, uint32_t slot, Options options) except -1:
    """To the worker with the fewest actors; actors are rare, so all workers are looked at."""
    cdef WorkerRecord best = None
    cdef WorkerRecord worker
    cdef size_t i
    cdef uint32_t number
    count_actors(model)
    for i in range(options.candidates.size() if options.restricted else model.load.heap.size()):
        number = options.candidates[i] if options.restricted else model.load.heap[i].worker
        worker = model.worker(number)
        if worker.running and (best is None or has_fewer_actors(model, number, best.number)):
            best = worker
    if best is None:
        if options.restricted:
            return place_restricted(model, queue, slot, options)
        return enqueue(model, queue, slot)
    model.actors.push_back(model.id_of(slot))
    give(model, slot, best)
    model.load.update(best)
    return 0


cdef bint has_fewer_actors(Model model, uint32_t number, uint32_t other) noexcept:
    if model.actor_counts[number] != model.actor_counts[other]:
        return model.actor_counts[number] < model.actor_counts[other]
    if model.load.ranks[number] != model.load.ranks[other]:
        return model.load.ranks[number] < model.load.ranks[other]
    return number < other


cdef int count_actors(Model model) except -1:
    """Count the actors of each worker, and forget those that are gone."""
    cdef size_t i, kept = 0
    cdef uint32_t number
    cdef Task* task
    model.actor_counts.assign(model.load.positions.size(), 0)
    for i in range(model.actors.size()):
        task = model.find(model.actors[i])
        if task == NULL or task.state not in (PROCESSING, MEMORY):
            continue
        number = task.worker if task.state == PROCESSING else task.holder
        model.actor_counts[number] += 1
        model.actors[kept] = model.actors[i]
        kept += 1
    model.actors.resize(kept)
    return 0


cdef int place_restricted(Model model, ReadyQueue queue, uint32_t slot, Options options) except -1:
    """To the least loaded of the workers that may run it, those with free resources first."""
    cdef WorkerRecord best = None
    cdef WorkerRecord worker
    cdef bint best_fits = False, fits
    cdef size_t i, j
    cdef uint32_t resource
    for i in range(options.candidates.size()):
        worker = model.worker(options.candidates[i])
        if not worker.running:
            continue
        fits = True
        for j in range(options.needs.size()):
            resource = options.needs[j].resource
            if worker.used[resource] + options.needs[j].amount > worker.supply[resource]:
                fits = False
        if best is None or (fits and not best_fits) or (
            fits == best_fits and model.load.ranks[worker.number] < model.load.ranks[best.number]
        ):
            best = worker
            best_fits = fits
    if best is None:
        if options.loose and not model.load.heap.empty():
            return place_near_inputs(model, queue, slot)
        model.set_state(model.task(slot), NO_WORKER)
        model.no_worker.push_back(model.id_of(slot))
        return 0
    give(model, slot, best)
    model.load.update(best)
    return 0


cdef bint place_elsewhere(Model model, uint32_t slot, Options options) except -1:
    """A task that shall not go to the worker on which it raised: to the least loaded of the others, if there is one."""
    cdef uint32_t avoid = model.retries.avoided(model.id_of(slot))
    cdef uint32_t number
    cdef WorkerRecord best = None
    cdef WorkerRecord worker
    cdef size_t i
    if avoid == NONE:
        return False
    for i in range(options.candidates.size() if options.restricted else model.load.heap.size()):
        number = options.candidates[i] if options.restricted else model.load.heap[i].worker
        worker = model.worker(number)
        if number != avoid and worker.running and (
            best is None or model.load.ranks[number] < model.load.ranks[best.number]
            or (model.load.ranks[number] == model.load.ranks[best.number] and number < best.number)
        ):
            best = worker
    if best is None:
        return False
    give(model, slot, best)
    model.load.update(best)
    return True


cdef int place_near_inputs(Model model, ReadyQueue queue, uint32_t slot) except -1:
    cdef Task* task = model.task(slot)
    cdef uint32_t* dependencies = model.dependencies_of(task)
    cdef Task* dependency
    cdef uint32_t i, number, best = NONE, least = model.load.heap[0].worker
    cdef uint64_t total = 0
    cdef double best_cost, least_cost
    cdef WorkerRecord worker
    while model.bytes_at.size() < model.load.positions.size():
        model.bytes_at.push_back(0)
    model.touched.clear()
    for i in range(task.n_dependencies):
        dependency = model.task(dependencies[i])
        total += dependency.nbytes + 1
        number = dependency.holder
        count_input(model, number, dependency.nbytes + 1)
        number = dependency.more_holders
        while number != NONE:
            count_input(model, model.holders[number].worker, dependency.nbytes + 1)
            number = model.holders[number].next
    for i in range(model.touched.size()):
        number = model.touched[i]
        if model.load.positions[number] >= 0 and (
            best == NONE
            or model.bytes_at[number] > model.bytes_at[best]
            or (model.bytes_at[number] == model.bytes_at[best] and model.load.ranks[number] < model.load.ranks[best])
        ):
            best = number
    least_cost = model.load.seconds[least] + model.latency + (total - model.bytes_at[least]) / model.bandwidth
    if best != NONE:
        best_cost = model.load.seconds[best] + (total - model.bytes_at[best]) / model.bandwidth
    for i in range(model.touched.size()):
        model.bytes_at[model.touched[i]] = 0
    if best == NONE:
        return enqueue(model, queue, slot)
    worker = model.worker(best if best_cost <= least_cost else least)
    give(model, slot, worker)
    model.load.update(worker)
    return 0


cdef inline int count_input(Model model, uint32_t number, uint64_t nbytes) except -1:
    if model.bytes_at[number] == 0:
        model.touched.push_back(number)
    model.bytes_at[number] += nbytes
    return 0


# -- the queue --------------------------------------------------------------------------------------------------------

cdef bint has_room(Model model, WorkerRecord worker, Prefix* prefix) noexcept:
    # What was sent ahead takes no thread from what can start now.
    if n_pressing(worker) < ceil(model.saturation * worker.nthreads):
        return True
    if prefix.duration < 0 or prefix.nbytes > model.bulky_bytes:
        return False
    return worker.occupancy < <int64_t>(model.prefill_seconds * 1e9) * worker.nthreads


cdef int serve_queue(Model model, ReadyQueue queue) except -1:
    """Give queued tasks to the least loaded workers, a contiguous share at a time, until the best one is full."""
    cdef WorkerRecord worker
    cdef uint64_t id, share, served
    cdef uint32_t slot
    while queue.size and not model.load.heap.empty():
        worker = model.worker(model.load.heap[0].worker)
        share = queue.size // model.load.heap.size() + 1
        served = 0
        while served < share:
            id = queue.next_for(worker)
            if id == 0:
                break
            slot = <uint32_t>id
            if not has_room(model, worker, &model.prefixes[model.task(slot).prefix]):
                break
            queue.take(worker)
            give(model, slot, worker)
            served += 1
        if served == 0:
            return 0
        model.load.update(worker)
    return 0


# -- lookahead --------------------------------------------------------------------------------------------------------

cdef int send_ahead(Model model) except -1:
    """Send tasks to the worker that is about to compute their last inputs; they may take their dependents along."""
    cdef size_t i
    cdef uint64_t id
    cdef vector[uint64_t] chain
    cdef Task* task
    for i in range(model.assigned.size()):
        chain.push_back(model.assigned[i])
        follow(model, chain)
    model.assigned.clear()
    for i in range(model.may_go_ahead.size()):
        id = model.may_go_ahead[i]
        task = model.find(id)
        if task != NULL and task.state == WAITING and try_ahead(model, <uint32_t>id):
            chain.push_back(id)
            follow(model, chain)
    model.may_go_ahead.clear()
    return 0


cdef int follow(Model model, vector[uint64_t]& chain) except -1:
    """Try the dependents of each task in `chain`, and the dependents of those that went."""
    cdef Task* task
    cdef Task* dependent
    cdef uint64_t* dependents
    cdef uint64_t id
    cdef uint32_t i
    while not chain.empty():
        task = model.find(chain.back())
        chain.pop_back()
        if task == NULL or task.state != PROCESSING:
            continue
        dependents = model.dependents_of(task)
        for i in range(task.dependents_size):
            id = dependents[i]
            dependent = model.find(id)
            if dependent != NULL and dependent.state == WAITING and try_ahead(model, <uint32_t>id):
                chain.push_back(id)
    return 0


cdef bint try_ahead(Model model, uint32_t slot) except -1:
    """Send a WAITING task to the worker of all its unfinished inputs, if there is one and it has room for it."""
    cdef Task* task = model.task(slot)
    cdef Task* dependency
    cdef uint32_t* dependencies = model.dependencies_of(task)
    cdef uint32_t i, number = NONE
    cdef WorkerRecord worker
    if task.n_dependencies > MAX_AHEAD_INPUTS:
        return False
    for i in range(task.n_dependencies):
        dependency = model.task(dependencies[i])
        if dependency.state == MEMORY:
            continue
        if dependency.state != PROCESSING or dependency.flags & RETRACTING:
            return False
        if number != NONE and dependency.worker != number:
            return False
        number = dependency.worker
    if number == NONE or model.load.positions[number] < 0:
        return False
    worker = model.worker(number)
    if not may_take_ahead(model, worker, task):
        return False
    ready_to_processing(model, slot, worker, True)
    model.load.update(worker)
    return True


cdef bint may_take_ahead(Model model, WorkerRecord worker, Task* task) except -1:
    cdef Options options
    cdef Prefix* prefix = &model.prefixes[task.prefix]
    cdef size_t i
    cdef double load = model.load.seconds[worker.number]
    cdef double least
    if worker.n_ahead >= MAX_AHEAD:
        return False
    if (prefix.duration < 0 or prefix.nbytes > model.bulky_bytes) and worker.n_ahead > worker.nthreads:
        return False
    least = model.load.seconds[model.load.heap[0].worker]
    if load >= least + model.prefill_seconds and worker.n_processing > worker.nthreads:
        return False
    if task.options:
        options = model.option(task.options)
        if options.restricted:
            for i in range(options.candidates.size()):
                if options.candidates[i] == worker.number:
                    return True
            return options.loose
    return True
