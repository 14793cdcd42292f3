"""The scheduler's data and the memory it lives in.

Tasks are 128-byte records in slabs of 32 that never move; keys and argument payloads lie in segments that are compacted
when less than half of a segment lives; small integers stand for functions, options, prefixes, type names, workers and
clients. This module knows how to make, find and free things and nothing about why. May import: _core/codec, _core/keys.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.operator cimport dereference
from libc.math cimport log2
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy
from libcpp.string cimport string
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport ColumnWriter
from fastdist._core.keys.table cimport KeyTable

cdef enum:
    ENTRY_HEADER = 12
    MAX_IDLE_PREFIXES = 4096
    PAGE_BITS = 10
    PAGE_IDS = 1 << PAGE_BITS
    RUN_COLUMNS = 26
    FREE_COLUMNS = 4
    STATE_COLUMNS = 8


cdef const uint8_t* _key_of(void* context, uint32_t slot, uint32_t* length) noexcept nogil:
    cdef KeyPlace* place = <KeyPlace*>context
    cdef Task* task = &dereference(place.slabs)[slot >> SLAB_BITS].tasks[slot & (SLAB_TASKS - 1)]
    cdef uint8_t* entry = dereference(place.segments)[task.segment].data + task.offset
    length[0] = (<uint32_t*>entry)[1]
    return entry + ENTRY_HEADER


cdef class Options:
    """What a submission asked for its tasks beyond the work itself.

    Parameters
    ----------
    number : int
        Index in the model's table.
    priority : float
        Lower goes first (a user's priority, negated).
    retries : int
        How often a task that raised is tried again.
    restricted, loose : bool
        Whether only some workers are allowed, and whether others may help when none of them runs.
    needs : list of (int, float)
        Resource numbers and amounts.
    for_worker : bytes
        msgpack map that the worker needs, or b"".
    described : object
        The options as the user wrote them.
    """

    def __cinit__(self, uint32_t number, double priority, uint32_t retries, bint restricted, bint loose,
                  list needs, bytes for_worker, object described):
        cdef Need need
        self.number = number
        self.priority = priority
        self.retries = retries
        self.restricted = restricted
        self.loose = loose
        self.for_worker = for_worker
        self.described = described
        self.n_tasks = 0
        for resource, amount in needs:
            need.resource = resource
            need.amount = amount
            self.needs.push_back(need)


cdef class WorkerRecord:
    """One worker as the scheduler sees it."""

    def __cinit__(self, uint32_t number, str address, uint32_t nthreads, bint has_nanny):
        self.number = number
        self.address = address
        self.address_bytes = address.encode()
        self.nthreads = nthreads
        self.has_nanny = has_nanny
        self.alive = True
        self.running = True
        self.first = NONE
        self.last = NONE
        self.run = ColumnWriter(RUN_COLUMNS)
        self.free = ColumnWriter(FREE_COLUMNS)
        self.retract = ColumnWriter(FREE_COLUMNS)
        self.early = []


cdef class ClientRecord:
    """One client: what it wants, by its own ids.

    The ids of a client count up, so the map from id to task is a window of pages; a page whose ids are all released is
    given back.
    """

    def __cinit__(self, uint32_t number, str name):
        self.number = number
        self.name = name
        self.alive = True
        self.functions = set()
        self.state = ColumnWriter(STATE_COLUMNS)
        self.last_submission = -1e300
        self.inline_allowed = True
        self.early = []
        self.lost_at = -1.0

    def __dealloc__(self):
        cdef size_t i
        for i in range(self.pages.size()):
            free(self.pages[i])

    cdef uint32_t slot_of(self, uint64_t id) noexcept:
        cdef uint64_t page = id >> PAGE_BITS
        if page < self.first_page or page - self.first_page >= self.pages.size():
            return NONE
        page -= self.first_page
        if self.pages[page] == NULL:
            return NONE
        return self.pages[page][id & (PAGE_IDS - 1)]

    cdef int set_slot(self, uint64_t id, uint32_t slot) except -1:
        cdef uint64_t page = id >> PAGE_BITS
        cdef uint32_t* ids
        cdef uint32_t i
        if self.pages.empty():
            self.first_page = page
        if page < self.first_page:
            raise ValueError(f"client id {id} was already given back")
        page -= self.first_page
        if page - self.pages.size() > 1 << 20 and page >= self.pages.size():
            raise ValueError(f"client id {id} leaves a gap of more than a billion ids")
        while self.pages.size() <= page:
            self.pages.push_back(NULL)
            self.page_live.push_back(0)
        if self.pages[page] == NULL:
            ids = <uint32_t*>malloc(PAGE_IDS * sizeof(uint32_t))
            if ids == NULL:
                raise MemoryError("no memory for a page of client ids")
            for i in range(PAGE_IDS):
                ids[i] = NONE
            self.pages[page] = ids
        ids = self.pages[page]
        if ids[id & (PAGE_IDS - 1)] != NONE:
            raise ValueError(f"client id {id} is used twice")
        ids[id & (PAGE_IDS - 1)] = slot
        self.page_live[page] += 1
        self.n_wanted += 1
        return 0

    cdef void clear_slot(self, uint64_t id) noexcept:
        cdef uint64_t page = id >> PAGE_BITS
        if self.slot_of(id) == NONE:
            return
        page -= self.first_page
        self.pages[page][id & (PAGE_IDS - 1)] = NONE
        self.page_live[page] -= 1
        self.n_wanted -= 1
        if self.page_live[page] == 0:
            free(self.pages[page])
            self.pages[page] = NULL
            while not self.pages.empty() and self.pages.front() == NULL:
                self.drop_first_page()

    cdef void drop_first_page(self) noexcept:
        free(self.pages.front())
        self.pages.pop_front()
        self.page_live.pop_front()
        self.first_page += 1


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
        self.key_place.slabs = &self.slabs
        self.key_place.segments = &self.segments
        self.keys.bind(_key_of, &self.key_place)
        self.current_slab = NONE
        self.current_segment = NONE
        self.free_want = NONE
        self.free_holder = NONE
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
        for i in range(self.segments.size()):
            free(self.segments[i].data)
        for i in range(self.functions.size()):
            free(self.functions[i].payload)
        for i in range(self.errors.size()):
            free(self.errors[i].payload)

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
            slab.next_generation = 0
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
        self.drop_payload(task)
        self._free_lists(task)
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
        cdef uint8_t log2
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
                log2 = task.dependents_log2 + 1 if task.dependents_log2 else 2
                ids = <uint64_t*>realloc(
                    <void*>task.dependents if task.dependents_log2 else NULL, sizeof(uint64_t) << log2
                )
                if ids == NULL:
                    task.n_dependents -= 1
                    raise MemoryError("no memory for the dependents of a task")
                if task.dependents_log2 == 0:
                    ids[0] = task.dependents
                task.dependents = <uint64_t>ids
                task.dependents_log2 = log2
        self.dependents_of(task)[task.dependents_size] = dependent
        task.dependents_size += 1
        return 0

    # -- payload ---------------------------------------------------------------------------------------------------

    cdef int open_segment(self, uint32_t size) except -1:
        """Make a segment with room for `size` bytes the current one."""
        cdef Segment segment
        cdef uint32_t number, old = self.current_segment
        segment.capacity = size if size > SEGMENT_BYTES else <uint32_t>SEGMENT_BYTES
        segment.used = 0
        segment.live = 0
        segment.data = <uint8_t*>malloc(segment.capacity)
        if segment.data == NULL:
            raise MemoryError("no memory for a payload segment")
        if self.free_segments.empty():
            number = <uint32_t>self.segments.size()
            self.segments.push_back(segment)
        else:
            number = self.free_segments.back()
            self.free_segments.pop_back()
            self.segments[number] = segment
        self.current_segment = number
        if old != NONE:
            self._tidy_segment(old)
        return 0

    cdef int _tidy_segment(self, uint32_t number) except -1:
        """Give a segment back if nothing in it lives, or move what lives if that is less than half."""
        if self.segments[number].live == 0:
            self._free_segment(number)
        elif self.segments[number].live < self.segments[number].used // 2:
            self.compact(number)
        return 0

    cdef void _free_segment(self, uint32_t number) noexcept:
        free(self.segments[number].data)
        self.segments[number].data = NULL
        self.segments[number].capacity = 0
        self.segments[number].used = 0
        self.free_segments.push_back(number)

    cdef int store_payload(self, uint32_t slot, const uint8_t* key, uint32_t key_length,
                           const uint8_t* arguments, uint32_t arguments_length) except -1:
        cdef uint64_t wide = (<uint64_t>ENTRY_HEADER + key_length + arguments_length + 3) & ~<uint64_t>3
        cdef uint32_t size = <uint32_t>wide
        cdef Task* task = self.task(slot)
        cdef Segment* segment
        cdef uint8_t* target
        if wide > 0xFFFFFFF0:
            raise ValueError("the arguments of a task are larger than 4 GiB")
        # Tidying the segment before may fill the new one.
        while self.current_segment == NONE or (
            self.segments[self.current_segment].capacity - self.segments[self.current_segment].used < size
        ):
            self.open_segment(size)
        segment = &self.segments[self.current_segment]
        target = segment.data + segment.used
        (<uint32_t*>target)[0] = slot
        (<uint32_t*>target)[1] = key_length
        (<uint32_t*>target)[2] = arguments_length
        memcpy(target + ENTRY_HEADER, key, key_length)
        if arguments_length:
            memcpy(target + ENTRY_HEADER + key_length, arguments, arguments_length)
        task.segment = self.current_segment
        task.offset = segment.used
        segment.used += size
        segment.live += size
        return 0

    cdef const uint8_t* key_bytes(self, Task* task, uint32_t* length) noexcept nogil:
        cdef uint8_t* entry = self.segments[task.segment].data + task.offset
        length[0] = (<uint32_t*>entry)[1]
        return entry + ENTRY_HEADER

    cdef const uint8_t* argument_bytes(self, Task* task, uint32_t* length) noexcept nogil:
        cdef uint8_t* entry = self.segments[task.segment].data + task.offset
        length[0] = (<uint32_t*>entry)[2]
        return entry + ENTRY_HEADER + (<uint32_t*>entry)[1]

    cdef void drop_payload(self, Task* task) noexcept:
        cdef uint8_t* entry
        cdef uint32_t number = task.segment
        cdef Segment* segment
        if number == NONE:
            return
        segment = &self.segments[number]
        entry = segment.data + task.offset
        segment.live -= (ENTRY_HEADER + (<uint32_t*>entry)[1] + (<uint32_t*>entry)[2] + 3) & ~<uint32_t>3
        (<uint32_t*>entry)[0] = NONE
        task.segment = NONE
        if number != self.current_segment:
            self._tidy_segment(number)
        elif segment.live == 0:
            if segment.capacity > SEGMENT_BYTES:
                self.current_segment = NONE
                self._free_segment(number)
            else:
                segment.used = 0

    cdef int compact(self, uint32_t number) except -1:
        """Move what lives in a segment to the current one and give the segment back."""
        cdef Segment old = self.segments[number]
        cdef uint32_t position = 0, size
        cdef uint32_t* entry
        self.segments[number].live = 0
        while position < old.used:
            entry = <uint32_t*>(old.data + position)
            size = (ENTRY_HEADER + entry[1] + entry[2] + 3) & ~<uint32_t>3
            if entry[0] != NONE:
                self.store_payload(entry[0], <uint8_t*>entry + ENTRY_HEADER, entry[1],
                                   <uint8_t*>entry + ENTRY_HEADER + entry[1], entry[2])
            position += size
        self._free_segment(number)
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
        prefix.duration = -1.0
        prefix.nbytes = -1.0
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
                if worker.free.size(0) == 0:
                    worker.free.put_u64(0, self.epoch)
                worker.free.put_u32(3, number)
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

    # The heap holds the running workers: those with a free thread first, then by booked seconds per thread.

    cdef int heap_update(self, WorkerRecord worker) except -1:
        cdef uint32_t number = worker.number
        cdef int32_t position
        while self.heap_positions.size() <= number:
            self.heap_positions.push_back(-1)
            self.loads.push_back(0.0)
            self.ranks.push_back(0.0)
        self.loads[number] = worker.occupancy * 1e-9 / worker.nthreads
        self.ranks[number] = self.loads[number]
        if worker.n_processing - worker.n_ahead < worker.nthreads:
            self.ranks[number] = <double>(worker.n_processing - worker.n_ahead) / worker.nthreads - 1.0
        position = self.heap_positions[number]
        if not worker.running:
            if position >= 0:
                self.heap_remove(number)
            return 0
        if position < 0:
            position = <int32_t>self.load_heap.size()
            self.load_heap.push_back(number)
            self.heap_positions[number] = position
        self.heap_sift(position)
        return 0

    cdef void heap_remove(self, uint32_t number) noexcept nogil:
        cdef int32_t position = self.heap_positions[number]
        cdef uint32_t last = <uint32_t>self.load_heap.size() - 1
        if position < 0:
            return
        if <uint32_t>position != last:
            self.heap_swap(position, last)
        self.load_heap.pop_back()
        self.heap_positions[number] = -1
        if <uint32_t>position < self.load_heap.size():
            self.heap_sift(position)

    cdef void heap_swap(self, uint32_t first, uint32_t second) noexcept nogil:
        cdef uint32_t a = self.load_heap[first], b = self.load_heap[second]
        self.load_heap[first] = b
        self.load_heap[second] = a
        self.heap_positions[a] = second
        self.heap_positions[b] = first

    cdef bint _lighter(self, uint32_t first, uint32_t second) noexcept nogil:
        cdef uint32_t a = self.load_heap[first], b = self.load_heap[second]
        return self.ranks[a] < self.ranks[b] or (self.ranks[a] == self.ranks[b] and a < b)

    cdef void heap_sift(self, uint32_t position) noexcept nogil:
        cdef uint32_t size = <uint32_t>self.load_heap.size()
        cdef uint32_t child
        while position and self._lighter(position, (position - 1) >> 1):
            self.heap_swap(position, (position - 1) >> 1)
            position = (position - 1) >> 1
        while True:
            child = 2 * position + 1
            if child >= size:
                return
            if child + 1 < size and self._lighter(child + 1, child):
                child += 1
            if not self._lighter(child, position):
                return
            self.heap_swap(position, child)
            position = child


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
