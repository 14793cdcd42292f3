# The records of the worker core: states, structs, the pool that owns them, and the one lock.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

cpdef enum TaskState:
    RELEASED = 0    # no record, or one that is being taken away
    WAITING = 1     # some inputs are not in memory yet
    READY = 2       # all inputs are in memory
    EXECUTING = 3   # an execution thread or the loop has it
    MEMORY = 4      # its data is in the store of this worker
    ERRED = 5       # it failed, and tasks that were sent ahead still wait for it
    FETCH = 6       # only an input: its data is on other workers
    IN_FLIGHT = 7   # only an input: its data has been asked for

cdef enum:
    STATE_COUNT = 8
    RUN_INLINE = 1
    RUN_AHEAD = 2


cdef struct TaskRecord

# One input of one task. While the task has not started, the edge is linked into the list `waiters` of its input.
cdef struct Edge:
    TaskRecord* dependency
    TaskRecord* waiter
    Edge* next
    Edge* previous
    uint64_t task_id


cdef struct TaskRecord:
    uint64_t task_id
    double priority
    uint64_t order
    uint64_t arrival                # unique for each time that the record became ready: finds stale heap entries
    uint64_t nbytes
    uint8_t* payload                # one block: key (padded to 8 bytes), edges, arguments
    Edge* waiters
    TaskRecord* next_free
    uint32_t attempt
    uint32_t function_id
    uint32_t option_id
    uint32_t type_number
    uint32_t n_inputs
    uint32_t missing                # inputs that are not in memory
    uint32_t key_length
    uint32_t arguments_length
    uint8_t state
    uint8_t flags
    uint8_t forgotten               # FREE came while it was executing
    uint8_t linked                  # its edges are in the lists of their dependencies


cdef inline size_t padded(size_t length) noexcept nogil:
    return (length + 7) & ~<size_t>7

cdef inline Edge* edges_of(TaskRecord* record) noexcept nogil:
    return <Edge*>(record.payload + padded(record.key_length))

cdef inline uint8_t* arguments_of(TaskRecord* record) noexcept nogil:
    return record.payload + padded(record.key_length) + record.n_inputs * sizeof(Edge)


cdef class RecordPool:
    # Records live in slabs that never move; the table finds them by task id.
    cdef vector[TaskRecord*] slabs
    cdef TaskRecord* free_list
    cdef vector[TaskRecord*] table
    cdef size_t live

    cdef TaskRecord* find(self, uint64_t task_id) noexcept nogil
    cdef TaskRecord* create(self, uint64_t task_id) noexcept nogil
    cdef void remove(self, TaskRecord* record) noexcept nogil
    cdef void _resize(self, size_t size) noexcept nogil
    cdef void _add_slab(self) noexcept nogil
    cdef void trim(self) noexcept nogil


cdef extern from *:
    """
    #ifndef FASTDIST_WORKER_GATE
    #define FASTDIST_WORKER_GATE
    #include <condition_variable>
    #include <mutex>
    // The lock of the worker core, and the place where idle execution threads sleep.
    struct Gate {
        std::mutex mutex;
        std::condition_variable condition;
        int idle = 0;        // sleeping threads that nobody has called yet
        int tokens = 0;      // calls that no thread has answered yet
        bool closed = false;

        void lock() { mutex.lock(); }
        void unlock() { mutex.unlock(); }
        // Sleeps until it is called; the lock is held before and after.
        void sleep() {
            std::unique_lock<std::mutex> held(mutex, std::adopt_lock);
            ++idle;
            condition.wait(held, [this] { return tokens > 0 || closed; });
            if (tokens > 0) { --tokens; } else { --idle; }
            held.release();
        }
        // How many of the sleepers are called for `wanted` new tasks; the lock is held.
        int claim(long wanted) {
            int called = wanted < idle ? static_cast<int>(wanted) : idle;
            if (called < 0) { called = 0; }
            idle -= called;
            tokens += called;
            return called;
        }
        void call(int sleepers) { while (sleepers-- > 0) { condition.notify_one(); } }
        void close() { closed = true; condition.notify_all(); }
    };
    #endif
    """
    cdef cppclass Gate nogil:
        int idle
        bint closed
        void lock()
        void unlock()
        void sleep()
        int claim(long wanted)
        void call(int sleepers)
        void close()
