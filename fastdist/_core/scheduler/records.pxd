# The record of a task: its states, its flags and its 128 bytes.
#
# Records lie in slabs that never move; a task is named by slot and generation. Invariants are written beside the fields
# and checked by `validation`. The lists that the fields name are in `model`. May cimport nothing.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    NONE = 0xFFFFFFFF          # no slot, no worker, no client, no list element
    SLAB_BITS = 5
    SLAB_TASKS = 1 << SLAB_BITS

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
    WAITS = 32                 # PROCESSING only: it executes, waits for something, and holds no thread meanwhile
    SECEDED = 64               # PROCESSING only: it executes without a thread of the worker
    ACTOR = 128                # its result is an object that stays on its first worker; other holders have handles


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
    uint8_t kept               # copies that the user asked to keep; 0 as 1
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
