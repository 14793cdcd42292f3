"""All tasks of a core that has no workers, as frames, and back: what a journal is shortened to.

Tasks are written in dependency order and named by their place in it. Functions, options and errors are written once,
and so are clients. What is loaded is what was there, but for the order of the ready tasks in the queue, and for the
attempts, which mean something to workers only. May import: the scheduler's model and transitions.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport ColumnReader, ColumnWriter
from fastdist._core.keys.canonical cimport key_prefix
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord, Options
from fastdist._core.scheduler.records cimport (
    ACTOR, ERRED, FREE_SLOT, INLINE, NONE, PURE_DATA, RELEASED, SCATTERING, SLAB_BITS, SLAB_TASKS, Task,
)
from fastdist._core.scheduler.transitions cimport released_to_needed

cdef enum:
    COLUMNS = 16
    ROWS = 10_000              # in one frame
    KEPT_FLAGS = INLINE | PURE_DATA | ACTOR


cdef int in_order(Model model, vector[uint32_t]& order, vector[uint32_t]& places) except -1:
    """The slots of all tasks, inputs first; and the place of each slot in that."""
    cdef vector[uint32_t] stack
    cdef uint32_t number, i, j, slot
    cdef Task* task
    cdef uint32_t* dependencies
    cdef bint complete
    places.assign(model.slabs.size() << SLAB_BITS, NONE)
    for number in range(<uint32_t>model.slabs.size()):
        if model.slabs[number].tasks == NULL:
            continue
        for i in range(SLAB_TASKS):
            if model.slabs[number].tasks[i].state == FREE_SLOT:
                continue
            stack.push_back((number << SLAB_BITS) | i)
            while not stack.empty():
                slot = stack.back()
                task = model.task(slot)
                complete = True
                if places[slot] == NONE:
                    dependencies = model.dependencies_of(task)
                    for j in range(task.n_dependencies):
                        if places[dependencies[j]] == NONE:
                            stack.push_back(dependencies[j])
                            complete = False
                    if complete:
                        places[slot] = <uint32_t>order.size()
                        order.push_back(slot)
                if complete:
                    stack.pop_back()
    return 0


cdef int write_row(Model model, ColumnWriter out, Task* task, vector[uint32_t]& places) except -1:
    cdef uint32_t length, i, number
    cdef uint32_t* dependencies = model.dependencies_of(task)
    cdef const uint8_t* data = model.payload.key_bytes(task, &length)
    out.put_piece(0, 1, data, length)
    data = model.payload.argument_bytes(task, &length)
    out.put_piece(2, 3, data, length)
    for i in range(task.n_dependencies):
        out.put_u32(5, places[dependencies[i]])
    out.put_u32(4, <uint32_t>(out.size(5) // 4))
    out.put_u32(6, task.function)
    out.put_u32(7, task.options)
    out.put_u32(8, task.submission)
    out.put_u32(9, task.order)
    out.put_u32(10, (<uint32_t>task.retries << 16) | (<uint32_t>task.suspicious << 8) | task.kept)
    out.put_u32(11, <uint32_t>task.nbytes if task.state == ERRED else NONE)
    out.put_u32(12, (<uint32_t>(task.state == SCATTERING) << 8) | (task.flags & KEPT_FLAGS))
    if task.want_client != NONE:
        out.put_u32(14, task.want_client)
        out.put_u64(15, task.want_id)
        number = task.more_wants
        while number != NONE:
            out.put_u32(14, model.wants[number].client)
            out.put_u64(15, model.wants[number].id)
            number = model.wants[number].next
    out.put_u32(13, <uint32_t>(out.size(14) // 4))
    out.n_rows += 1
    return 0


cdef bytes key_of(Model model, uint32_t slot):
    cdef uint32_t length
    cdef const uint8_t* key = model.payload.key_bytes(model.task(slot), &length)
    return (<const char*>key)[:length]


def task_frames(Model model):
    """Frames with all tasks, for `load_tasks`; a generator."""
    cdef vector[uint32_t] order, places
    cdef ColumnWriter out
    cdef size_t i, end, begin = 0
    in_order(model, order, places)
    while begin < order.size():
        end = min(begin + ROWS, order.size())
        out = ColumnWriter(COLUMNS)
        for column in (0, 2, 4, 13):
            out.put_u32(column, 0)
        for i in range(begin, end):
            write_row(model, out, model.task(order[i]), places)
        yield out.finish()
        begin = end


def describe(Model model) -> dict:
    """What the frames refer to, in plain values but for the options' descriptions."""
    cdef Options options
    cdef ClientRecord client
    cdef list functions = [], all_options = [], errors = [], clients = []
    cdef dict names = {number: name for name, number in model.resource_numbers.items()}
    cdef size_t i
    for hash_bytes, number in model.function_index.items():
        functions.append([
            number, hash_bytes,
            <bytes>(<const char*>model.functions[number].payload)[:model.functions[number].length],
        ])
    for item in model.options:
        options = item
        if options is None or options.number == 0:
            continue
        needs = {names[options.needs[i].resource]: options.needs[i].amount for i in range(options.needs.size())}
        all_options.append([
            options.number, options.priority, options.retries, options.restricted, options.loose, needs,
            options.for_worker, options.described,
        ])
    free = {number for number in model.free_errors}
    for i in range(model.errors.size()):
        if i not in free:
            errors.append([i, <bytes>(<const char*>model.errors[i].payload)[:model.errors[i].length]])
    for item in model.clients:
        client = item
        if client.alive:
            clients.append([
                client.number, client.name, client.next_id, client.submission, client.last_submission,
                client.last_submission_number, sorted(client.functions),
                [[id, key_of(model, client.slot_of(id))] for id in client.open_ids if client.slot_of(id) != NONE],
            ])
    return {
        "functions": functions, "options": all_options, "errors": errors, "clients": clients,
        "n_clients": len(model.clients), "generation": model.generation, "nested": model.nested_generation,
    }


