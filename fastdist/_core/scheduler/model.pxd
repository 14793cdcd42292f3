# The scheduler's data: what a task, a worker and a client is, and who owns the memory.
#
# Records are C structs in slabs that never move; a task is named by slot and generation. Invariants are written beside
# the fields and checked by `Model.validate`. May cimport: _core/codec, _core/keys.
cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libcpp.deque cimport deque
from libcpp.string cimport string
from libcpp.unordered_map cimport unordered_map
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport ColumnWriter
from fastdist._core.keys.table cimport KeyTable

cdef enum:
    NONE = 0xFFFFFFFF          # no slot, no worker, no client, no list element
    SLAB_BITS = 5
    SLAB_TASKS = 1 << SLAB_BITS
    SEGMENT_BYTES = 1 << 16

# The states of a task.
cdef enum:
    RELEASED = 0               # known, no data, nobody needs it now
    WAITING = 1                # needed; some input is not in memory
    READY = 2                  # needed; all inputs in memory; in the queue
    NO_WORKER = 3              # as READY, but no running worker may run it
    PROCESSING = 4             # sent to a worker
    MEMORY = 5                 # finished; at least one worker holds the data
    ERRED = 6                  # it, or something that it needs, raised
    SCATTERING = 7             # data on its way from a client to workers
    FREE_SLOT = 255

# The flags of a task.
cdef enum:
    INLINE = 1                 # some client wants the bytes of a small result
    AHEAD = 2                  # PROCESSING only: sent before all inputs were in memory
    STARTED = 4                # PROCESSING only: the worker said that it is executing
    RETRACTING = 8             # PROCESSING only: asked back, not answered yet
    PURE_DATA = 16             # scattered: there is no work that could compute it again


# 128 bytes, two cache lines; a test holds the size.
cdef struct Task:
    uint32_t generation        # of the slot; part of the task id
    uint32_t attempt           # grows with each assignment; a result with another one is stale
    uint8_t state
    uint8_t flags
    uint8_t suspicious         # workers that died while executing it
    uint8_t duration_class     # what it was booked with in its worker's occupancy, while PROCESSING
    uint16_t retries           # left
    uint8_t dependents_log2    # capacity of the list of dependents; 0 = one id, inline
    uint8_t spare
    uint32_t waiting_on        # inputs not in MEMORY, while WAITING or PROCESSING
    uint32_t n_waiters         # dependents that are WAITING, READY, NO_WORKER or PROCESSING
    uint32_t n_dependents      # dependents that exist; the record lives while > 0 or wanted
    uint32_t want_client       # first client that wants it, or NONE
    uint64_t want_id           # by which that client knows it
    uint32_t more_wants        # list in Model.wants, or NONE
    uint32_t segment           # key and arguments lie in this payload segment ...
    uint32_t offset            # ... at this offset
    uint32_t function          # Model.functions, or NONE
    uint32_t options           # Model.options; 0 = none
    uint32_t prefix            # Model.prefixes
    uint32_t submission        # earlier submissions go first ...
    uint32_t order             # ... and inside one, lower orders
    uint32_t holder            # one worker that holds the data iff MEMORY, else NONE
    uint32_t more_holders      # list in Model.holders, or NONE
    uint32_t worker            # where it is PROCESSING, else NONE
    uint32_t previous          # neighbours in that worker's list
    uint32_t next
    uint32_t type              # Model.type_names, while MEMORY
    uint64_t nbytes            # size of the result (MEMORY), index of the error (ERRED)
    uint32_t n_dependencies
    uint32_t dependents_size   # ids in the list of dependents; some may be dead
    uint64_t dependencies      # one slot in the low half if n_dependencies == 1, else uint32_t* to slots
    uint64_t dependents        # one id if dependents_log2 == 0, else uint64_t* to ids


cdef struct Slab:
    Task* tasks                # NULL while no task of the slab lives
    uint32_t free_mask         # bit i: slot i is free
    uint32_t next_generation   # for the slots of a slab that is made again
    bint queued                # waits in Model.open_slabs


