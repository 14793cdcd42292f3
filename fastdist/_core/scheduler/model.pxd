# The scheduler's data: every table, every list, and who owns their memory.
#
# May cimport: _core/codec, _core/keys, _core/history, the records, payload and load.
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp.deque cimport deque
from libcpp.string cimport string
from libcpp.unordered_map cimport unordered_map
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport ColumnWriter
from fastdist._core.history.log cimport TransitionLog
from fastdist._core.history.story cimport Story
from fastdist._core.keys.table cimport KeyTable
from fastdist._core.scheduler.load cimport LoadHeap
from fastdist._core.scheduler.parties cimport ClientRecord, Options, WorkerRecord
from fastdist._core.scheduler.payload cimport Payload
from fastdist._core.scheduler.records cimport FREE_SLOT, NONE, SLAB_BITS, SLAB_TASKS, Slab, Task
from fastdist._core.scheduler.retries cimport RetryNotes


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


cdef enum:
    FIRST_GENERATION = 1 << 31     # submissions that users make count up from here, those that tasks make count down


@cython.final
cdef class Model:
    # records
    cdef vector[Slab] slabs
    cdef deque[uint32_t] open_slabs
    cdef uint32_t current_slab
    cdef readonly uint64_t n_tasks
    cdef KeyTable keys
    cdef Payload payload
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
    cdef LoadHeap load
    cdef RetryNotes retries
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
    cdef vector[uint64_t] unreachable      # NO_WORKER until a worker that is away, and holds an input, is back or lost
    cdef uint32_t n_away                   # workers
    cdef vector[uint64_t] actors           # that were placed; some may be gone
    cdef vector[uint32_t] actor_counts     # scratch of placement: actors by worker number
    cdef vector[uint64_t] bytes_at         # scratch of placement: input bytes by worker number, all 0 between uses
    cdef vector[uint32_t] touched          # ... and which are not 0
    cdef uint32_t sample_cursor
    cdef vector[uint32_t] scratch
    cdef uint32_t last_prefix          # of the row before: neighbours share it
    cdef uint64_t error_serial
    cdef uint64_t reporting_error      # serial of the error that `report` tells of, else 0
    cdef vector[uint32_t] dirty_workers
    cdef vector[uint32_t] dirty_clients
    cdef ColumnWriter run              # the frame for one worker that is being written, empty between two ...
    cdef ColumnWriter free             # ... and the FREE or RETRACT frame
    # counters
    cdef readonly uint64_t[9] n_in_state
    cdef readonly uint64_t stale_results
    cdef readonly uint64_t n_transitions
    cdef readonly uint32_t generation          # of the newest submission
    cdef uint32_t nested_generation            # of the newest submission that a task made; counts down
    # what happened, for those who listen
    cdef Story story                       # always
    cdef bint listened
    cdef TransitionLog history
    cdef uint32_t left_worker              # of the task that left a worker last
    cdef float row_seconds                 # of execution, in the DONE row that is applied

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
        self.n_transitions += 1
        self.story.note(<uint64_t>task, 0, task.generation, task.worker, task.state, state)
        if self.listened:
            self.note_change(task, state)
        task.state = state

    cdef void note_change(self, Task* task, uint8_t state) noexcept nogil

    # records
    cdef uint32_t _next_slab(self) except? NONE
    cdef void _free_lists(self, Task* task) noexcept
    cdef uint32_t new_task(self) except? NONE
    cdef void free_task(self, uint32_t slot) noexcept
    cdef int add_dependent(self, Task* task, uint64_t dependent) except -1
    cdef int set_dependencies(self, Task* task, const uint32_t* slots, uint32_t count) except -1
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
    cdef void link(self, WorkerRecord worker, uint32_t slot) noexcept
    cdef void unlink(self, WorkerRecord worker, uint32_t slot) noexcept
    cdef void forget_scratch(self) noexcept
    cdef void mark_worker(self, WorkerRecord worker) noexcept
    cdef void mark_client(self, ClientRecord client) noexcept