cdef class Loader:
    """Puts tasks into a core that has none; the clients and options are there already.

    Parameters
    ----------
    model : Model
    described : dict
        What `describe` gave, with its options replaced by a map of their numbers to new ones.
    """

    cdef Model model
    cdef dict options
    cdef dict functions                # number when it was written -> number now
    cdef dict errors
    cdef list open_ids                 # (client, pairs of id and key): what open submissions keep
    cdef vector[uint32_t] slots

    def __init__(self, Model model, dict described, dict options):
        cdef ClientRecord client
        cdef bytes data
        cdef uint32_t error, function
        self.model = model
        self.open_ids = []
        self.options = options
        self.functions = {}
        self.errors = {}
        for number, hash_bytes, payload in described["functions"]:
            data = payload
            self.functions[number] = model.function_number(
                <const uint8_t*><const char*>(<bytes>hash_bytes), <const uint8_t*><const char*>data,
                <uint32_t>len(data))
        for number, payload in described["errors"]:
            data = payload
            error = model.new_error(<const uint8_t*><const char*>data, <uint32_t>len(data))
            # Until all tasks that have it are there.
            model.errors[error].n_tasks += 1
            self.errors[number] = error
        for number, _, next_id, submission, last, last_number, functions, open_ids in described["clients"]:
            client = self._client(number)
            client.next_id = next_id
            client.submission = submission
            client.last_submission = last
            client.last_submission_number = last_number
            for old in functions:
                function = self.functions[old]
                client.functions.add(function)
                model.functions[function].n_clients += 1
            self.open_ids.append((client, open_ids))
        model.generation = described["generation"]
        model.nested_generation = described["nested"]

    def load(self, object body) -> None:
        """The tasks of one frame."""
        cdef ColumnReader reader = ColumnReader(body, COLUMNS)
        cdef uint32_t n = <uint32_t>(reader.length_of(6, 4)), i
        cdef const uint32_t* keys = reader.offsets(0, 1, n)
        cdef const uint32_t* arguments = reader.offsets(2, 3, n)
        cdef const uint32_t* inputs = reader.index_offsets(4, n, reader.length_of(5, 4))
        cdef const uint32_t* wants = reader.index_offsets(13, n, reader.length_of(14, 4))
        for column in range(6, 13):
            reader.fixed(column, n, 4)
        reader.fixed(15, reader.length_of(14, 4), 8)
        self.model.keys.reserve(n)
        for i in range(n):
            self._load_row(reader, i, keys, arguments, inputs, wants)

    cdef int _load_row(self, ColumnReader reader, uint32_t i, const uint32_t* keys, const uint32_t* arguments,
                       const uint32_t* inputs, const uint32_t* wants) except -1:
        cdef Model model = self.model
        cdef const uint8_t* key = reader.starts[1] + keys[i]
        cdef uint32_t length = keys[i + 1] - keys[i]
        cdef uint64_t hash = model.keys.hash(key, length)
        cdef uint32_t slot = model.new_task(), number, j, packed
        cdef Task* task = model.task(slot)
        cdef ClientRecord client
        cdef Options asked
        cdef const uint32_t* needed = <const uint32_t*>reader.starts[5]
        cdef vector[uint32_t] dependencies
        if model.keys.find(hash, key, length) != NONE:
            raise ValueError("a snapshot has two tasks with the same key")
        model.payload.store(slot, key, length, reader.starts[3] + arguments[i], arguments[i + 1] - arguments[i])
        if model.keys.insert(hash, slot) < 0:
            raise MemoryError("no memory for the table of keys")
        number = (<const uint32_t*>reader.starts[6])[i]
        if number != NONE:
            task.function = self.functions[number]
            model.functions[task.function].n_tasks += 1
        self._set_prefix(task, key, length)
        task.submission = (<const uint32_t*>reader.starts[8])[i]
        task.order = (<const uint32_t*>reader.starts[9])[i]
        packed = (<const uint32_t*>reader.starts[12])[i]
        task.flags |= packed & 0xFF
        number = (<const uint32_t*>reader.starts[7])[i]
        if number:
            task.options = self.options[number]
            asked = model.option(task.options)
            asked.n_tasks += 1
        for j in range(inputs[i], inputs[i + 1]):
            if needed[j] >= self.slots.size():
                raise ValueError("a task of a snapshot needs one that is not before it")
            dependencies.push_back(self.slots[needed[j]])
        if dependencies.size():
            model.set_dependencies(task, dependencies.data(), <uint32_t>dependencies.size())
            for j in range(<uint32_t>dependencies.size()):
                model.add_dependent(model.task(dependencies[j]), model.id_of(slot))
        for j in range(wants[i], wants[i + 1]):
            client = self._client((<const uint32_t*>reader.starts[14])[j])
            model.add_want(slot, client.number, (<const uint64_t*>reader.starts[15])[j])
            if (<const uint64_t*>reader.starts[15])[j]:
                client.set_slot((<const uint64_t*>reader.starts[15])[j], slot)
        self.slots.push_back(slot)
        if packed >> 8:
            model.set_state(task, SCATTERING)
        number = (<const uint32_t*>reader.starts[11])[i]
        if number != NONE:
            task.nbytes = <uint32_t>self.errors[number]
            model.errors[task.nbytes].n_tasks += 1
            model.set_state(task, ERRED)
        packed = (<const uint32_t*>reader.starts[10])[i]
        task.retries = <uint16_t>(packed >> 16)
        task.suspicious = <uint8_t>(packed >> 8)
        task.kept = <uint8_t>packed
        return 0

    cdef ClientRecord _client(self, uint32_t number):
        if number >= <uint32_t>len(self.model.clients):
            raise ValueError(f"a snapshot names client {number}, which it does not have")
        return self.model.client(number)

    cdef int _set_prefix(self, Task* task, const uint8_t* key, uint32_t length) except -1:
        cdef size_t start = 0, end = 0
        if task.function != NONE:
            key_prefix(key, length, &start, &end)
            task.prefix = self.model.prefix_number(key + start, <uint32_t>(end - start))
        else:
            task.prefix = self.model.prefix_number(NULL, 0)
        self.model.prefixes[task.prefix].n_alive += 1
        return 0

    def finish(self) -> None:
        """What is wanted is needed, with its inputs."""
        cdef Model model = self.model
        cdef size_t i
        cdef Task* task
        for i in range(self.slots.size()):
            task = model.task(self.slots[i])
            if task.want_client != NONE and task.state == RELEASED:
                released_to_needed(model, self.slots[i])
        for client, pairs in self.open_ids:
            for id, key in pairs:
                self._open(client, id, key)
        for number in self.errors.values():
            model.release_error(number)

    cdef int _open(self, ClientRecord client, uint64_t id, bytes key) except -1:
        cdef const uint8_t* start = <const uint8_t*><const char*>key
        cdef uint32_t length = <uint32_t>len(key)
        cdef uint32_t slot = self.model.keys.find(self.model.keys.hash(start, length), start, length)
        if slot == NONE:
            raise ValueError("an open submission of a snapshot keeps a task that is not in it")
        client.set_slot(id, slot)
        client.open_ids.push_back(id)
        return 0