# Payload segment: entries of [slot, key length, arguments length] as uint32, then key and arguments, padded to 4.
cdef struct Segment:
    uint8_t* data
    uint32_t used
    uint32_t capacity
    uint32_t live              # bytes of entries whose task still points at them


# Where the key table finds the bytes of a key.
cdef struct KeyPlace:
    vector[Slab]* slabs
    vector[Segment]* segments


cdef struct Want:
    uint32_t client
    uint32_t next
    uint64_t id


cdef struct Holder:
    uint32_t worker
    uint32_t next


cdef struct Prefix:
    double duration            # seconds, moving average; < 0 = unknown
    double nbytes              # bytes, moving average; < 0 = unknown
    uint8_t duration_class     # of `duration`
    uint32_t n_alive           # tasks with this prefix
    bint idle                  # in Model.idle_prefixes
    double recent_seconds      # collected while one DONE frame is applied
    double recent_bytes
    uint32_t recent_count


cdef struct Function:
    uint64_t hash_low
    uint64_t hash_high
    uint8_t* payload
    uint32_t length
    uint32_t n_tasks           # tasks that use it
    uint32_t n_clients         # clients that keep it in their cache


cdef struct ErrorRecord:
    uint8_t* payload
    uint32_t length
    uint32_t n_tasks
    uint64_t serial            # never used twice


cdef struct Need:
    uint32_t resource
    double amount


# One contiguous part of a queue run that a worker has reserved for itself.
cdef struct Claim:
    uint64_t run
    uint32_t begin
    uint32_t end


@cython.final
cdef class Options:
    cdef readonly uint32_t number
    cdef readonly double priority      # lower first (the user's, negated)
    cdef readonly uint32_t retries
    cdef readonly bint restricted      # `candidates` counts
    cdef readonly bint loose           # any worker if no candidate is running
    cdef vector[uint32_t] candidates   # worker numbers, resolved by the shell
    cdef vector[Need] needs
    cdef readonly bytes for_worker     # msgpack map for the worker, or b""
    cdef readonly object described     # what the user gave, for views and messages
    cdef uint32_t n_tasks


@cython.final
cdef class WorkerRecord:
    cdef readonly uint32_t number
    cdef readonly str address
    cdef bytes address_bytes
    cdef readonly bint alive
    cdef readonly bint running         # may be given tasks
    cdef readonly uint32_t nthreads
    cdef readonly bint has_nanny
    cdef readonly uint32_t n_processing
    cdef readonly uint32_t n_ahead     # of these, sent ahead
    cdef readonly uint32_t n_retracting    # of these, asked back and not answered
    cdef readonly int64_t occupancy    # nanoseconds of work booked
    cdef readonly uint64_t nbytes      # of results that it holds
    cdef readonly uint32_t n_held
    cdef uint32_t first                # list of PROCESSING tasks, oldest first
    cdef uint32_t last
    cdef Claim claim                   # in the ready queue
    cdef vector[double] supply         # by resource number
    cdef vector[double] used
    cdef vector[bint] knows_function
    cdef vector[bint] knows_options
    cdef vector[bint] knows_address
    cdef vector[uint32_t] types        # this worker's type number -> Model.type_names
    cdef bint in_claimers
    cdef bint dirty
    cdef ColumnWriter run
    cdef ColumnWriter free
    cdef ColumnWriter retract
    cdef list early                    # finished RUN bodies that grew too large to wait
    cdef vector[uint32_t] executing_at_death


@cython.final
cdef class ClientRecord:
    cdef readonly uint32_t number
    cdef readonly str name
    cdef readonly bint alive
    cdef readonly uint64_t n_wanted
    cdef uint64_t first_page           # number of the page at the front of `pages`
    cdef deque[uint32_t*] pages        # PAGE_IDS slots each; NULL = all NONE
    cdef deque[uint16_t] page_live
    cdef double last_submission        # time
    cdef uint64_t last_submission_number
    cdef uint32_t submission           # generation of its current submission
    cdef vector[uint64_t] open_ids     # of the open submission, not wanted by the user
    cdef object functions              # set of function numbers in this client's cache
    cdef ColumnWriter state
    cdef list early                    # finished STATE bodies that grew too large to wait
    cdef uint64_t frame_error          # serial of the last error in the current STATE frame
    cdef public bint inline_allowed    # the shell clears it while this client's queue is long
    cdef uint64_t next_id              # lowest client id not used yet
    cdef vector[uint32_t] frame_types  # type number + 1 -> index in the current STATE frame
    cdef vector[uint32_t] frame_type_list
    cdef double lost_at                # time of a broken connection, < 0 = connected

    cdef uint32_t slot_of(self, uint64_t id) noexcept
    cdef int set_slot(self, uint64_t id, uint32_t slot) except -1
    cdef void clear_slot(self, uint64_t id) noexcept
    cdef void drop_first_page(self) noexcept


