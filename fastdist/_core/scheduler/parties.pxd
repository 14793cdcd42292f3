# Who takes part besides tasks: the options that tasks share, the workers, the clients.
#
# May cimport: _core/codec.
cimport cython
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libcpp.deque cimport deque
from libcpp.unordered_set cimport unordered_set
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport ColumnWriter

cdef enum:
    MAX_FRAME_BYTES = 1 << 26      # a frame that is larger is finished before the batch ends


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
    cdef readonly bint actor           # results stay where they are made
    cdef readonly bytes for_worker     # msgpack map for the worker, or b""
    cdef readonly object described     # what the user gave, for views and messages
    cdef uint32_t n_tasks


# A task that a worker is asked to give back.
cdef struct Recall:
    uint64_t id
    uint32_t attempt


# Among thousands of workers the record of one is seldom in a cache: what each frame needs comes first, and rows that
# wait to be sent are short lists of numbers.
@cython.final
cdef class WorkerRecord:
    cdef readonly uint32_t number
    cdef bint dirty
    cdef readonly bint alive
    cdef readonly bint running         # may be given tasks
    cdef readonly bint away            # its connection broke; it may come back with all it has
    cdef readonly uint32_t nthreads
    cdef readonly uint32_t n_processing
    cdef readonly uint32_t n_ahead     # of these, sent ahead
    cdef readonly uint32_t n_retracting    # of these, asked back and not answered
    cdef readonly uint32_t n_waits     # of these, execute and wait for something, without a thread
    cdef readonly uint32_t n_seceded   # of these, execute without a thread
    cdef readonly int64_t occupancy    # nanoseconds of work booked
    cdef readonly uint64_t nbytes      # of results that it holds
    cdef readonly uint32_t n_held
    cdef uint32_t first                # list of PROCESSING tasks, oldest first
    cdef uint32_t last
    cdef uint32_t given                # the first of them that no RUN frame tells yet, or NONE; the rest follow it
    cdef readonly uint64_t held_digest     # of what it is believed to hold ...
    cdef readonly uint64_t given_digest    # ... and of what it was given and has not finished, with the attempts
    cdef readonly uint64_t n_sent          # frames since it registered last
    cdef vector[uint64_t] freed        # ids for the next FREE frame
    cdef vector[uint32_t] unused       # functions for the next FREE frame
    cdef vector[Recall] recalled       # for the next RETRACT frame
    cdef Claim claim                   # in the ready queue
    cdef bint in_claimers
    cdef unordered_set[uint64_t] stopping      # ids of tasks that are not wanted any more, and execute there still
    cdef readonly str address
    cdef bytes address_bytes
    cdef readonly bint has_nanny
    cdef vector[double] supply         # by resource number
    cdef vector[double] used
    cdef vector[bint] knows_function
    cdef vector[bint] knows_options
    cdef vector[bint] knows_address
    cdef vector[uint32_t] types        # this worker's type number -> Model.type_names
    cdef readonly bint asked               # to declare what it has; when it was, it had been given ...
    cdef vector[uint64_t] asked_ids
    cdef vector[uint32_t] asked_attempts


cdef enum:
    STOPPING_NANOSECONDS = 1_000_000_000       # of work that a task counts for which is not wanted, and executes


cdef inline int64_t n_startable(WorkerRecord worker) noexcept:
    """Tasks that have a thread, wanted or not, or could start now."""
    return <int64_t>(worker.n_processing + worker.stopping.size()) - worker.n_ahead - worker.n_waits - worker.n_seceded


cdef inline int64_t n_pressing(WorkerRecord worker) noexcept:
    """As `n_startable`, less one for each task that waits.

    A worker holds back what is older than the tasks that wait there; that must not keep out what they wait for.
    """
    return n_startable(worker) - worker.n_waits


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
