"""The scheduler's data and the memory it lives in.

Tasks are 128-byte records in slabs of 32 that never move; small integers stand for functions, options, prefixes, type
names, workers and clients. This module knows how to make, find and free things and nothing about why. May import:
_core/codec, _core/keys, _core/history, and of this folder the records, payload, load and retries.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.math cimport log2
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy
from libcpp.string cimport string
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport ColumnWriter
from fastdist._core.history.log cimport TransitionLog
from fastdist._core.history.story cimport Story
from fastdist._core.keys.table cimport KeyTable
from fastdist._core.scheduler.load cimport LoadHeap
from fastdist._core.scheduler.parties cimport ClientRecord, Options, WorkerRecord
from fastdist._core.scheduler.payload cimport Payload
from fastdist._core.scheduler.records cimport (
    FREE_SLOT, MEMORY, NONE, PROCESSING, RELEASED, SLAB_BITS, SLAB_TASKS, Slab, Task,
)
from fastdist._core.scheduler.retries cimport RetryNotes

cdef enum:
    MAX_IDLE_PREFIXES = 4096


@cython.final
cdef class Model:
    """Everything the scheduler knows.

    Parameters
    ----------
    epoch : int
        Marks this life of the scheduler; task ids of another epoch mean nothing here.
    seeds : tuple of two int
        For the hash of the key table.
    settings : dict
        `unknown_duration`, `prefill` and `client_grace` in seconds, `saturation`, `bulky_bytes`, `allowed_failures`,
        `bandwidth` in bytes per second, `latency` in seconds.
    """

    def __cinit__(self, uint64_t epoch, tuple seeds, dict settings):
        cdef int i
        self.epoch = epoch
        self.keys = KeyTable(seeds[0], seeds[1])
        self.payload = Payload()
        self.payload.bind(&self.slabs, self.keys)
        self.load = LoadHeap()
        self.retries = RetryNotes()
        self.history = TransitionLog()
        self.story = Story()
        self.left_worker = NONE
        self.run, self.free = ColumnWriter(26), ColumnWriter(4)
        self.generation = self.nested_generation = FIRST_GENERATION
        self.current_slab = self.free_want = self.free_holder = NONE
        self.function_index = {}
        self.options = [Options(0, 0.0, 0, False, False, [], b"", None)]
        self.workers = []
        self.clients = []
        self.resource_numbers = {}
        self.unknown_duration = settings["unknown_duration"]
        self.prefill_seconds = settings["prefill"]
        self.saturation = settings["saturation"]
        self.bulky_bytes = settings["bulky_bytes"]
        self.allowed_failures = settings["allowed_failures"]
        self.client_grace = settings["client_grace"]
        self.bandwidth = settings["bandwidth"]
        self.latency = settings["latency"]
        for i in range(256):
            self.class_nanoseconds[i] = <int64_t>(2000.0 * 2.0 ** (min(i, 160) / 4.0))
        self.type_number(b"", 0)

    def __dealloc__(self):
        cdef size_t i
        cdef uint32_t slot
        for i in range(self.slabs.size()):
            if self.slabs[i].tasks != NULL:
                for slot in range(SLAB_TASKS):
                    self._free_lists(&self.slabs[i].tasks[slot])
                free(self.slabs[i].tasks)
        for i in range(self.functions.size()):
            free(self.functions[i].payload)
        for i in range(self.errors.size()):
            free(self.errors[i].payload)

    cdef void note_change(self, Task* task, uint8_t state) noexcept nogil:
        """Write down that a task is about to get this state; `FREE_SLOT` when it is forgotten."""
        cdef uint32_t length
        cdef const uint8_t* key
        cdef uint32_t worker = NONE
        if task.segment == NONE:
            return
        key = self.payload.key_bytes(task, &length)
        if state == PROCESSING:
            worker = task.worker
        elif task.state == PROCESSING:
            worker = self.left_worker
        self.history.note(
            key, length, task.state, state, worker, task.nbytes if state == MEMORY else 0,
            task.type if state == MEMORY else 0, self.row_seconds if task.state == PROCESSING else 0,
        )

    # -- records ---------------------------------------------------------------------------------------------------

    cdef uint32_t new_task(self) except? NONE:
        cdef uint32_t number = self.current_slab
        cdef uint32_t bit
        cdef Slab* slab
        cdef Task* task
        if number == NONE or self.slabs[number].free_mask == 0:
            number = self._next_slab()
        slab = &self.slabs[number]
        bit = lowest_bit(slab.free_mask)
        slab.free_mask &= slab.free_mask - 1
        task = &slab.tasks[bit]
        task.generation += 1
        task.attempt = 0
        task.state = RELEASED
        task.flags = 0
        task.suspicious = 0
        task.kept = 0
        task.retries = 0
        task.waiting_on = 0
        task.n_waiters = 0
        task.n_dependents = 0
        task.want_client = NONE
        task.want_id = 0
        task.more_wants = NONE
        task.segment = NONE
        task.function = NONE
        task.options = 0
        task.holder = NONE
        task.more_holders = NONE
        task.worker = NONE
        task.previous = NONE
        task.next = NONE
        task.type = 0
        task.nbytes = 0
        task.n_dependencies = 0
        task.dependents_size = 0
        task.dependents_log2 = 0
        self.n_tasks += 1
        self.n_in_state[RELEASED] += 1
        return (number << SLAB_BITS) | bit

    cdef uint32_t _next_slab(self) except? NONE:
        cdef uint32_t number, i
        cdef Slab slab
        if not self.open_slabs.empty():
            number = self.open_slabs.front()
            self.open_slabs.pop_front()
            self.slabs[number].queued = False
        else:
            number = <uint32_t>self.slabs.size()
            slab.tasks = NULL
            slab.free_mask = 0
            slab.next_generation = <uint32_t>(self.epoch >> 34)   # ids of two lives do not meet
            slab.queued = False
            self.slabs.push_back(slab)
        if self.slabs[number].tasks == NULL:
            self.slabs[number].tasks = <Task*>calloc(SLAB_TASKS, sizeof(Task))
            if self.slabs[number].tasks == NULL:
                raise MemoryError("no memory for task records")
            self.slabs[number].free_mask = 0xFFFFFFFF
            for i in range(SLAB_TASKS):
                self.slabs[number].tasks[i].generation = self.slabs[number].next_generation
                self.slabs[number].tasks[i].state = FREE_SLOT
        self.current_slab = number
        return number

    cdef void _free_lists(self, Task* task) noexcept:
        if task.n_dependencies > 1:
            free(<void*>task.dependencies)
        if task.dependents_log2:
            free(<void*>task.dependents)
        task.n_dependencies = 0
        task.dependents_log2 = 0
        task.dependents_size = 0

    cdef void free_task(self, uint32_t slot) noexcept:
        cdef uint32_t number = slot >> SLAB_BITS
        cdef Slab* slab = &self.slabs[number]
        cdef Task* task = self.task(slot)
        cdef uint32_t i
        self.payload.drop(task)
        self._free_lists(task)
        if not self.retries.notes.empty():
            self.retries.forget(self.id_of(slot))
        self.n_in_state[task.state] -= 1
        self.n_tasks -= 1
        task.state = FREE_SLOT
        slab.free_mask |= <uint32_t>1 << (slot & (SLAB_TASKS - 1))
        if slab.free_mask == 0xFFFFFFFF and number != self.current_slab:
            for i in range(SLAB_TASKS):
                if slab.tasks[i].generation > slab.next_generation:
                    slab.next_generation = slab.tasks[i].generation
            free(slab.tasks)
            slab.tasks = NULL
        if not slab.queued and number != self.current_slab and (
            slab.tasks == NULL or count_bits(slab.free_mask) >= SLAB_TASKS // 2
        ):
            slab.queued = True
            self.open_slabs.push_back(number)

    cdef int set_dependencies(self, Task* task, const uint32_t* slots, uint32_t count) except -1:
        cdef uint32_t* copy
        task.n_dependencies = count
        if count == 1:
            task.dependencies = slots[0]
        elif count > 1:
            copy = <uint32_t*>malloc(count * sizeof(uint32_t))
            if copy == NULL:
                task.n_dependencies = 0
                raise MemoryError("no memory for the inputs of a task")
            memcpy(copy, slots, count * sizeof(uint32_t))
            task.dependencies = <uint64_t>copy
        return 0

    cdef int add_dependent(self, Task* task, uint64_t dependent) except -1:
        cdef uint64_t* ids
        cdef uint32_t i, live
        cdef uint8_t bits
        task.n_dependents += 1
        if task.dependents_size >= <uint32_t>1 << task.dependents_log2:
            if task.dependents_log2 > 3 and task.n_dependents < task.dependents_size // 2:
                ids = self.dependents_of(task)
                live = 0
                for i in range(task.dependents_size):
                    if self.find(ids[i]) != NULL:
                        ids[live] = ids[i]
                        live += 1
                task.dependents_size = live
            else:
                bits = task.dependents_log2 + 1 if task.dependents_log2 else 2
                ids = <uint64_t*>realloc(
                    <void*>task.dependents if task.dependents_log2 else NULL, sizeof(uint64_t) << bits
                )
                if ids == NULL:
                    task.n_dependents -= 1
                    raise MemoryError("no memory for the dependents of a task")
                if task.dependents_log2 == 0:
                    ids[0] = task.dependents
                task.dependents = <uint64_t>ids
                task.dependents_log2 = bits
        self.dependents_of(task)[task.dependents_size] = dependent
        task.dependents_size += 1
        return 0

    # -- who wants a task ------------------------------------------------------------------------------------------

    cdef int add_want(self, uint32_t slot, uint32_t client, uint64_t id) except -1:
        cdef Task* task = self.task(slot)
        cdef Want want
        cdef uint32_t number
        if task.want_client == NONE:
            task.want_client = client
            task.want_id = id
            return 0
        want.client = client
        want.id = id
        want.next = task.more_wants
        if self.free_want != NONE:
            number = self.free_want
            self.free_want = self.wants[number].next
            self.wants[number] = want
        else:
            number = <uint32_t>self.wants.size()
            self.wants.push_back(want)
        task.more_wants = number
        return 0

    cdef bint remove_want(self, Task* task, uint32_t client, uint64_t id) noexcept:
        cdef uint32_t number
        cdef uint32_t* link
        if task.want_client == client and task.want_id == id:
            number = task.more_wants
            if number == NONE:
                task.want_client = NONE
            else:
                task.want_client = self.wants[number].client
                task.want_id = self.wants[number].id
                task.more_wants = self.wants[number].next
                self.wants[number].next = self.free_want
                self.free_want = number
            return True
        link = &task.more_wants
        while link[0] != NONE:
            number = link[0]
            if self.wants[number].client == client and self.wants[number].id == id:
                link[0] = self.wants[number].next
                self.wants[number].next = self.free_want
                self.free_want = number
                return True
            link = &self.wants[number].next
        return False

    # -- who holds its data ----------------------------------------------------------------------------------------

    cdef bint is_held_by(self, Task* task, uint32_t worker) noexcept nogil:
        cdef uint32_t number
        if task.holder == NONE:
            return False
        if task.holder == worker:
            return True
        number = task.more_holders
        while number != NONE:
            if self.holders[number].worker == worker:
                return True
            number = self.holders[number].next
        return False

    cdef int add_holder(self, Task* task, uint32_t worker) except -1:
        cdef Holder holder
        cdef uint32_t number
        cdef WorkerRecord record
        if self.is_held_by(task, worker):
            return 0
        if task.holder == NONE:
            task.holder = worker
        else:
            holder.worker = worker
            holder.next = task.more_holders
            if self.free_holder != NONE:
                number = self.free_holder
                self.free_holder = self.holders[number].next
                self.holders[number] = holder
            else:
                number = <uint32_t>self.holders.size()
                self.holders.push_back(holder)
            task.more_holders = number
        record = self.worker(worker)
        record.nbytes += task.nbytes
        record.n_held += 1
        return 0

    cdef bint remove_holder(self, Task* task, uint32_t worker) noexcept:
        cdef uint32_t number
        cdef uint32_t* link
        cdef WorkerRecord record
        if not self.is_held_by(task, worker):
            return False
        if task.holder == worker:
            number = task.more_holders
            if number == NONE:
                task.holder = NONE
            else:
                task.holder = self.holders[number].worker
                task.more_holders = self.holders[number].next
                self.holders[number].next = self.free_holder
                self.free_holder = number
        else:
            link = &task.more_holders
            while self.holders[link[0]].worker != worker:
                link = &self.holders[link[0]].next
            number = link[0]
            link[0] = self.holders[number].next
            self.holders[number].next = self.free_holder
            self.free_holder = number
        record = self.worker(worker)
        record.nbytes -= task.nbytes
        record.n_held -= 1
        return True

    cdef int holders_into(self, Task* task, vector[uint32_t]& out) except -1:
        cdef uint32_t number
        out.clear()
        if task.holder != NONE:
            out.push_back(task.holder)
            number = task.more_holders
            while number != NONE:
                out.push_back(self.holders[number].worker)
                number = self.holders[number].next
        return 0

    # -- tables ----------------------------------------------------------------------------------------------------

    cdef uint32_t prefix_number(self, const uint8_t* name_bytes, uint32_t length) except? NONE:
        cdef string name
        cdef uint32_t number
        cdef Prefix prefix
        name.assign(<const char*>name_bytes, length)
        if self.prefix_index.count(name):
            return self.prefix_index[name]
        prefix.duration = prefix.nbytes = -1.0
        prefix.n_alive = 0
        prefix.idle = False
        prefix.recent_seconds = 0.0
        prefix.recent_bytes = 0.0
        prefix.recent_count = 0
        prefix.duration_class = self.class_of(self.unknown_duration)
        if self.free_prefixes.empty():
            number = <uint32_t>self.prefixes.size()
            self.prefixes.push_back(prefix)
            self.prefix_names.push_back(name)
        else:
            number = self.free_prefixes.back()
            self.free_prefixes.pop_back()
            self.prefixes[number] = prefix
            self.prefix_names[number] = name
        self.prefix_index[name] = number
        return number

    cdef void release_prefix(self, uint32_t number) noexcept:
        """A task goes; what was measured outlives it for the last `MAX_IDLE_PREFIXES` prefixes without tasks."""
        cdef Prefix* prefix = &self.prefixes[number]
        prefix.n_alive -= 1
        if prefix.n_alive or prefix.idle or number == 0:
            return
        prefix.idle = True
        self.idle_prefixes.push_back(number)
        while self.idle_prefixes.size() > MAX_IDLE_PREFIXES:
            number = self.idle_prefixes.front()
            self.idle_prefixes.pop_front()
            self.prefixes[number].idle = False
            if self.prefixes[number].n_alive == 0:
                self.prefix_index.erase(self.prefix_names[number])
                self.prefix_names[number] = string()
                self.free_prefixes.push_back(number)
                if self.last_prefix == number:
                    self.last_prefix = 0   # which is never given back

    cdef uint32_t type_number(self, const char* name, size_t length) except? NONE:
        cdef string text
        cdef uint32_t number
        text.assign(name, length)
        if self.type_index.count(text):
            return self.type_index[text]
        if self.type_names.size() >= 1 << 20:
            return 0
        number = <uint32_t>self.type_names.size()
        self.type_names.push_back(text)
        self.type_index[text] = number
        return number

    cdef uint32_t function_number(self, const uint8_t* hash16, const uint8_t* payload, uint32_t length) except? NONE:
        """The number of the function with this hash; it is stored if it is new."""
        cdef bytes hash_bytes = PyBytes_FromStringAndSize(<const char*>hash16, 16)
        cdef object known = self.function_index.get(hash_bytes)
        cdef Function function
        cdef uint32_t number
        if known is not None:
            return known
        if length == 0:
            raise ValueError("a function is used that was never sent")
        memcpy(&function.hash_low, hash16, 8)
        memcpy(&function.hash_high, hash16 + 8, 8)
        function.length = length
        function.n_tasks = 0
        function.n_clients = 0
        function.payload = <uint8_t*>malloc(length)
        if function.payload == NULL:
            raise MemoryError("no memory for a function")
        memcpy(function.payload, payload, length)
        if self.free_functions.empty():
            number = <uint32_t>self.functions.size()
            self.functions.push_back(function)
        else:
            number = self.free_functions.back()
            self.free_functions.pop_back()
            self.functions[number] = function
        self.function_index[hash_bytes] = number
        return number

    cdef void release_function(self, uint32_t number) noexcept:
        """Give the function back if neither a task nor a client's cache needs it."""
        cdef Function* function = &self.functions[number]
        cdef uint64_t[2] halves
        cdef WorkerRecord worker
        if function.n_tasks or function.n_clients or function.payload == NULL:
            return
        halves[0] = function.hash_low
        halves[1] = function.hash_high
        self.function_index.pop(PyBytes_FromStringAndSize(<const char*>halves, 16), None)
        free(function.payload)
        function.payload = NULL
        self.free_functions.push_back(number)
        for worker in self.workers:
            if worker.alive and number < worker.knows_function.size() and worker.knows_function[number]:
                worker.knows_function[number] = False
                worker.unused.push_back(number)
                self.mark_worker(worker)

    cdef uint32_t new_error(self, const uint8_t* payload, uint32_t length) except? NONE:
        cdef ErrorRecord error
        cdef uint32_t number
        self.error_serial += 1
        error.serial = self.error_serial
        error.length = length
        error.n_tasks = 0
        error.payload = <uint8_t*>malloc(length + 1)
        if error.payload == NULL:
            raise MemoryError("no memory for an error")
        memcpy(error.payload, payload, length)
        if self.free_errors.empty():
            number = <uint32_t>self.errors.size()
            self.errors.push_back(error)
        else:
            number = self.free_errors.back()
            self.free_errors.pop_back()
            self.errors[number] = error
        return number

    cdef void release_error(self, uint32_t number) noexcept:
        self.errors[number].n_tasks -= 1
        if self.errors[number].n_tasks == 0:
            free(self.errors[number].payload)
            self.errors[number].payload = NULL
            self.free_errors.push_back(number)

    cdef void release_options(self, uint32_t number) noexcept:
        cdef Options options
        cdef WorkerRecord worker
        if number == 0:
            return
        options = self.option(number)
        options.n_tasks -= 1
        if options.n_tasks == 0:
            for worker in self.workers:
                if number < worker.knows_options.size():
                    worker.knows_options[number] = False
            self.options[number] = None
            self.free_options.push_back(number)

    cdef uint8_t class_of(self, double seconds) noexcept:
        cdef double step = 4.0 * log2(seconds * 5e5) if seconds > 2e-6 else 0.0
        return <uint8_t>(160 if step > 160 else step + 0.5)

    # -- workers and clients ---------------------------------------------------------------------------------------

    cdef WorkerRecord worker(self, uint32_t number):
        return <WorkerRecord>self.workers[number]

    cdef ClientRecord client(self, uint32_t number):
        return <ClientRecord>self.clients[number]

    cdef Options option(self, uint32_t number):
        return <Options>self.options[number]

    cdef void forget_scratch(self) noexcept:
        """Give back the lists between two batches that one large batch has made long."""
        give_back_list(self.became_ready)
        give_back_list(self.may_go_ahead)
        give_back_list(self.assigned)
        give_back_list(self.to_check)

    cdef void mark_worker(self, WorkerRecord worker) noexcept:
        if not worker.dirty:
            worker.dirty = True
            self.dirty_workers.push_back(worker.number)

    cdef void mark_client(self, ClientRecord client) noexcept:
        if client.state.n_rows == 0:
            self.dirty_clients.push_back(client.number)

    cdef void link(self, WorkerRecord worker, uint32_t slot) noexcept:
        cdef Task* task = self.task(slot)
        task.previous = worker.last
        task.next = NONE
        if worker.last == NONE:
            worker.first = slot
        else:
            self.task(worker.last).next = slot
        worker.last = slot

    cdef void unlink(self, WorkerRecord worker, uint32_t slot) noexcept:
        cdef Task* task = self.task(slot)
        if task.previous == NONE:
            worker.first = task.next
        else:
            self.task(task.previous).next = task.next
        if task.next == NONE:
            worker.last = task.previous
        else:
            self.task(task.next).previous = task.previous
        task.previous = NONE
        task.next = NONE

cdef extern from *:
    """
    static inline unsigned fastdist_lowest_bit(unsigned x) { return (unsigned)__builtin_ctz(x); }
    static inline unsigned fastdist_count_bits(unsigned x) { return (unsigned)__builtin_popcount(x); }
    """
    uint32_t lowest_bit "fastdist_lowest_bit" (uint32_t x) noexcept nogil
    uint32_t count_bits "fastdist_count_bits" (uint32_t x) noexcept nogil


cdef void give_back_list(vector[uint64_t]& items) noexcept:
    if items.empty() and items.capacity() > 4096:
        items.shrink_to_fit()


def task_record_bytes() -> int:
    """Size of one task record, for the test that holds it at two cache lines."""
    return sizeof(Task)