@cython.final
cdef class Model:
    # records
    cdef vector[Slab] slabs
    cdef deque[uint32_t] open_slabs
    cdef uint32_t current_slab
    cdef readonly uint64_t n_tasks
    cdef vector[Segment] segments
    cdef vector[uint32_t] free_segments
    cdef uint32_t current_segment
    cdef KeyTable keys
    cdef KeyPlace key_place
    cdef vector[Want] wants
    cdef uint32_t free_want
    cdef vector[Holder] holders
    cdef uint32_t free_holder
    cdef vector[Prefix] prefixes
    cdef unordered_map[string, uint32_t] prefix_index
    cdef vector[string] prefix_names
    cdef vector[uint32_t] free_prefixes
    cdef deque[uint32_t] idle_prefixes     # had no task when they were put here, oldest first
    cdef vector[Function] functions
    cdef vector[uint32_t] free_functions
    cdef object function_index         # 16-byte hash -> number
    cdef vector[ErrorRecord] errors
    cdef vector[uint32_t] free_errors
    cdef vector[string] type_names
    cdef unordered_map[string, uint32_t] type_index
    cdef list options                  # Options or None; 0 is the default
    cdef vector[uint32_t] free_options
    cdef list workers                  # WorkerRecord by number
    cdef list clients                  # ClientRecord by number
    cdef dict resource_numbers
    cdef vector[uint32_t] load_heap    # running workers, least loaded first
    cdef vector[int32_t] heap_positions    # by worker number, -1 = not in the heap
    cdef vector[double] loads          # by worker number: seconds booked per thread
    cdef vector[double] ranks          # by worker number: below 0 while a thread is free, else the load
    cdef int64_t[256] class_nanoseconds
    # settings
    cdef readonly uint64_t epoch
    cdef double unknown_duration
    cdef double prefill_seconds
    cdef double saturation
    cdef uint64_t bulky_bytes
    cdef uint32_t allowed_failures
    cdef double client_grace
    cdef double bandwidth
    cdef double latency
    # work left by the transitions of one batch
    cdef vector[uint64_t] became_ready
    cdef vector[uint64_t] may_go_ahead
    cdef vector[uint64_t] assigned
    cdef vector[uint64_t] to_check
    cdef vector[uint64_t] no_worker
    cdef vector[uint64_t] bytes_at         # scratch of placement: input bytes by worker number, all 0 between uses
    cdef vector[uint32_t] touched          # ... and which are not 0
    cdef uint32_t sample_cursor
    cdef vector[uint32_t] scratch
    cdef uint32_t last_prefix          # of the row before: neighbours share it
    cdef uint64_t error_serial
    cdef uint64_t reporting_error      # serial of the error that `report` tells of, else 0
    cdef vector[uint32_t] dirty_workers
    cdef vector[uint32_t] dirty_clients
    # counters
    cdef readonly uint64_t[9] n_in_state
    cdef readonly uint64_t stale_results
    cdef readonly uint64_t n_transitions
    cdef readonly uint32_t generation

    cdef inline Task* task(self, uint32_t slot) noexcept nogil:
        return &self.slabs[slot >> SLAB_BITS].tasks[slot & (SLAB_TASKS - 1)]

    cdef inline uint64_t id_of(self, uint32_t slot) noexcept nogil:
        return (<uint64_t>self.task(slot).generation << 32) | slot

    cdef inline Task* find(self, uint64_t id) noexcept nogil:
        cdef uint32_t slot = <uint32_t>id
        cdef Task* task
        if (slot >> SLAB_BITS) >= self.slabs.size() or self.slabs[slot >> SLAB_BITS].tasks == NULL:
            return NULL
        task = self.task(slot)
        if task.generation != <uint32_t>(id >> 32) or task.state == FREE_SLOT:
            return NULL
        return task

    cdef inline uint32_t* dependencies_of(self, Task* task) noexcept nogil:
        if task.n_dependencies <= 1:
            return <uint32_t*>&task.dependencies
        return <uint32_t*>task.dependencies

    cdef inline uint64_t* dependents_of(self, Task* task) noexcept nogil:
        if task.dependents_log2 == 0:
            return &task.dependents
        return <uint64_t*>task.dependents

    cdef inline void set_state(self, Task* task, uint8_t state) noexcept nogil:
        self.n_in_state[task.state] -= 1
        self.n_in_state[state] += 1
        task.state = state
        self.n_transitions += 1

    # records
    cdef uint32_t _next_slab(self) except? NONE
    cdef void _free_lists(self, Task* task) noexcept
    cdef void _free_segment(self, uint32_t number) noexcept
    cdef int _tidy_segment(self, uint32_t number) except -1
    cdef bint _lighter(self, uint32_t first, uint32_t second) noexcept nogil
    cdef uint32_t new_task(self) except? NONE
    cdef void free_task(self, uint32_t slot) noexcept
    cdef int add_dependent(self, Task* task, uint64_t dependent) except -1
    cdef int set_dependencies(self, Task* task, const uint32_t* slots, uint32_t count) except -1
    # payload
    cdef int store_payload(self, uint32_t slot, const uint8_t* key, uint32_t key_length,
                           const uint8_t* arguments, uint32_t arguments_length) except -1
    cdef const uint8_t* key_bytes(self, Task* task, uint32_t* length) noexcept nogil
    cdef const uint8_t* argument_bytes(self, Task* task, uint32_t* length) noexcept nogil
    cdef void drop_payload(self, Task* task) noexcept
    cdef int compact(self, uint32_t segment) except -1
    cdef int open_segment(self, uint32_t size) except -1
    # wants
    cdef int add_want(self, uint32_t slot, uint32_t client, uint64_t id) except -1
    cdef bint remove_want(self, Task* task, uint32_t client, uint64_t id) noexcept
    # holders
    cdef bint is_held_by(self, Task* task, uint32_t worker) noexcept nogil
    cdef int add_holder(self, Task* task, uint32_t worker) except -1
    cdef bint remove_holder(self, Task* task, uint32_t worker) noexcept
    cdef int holders_into(self, Task* task, vector[uint32_t]& out) except -1
    # tables
    cdef uint32_t prefix_number(self, const uint8_t* name_bytes, uint32_t length) except? NONE
    cdef void release_prefix(self, uint32_t number) noexcept
    cdef uint32_t type_number(self, const char* name, size_t length) except? NONE
    cdef uint32_t function_number(self, const uint8_t* hash16, const uint8_t* payload, uint32_t length) except? NONE
    cdef void release_function(self, uint32_t number) noexcept
    cdef uint32_t new_error(self, const uint8_t* payload, uint32_t length) except? NONE
    cdef void release_error(self, uint32_t number) noexcept
    cdef void release_options(self, uint32_t number) noexcept
    cdef uint8_t class_of(self, double seconds) noexcept
    # workers
    cdef WorkerRecord worker(self, uint32_t number)
    cdef ClientRecord client(self, uint32_t number)
    cdef Options option(self, uint32_t number)
    cdef int heap_update(self, WorkerRecord worker) except -1
    cdef void heap_remove(self, uint32_t number) noexcept nogil
    cdef void heap_swap(self, uint32_t first, uint32_t second) noexcept nogil
    cdef void heap_sift(self, uint32_t position) noexcept nogil
    cdef void link(self, WorkerRecord worker, uint32_t slot) noexcept
    cdef void unlink(self, WorkerRecord worker, uint32_t slot) noexcept
    cdef void forget_scratch(self) noexcept
    cdef void mark_worker(self, WorkerRecord worker) noexcept
    cdef void mark_client(self, ClientRecord client) noexcept
