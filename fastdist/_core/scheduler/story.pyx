"""What happened to tasks, read from the ring of the model. May import: `_core/history`, the model, the records."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libcpp.unordered_map cimport unordered_map
from libcpp.unordered_set cimport unordered_set

from fastdist._core.history.story cimport Moment, Story
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.records cimport FREE_SLOT, NONE, SLAB_BITS, SLAB_TASKS, Task

STATES = ("released", "waiting", "ready", "no_worker", "processing", "memory", "erred", "scattering")


cdef list tell_story(Model model, list keys, list batches):
    """The rows of `SchedulerCore.story`."""
    cdef Story story = model.story
    cdef unordered_map[uint64_t, uint32_t] alive        # place of the record -> index in `names`
    cdef unordered_map[uint64_t, uint32_t] by_hash
    cdef unordered_set[uint32_t] wanted
    cdef list names = []
    cdef list rows = []
    cdef uint64_t first = story.n_moments - min(story.n_moments, <uint64_t>story.ring.size())
    cdef uint64_t i = story.n_moments
    cdef Moment* moment
    cdef bytes key
    for key in keys or ():
        by_hash[model.keys.hash(<const uint8_t*><const char*>key, <uint32_t>len(key))] = <uint32_t>len(names)
        names.append(key)
        add_alive(model, key, <uint32_t>len(names) - 1, alive)
    for name in batches:
        if name.startswith("batch-") and name[6:].isdigit() and int(name[6:]) < 1 << 32:
            wanted.insert(<uint32_t>int(name[6:]))
    if keys is None or not wanted.empty():
        add_all(model, names, alive)
    # Backwards, since only the last moment of a task that is forgotten tells which key it had.
    while i > first:
        i -= 1
        moment = &story.ring[i & story.mask]
        if moment.finish == FREE_SLOT:
            # Whatever was here before is another task.
            alive.erase(moment.task)
            if by_hash.count(moment.key_hash):
                alive[moment.task] = by_hash[moment.key_hash]
        if not alive.count(moment.task):
            continue
        key = names[alive[moment.task]]
        if keys is None or by_hash.count(model.keys.hash(<const uint8_t*><const char*>key, <uint32_t>len(key))) or (
            wanted.count(moment.batch)
        ):
            rows.append((
                key, STATES[moment.start], "forgotten" if moment.finish == FREE_SLOT else STATES[moment.finish], {},
                f"batch-{moment.batch}", story.time_of(moment.batch),
            ))
    rows.reverse()
    return rows


cdef int add_alive(Model model, bytes key, uint32_t index, unordered_map[uint64_t, uint32_t]& alive) except -1:
    cdef const uint8_t* data = <const uint8_t*><const char*>key
    cdef uint32_t slot = model.keys.find(model.keys.hash(data, <uint32_t>len(key)), data, <uint32_t>len(key))
    if slot != NONE:
        alive[<uint64_t>model.task(slot)] = index
    return 0


cdef int add_all(Model model, list names, unordered_map[uint64_t, uint32_t]& alive) except -1:
    cdef uint32_t number, i, length
    cdef const uint8_t* key
    cdef Task* task
    for number in range(<uint32_t>model.slabs.size()):
        if model.slabs[number].tasks == NULL:
            continue
        for i in range(SLAB_TASKS):
            task = model.task((number << SLAB_BITS) | i)
            if task.state != FREE_SLOT and not alive.count(<uint64_t>task):
                key = model.payload.key_bytes(task, &length)
                alive[<uint64_t>task] = <uint32_t>len(names)
                names.append(PyBytes_FromStringAndSize(<const char*>key, length))
    return 0


cdef list ids_of(Model model, list keys):
    """The rows of `SchedulerCore.story_ids`."""
    cdef Story story = model.story
    cdef unordered_map[uint64_t, uint32_t] by_hash
    cdef list answer = []
    cdef uint64_t i, hash
    cdef uint64_t first = story.n_moments - min(story.n_moments, <uint64_t>story.ring.size())
    cdef uint32_t slot
    cdef Moment* moment
    cdef bytes key
    for number, key in enumerate(keys):
        hash = model.keys.hash(<const uint8_t*><const char*>key, <uint32_t>len(key))
        by_hash[hash] = <uint32_t>number
        slot = model.keys.find(hash, <const uint8_t*><const char*>key, <uint32_t>len(key))
        if slot != NONE:
            answer.append((key, model.id_of(slot)))
    for i in range(first, story.n_moments):
        moment = &story.ring[i & story.mask]
        if moment.finish == FREE_SLOT and by_hash.count(moment.key_hash):
            answer.append((keys[by_hash[moment.key_hash]], <uint64_t>moment.generation << 32 | moment.worker))
    return answer
