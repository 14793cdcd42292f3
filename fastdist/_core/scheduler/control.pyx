"""What users ask for by hand: cancel, restart, retry, scatter, wanting what exists.

May import: the scheduler's model, intake and transitions.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.codec.frames cimport STATUS_CANCELLED, STATUS_PENDING
from fastdist._core.scheduler.intake cimport check_ids, refuse
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord
from fastdist._core.scheduler.records cimport (
    ERRED,
    FREE_SLOT,
    MEMORY,
    NO_WORKER,
    NONE,
    PURE_DATA,
    READY,
    RELEASED,
    SCATTERING,
    SLAB_BITS,
    SLAB_TASKS,
    Task,
)
from fastdist._core.scheduler.reporting cimport report, report_current, report_error, report_to
from fastdist._core.scheduler.transitions cimport any_to_erred, erred_to_released, released_to_needed

from fastdist._core.scheduler.reasons import Reason, reason_payload


cdef list closure_of_dependents(Model model, list slots):
    """The slots and everything that depends on them, each once."""
    cdef list order = []
    cdef set seen = set()
    cdef list stack = list(slots)
    cdef Task* task
    cdef uint64_t* dependents
    cdef uint32_t i
    while stack:
        slot = stack.pop()
        if slot in seen:
            continue
        seen.add(slot)
        order.append(slot)
        task = model.task(<uint32_t>slot)
        dependents = model.dependents_of(task)
        for i in range(task.dependents_size):
            if model.find(dependents[i]) != NULL:
                stack.append(<uint32_t>dependents[i])
    return order


cdef int cancel(Model model, ClientRecord client, list slots, bint force, bytes payload) except -1:
    """Take the client's (with force: everyone's) wants of the tasks and their dependents away, and tell why."""
    for slot in closure_of_dependents(model, slots):
        drop_wants(model, <uint32_t>slot, NONE if force else client.number, payload)
    return 0


cdef int cancel_everything(Model model, bytes payload) except -1:
    """Nobody wants anything any more."""
    cdef uint32_t number, i
    for number in range(<uint32_t>model.slabs.size()):
        if model.slabs[number].tasks == NULL:
            continue
        for i in range(SLAB_TASKS):
            if model.slabs[number].tasks[i].state != FREE_SLOT:
                drop_wants(model, (number << SLAB_BITS) | i, NONE, payload)
    return 0


cdef int drop_wants(Model model, uint32_t slot, uint32_t only, bytes payload) except -1:
    """Take the wants of one client (NONE: of all) of a task away, and tell them why."""
    cdef Task* task = model.task(slot)
    cdef uint32_t number, owner
    cdef uint64_t id
    cdef list wants = []
    if task.want_client != NONE:
        wants.append((task.want_client, task.want_id))
    number = task.more_wants
    while number != NONE:
        wants.append((model.wants[number].client, model.wants[number].id))
        number = model.wants[number].next
    for owner_id in wants:
        owner = owner_id[0]
        id = owner_id[1]
        # What an open submission keeps goes with its last frame: later rows may name it until then.
        if id == 0 or (only != NONE and owner != only):
            continue
        model.remove_want(task, owner, id)
        model.client(owner).clear_slot(id)
        report_to(model, owner, id, task, STATUS_CANCELLED, <const uint8_t*><const char*>payload,
                  <uint32_t>len(payload))
    model.to_check.push_back(model.id_of(slot))
    return 0


cdef int retry(Model model, list slots) except -1:
    """Try failed tasks again, from the roots of their failure on."""
    cdef list roots = []
    cdef set seen = set()
    cdef list stack = list(slots)
    cdef list again
    cdef Task* task
    cdef uint32_t i
    while stack:
        slot = stack.pop()
        task = model.task(<uint32_t>slot)
        if slot in seen or task.state not in (ERRED, RELEASED):
            continue
        seen.add(slot)
        # One that nobody wants may have been forgotten as failed; what it failed of may have not.
        if task.state == ERRED:
            roots.append(slot)
        for i in range(task.n_dependencies):
            stack.append(model.dependencies_of(task)[i])
    again = [slot for slot in closure_of_dependents(model, roots) if model.task(<uint32_t>slot).state == ERRED]
    for slot in again:
        task = model.task(<uint32_t>slot)
        if task.function != NONE:
            erred_to_released(model, <uint32_t>slot)
            task.suspicious = 0
            # Before anything is needed again: that takes the inputs along.
            report(model, task, STATUS_PENDING, NULL, 0)
    for slot in again:
        task = model.task(<uint32_t>slot)
        if task.want_client != NONE and task.state == RELEASED:
            released_to_needed(model, <uint32_t>slot)
    for slot in slots:
        task = model.task(<uint32_t>slot)
        if task.state == ERRED and task.function == NONE:
            # There is nothing to try again; whoever asked for it waits for an answer.
            report_error(model, task)
    return 0


cdef int retry_unknown(Model model, ClientRecord client, list ids) except -1:
    """The client asked to try tasks again that were never taken, or are gone."""
    for id in ids:
        refuse(model, client, <uint64_t>id, reason_payload(
            Reason.UNKNOWN_KEY, "the scheduler has no such task that could be tried again: submit it again"))
    return 0


cdef int fail_scatter(Model model, list ids, bytes payload) except -1:
    """Data that was announced does not come, or no worker can run a task: whoever waits for it is told why."""
    cdef Task* task
    for id in ids:
        task = model.find(<uint64_t>id)
        if task != NULL and (
            task.state == SCATTERING or task.state == NO_WORKER or (task.state == READY and model.load.heap.empty())
        ):
            any_to_erred(model, <uint32_t><uint64_t>id, <const uint8_t*><const char*>payload, <uint32_t>len(payload))
            model.to_check.push_back(<uint64_t>id)
    return 0


cdef list begin_scatter(Model model, ClientRecord client, uint64_t first_id, list keys):
    """Records for data that the client is about to send to workers; returns (task id, already there) for each key."""
    cdef list answer = []
    cdef uint32_t slot
    cdef uint64_t id = first_id, hash
    cdef Task* task
    cdef bytes key
    check_ids(client, first_id, <uint32_t>len(keys))
    client.next_id = first_id + len(keys)
    for key in keys:
        hash = model.keys.hash(<const uint8_t*><const char*>key, <uint32_t>len(key))
        slot = model.keys.find(hash, <const uint8_t*><const char*>key, <uint32_t>len(key))
        if slot == NONE:
            slot = model.new_task()
            task = model.task(slot)
            model.payload.store(slot, <const uint8_t*><const char*>key, <uint32_t>len(key), NULL, 0)
            if model.keys.insert(hash, slot) < 0:
                raise MemoryError("no memory for the table of keys")
            task.prefix = model.prefix_number(NULL, 0)
            model.prefixes[task.prefix].n_alive += 1
            task.flags |= PURE_DATA
            model.set_state(task, SCATTERING)
        task = model.task(slot)
        if task.state == ERRED and task.function == NONE:
            erred_to_released(model, slot)
        if task.state == RELEASED and task.function == NONE:
            # Its workers may not have heard yet that they shall drop what it was: that must not take the new data.
            task.generation += 1
            model.set_state(task, SCATTERING)
        client.set_slot(id, slot)
        model.add_want(slot, client.number, id)
        if task.state == RELEASED:
            released_to_needed(model, slot)
        report_current(model, slot, client.number, id)
        answer.append((model.id_of(slot), task.state == MEMORY))
        id += 1
    return answer


cdef list want_existing(Model model, ClientRecord client, list keys):
    """The client wants tasks that exist; the client id of each key, or 0 for a key that names no task."""
    cdef list answer = []
    cdef uint32_t slot
    cdef uint64_t id
    cdef Task* task
    cdef bytes key
    client.next_id = max(<uint64_t>1, client.next_id)
    check_ids(client, client.next_id, <uint32_t>len(keys))
    for key in keys:
        slot = model.keys.find(
            model.keys.hash(<const uint8_t*><const char*>key, <uint32_t>len(key)),
            <const uint8_t*><const char*>key, <uint32_t>len(key)
        )
        if slot == NONE:
            answer.append(0)
            continue
        id = client.next_id
        client.next_id += 1
        task = model.task(slot)
        client.set_slot(id, slot)
        model.add_want(slot, client.number, id)
        if task.state == RELEASED:
            released_to_needed(model, slot)
        report_current(model, slot, client.number, id)
        answer.append(id)
    return answer
