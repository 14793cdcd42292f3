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
    uint64_t given                  # what it adds to the digest of the given tasks
    uint8_t* payload                # one block: key (padded to 8 bytes), edges, arguments
    Edge* waiters
    TaskRecord* next_free
    uint32_t attempt
    uint32_t function_id
    uint32_t option_id
    uint32_t heap                   # of its needs, since the scheduler may give the option's number to another one
    uint32_t type_number
    uint32_t n_inputs
    uint32_t missing                # inputs that are not in memory
    uint32_t key_length
    uint32_t arguments_length
    uint8_t state
    uint8_t flags
    uint8_t forgotten               # FREE came while it was executing
    uint8_t linked                  # its edges are in the lists of their dependencies
    uint8_t away                    # EXECUTING without a slot, and why (`away`)


cdef inline size_t padded(size_t length) noexcept nogil:
    return (length + 7) & ~<size_t>7

cdef inline Edge* edges_of(TaskRecord* record) noexcept nogil:
    return <Edge*>(record.payload + padded(record.key_length))

cdef inline uint8_t* arguments_of(TaskRecord* record) noexcept nogil:
    return record.payload + padded(record.key_length) + record.n_inputs * sizeof(Edge)

cdef inline bint goes_before(TaskRecord* left, TaskRecord* right) noexcept nogil:
    if left.priority != right.priority:
        return left.priority < right.priority
    return left.order < right.order


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
    cdef void rehash(self) noexcept nogil
    cdef void _add_slab(self) noexcept nogil
    cdef void trim(self) noexcept nogil


cdef extern from *:
    """
    #ifndef FASTDIST_WORKER_GATE
    #define FASTDIST_WORKER_GATE
    #include <condition_variable>
    #include <cstdint>
    #include <fcntl.h>
    #include <mutex>
    #include <thread>
    #include <unistd.h>
    // The lock of the worker core, and the place where idle execution threads sleep.
    struct Gate {
        std::mutex mutex;
        std::condition_variable condition;
        std::condition_variable returns;
        int idle = 0;        // sleeping threads that nobody has called yet
        int tokens = 0;      // calls that no thread has answered yet
        bool closed = false;
        // One idle thread may watch the connection instead of sleeping; it is called through a descriptor.
        bool watching = false;
        bool rung = false;
        int bell = -1;
        std::thread::id watcher;
        static const int RING = 1 << 30;

        ~Gate() { if (bell >= 0) { ::close(bell); } }
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
        // Sleeps until something changed for those that want a slot again; the lock is held before and after.
        void sleep_returning() {
            std::unique_lock<std::mutex> held(mutex, std::adopt_lock);
            returns.wait(held);
            held.release();
        }
        void call_returning() { returns.notify_all(); }
        // The calling thread watches from now on; false if another one does. The lock is held.
        bool watch(int descriptor) {
            if (watching || closed) { return false; }
            // A handle of its own: it rings without the lock, when the number may be that of another file by now.
            if (bell < 0) { bell = fcntl(descriptor, F_DUPFD_CLOEXEC, 0); }
            if (bell < 0) { return false; }
            watching = true;
            rung = false;
            watcher = std::this_thread::get_id();
            return true;
        }
        void ring() {
            uint64_t one = 1;
            // It can fail only if the bell rings already.
            if (write(bell, &one, sizeof one) < 0) { return; }
        }
        // How many of the sleepers are called for `wanted` new tasks; the lock is held.
        int claim(long wanted) {
            bool by_watcher = watching && watcher == std::this_thread::get_id();
            // The watcher looks for a task itself when it has dealt with what it read.
            if (by_watcher) { --wanted; }
            int called = wanted < idle ? static_cast<int>(wanted) : idle;
            if (called < 0) { called = 0; }
            idle -= called;
            tokens += called;
            if (watching && !by_watcher && !rung && wanted > called) {
                rung = true;
                called |= RING;
            }
            return called;
        }
        void call(int sleepers) {
            if (sleepers & RING) { ring(); sleepers &= ~RING; }
            while (sleepers-- > 0) { condition.notify_one(); }
        }
        void close() { closed = true; if (watching) { ring(); } condition.notify_all(); returns.notify_all(); }
    };
    #endif
    """
    cdef cppclass Gate nogil:
        int idle
        bint closed
        bint watching
        bint rung
        bint watch(int descriptor)
        void lock()
        void unlock()
        void sleep()
        void sleep_returning()
        void call_returning()
        int claim(long wanted)
        void call(int sleepers)
        void close()
