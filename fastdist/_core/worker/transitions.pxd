# The state machine of one worker: one function per transition, and the rows that they report.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport ColumnWriter
from fastdist._core.history.log cimport TransitionLog
from fastdist._core.history.story cimport Story
from fastdist._core.worker.away cimport AwayTasks
from fastdist._core.worker.fetch cimport FetchPlan
from fastdist._core.worker.model cimport RecordPool, TaskRecord
from fastdist._core.worker.ready cimport ReadyQueue

cdef enum:
    DONE_COLUMNS = 11


cdef class WorkerModel:
    cdef readonly RecordPool pool
    cdef readonly ReadyQueue ready
    cdef readonly FetchPlan plan
    cdef readonly AwayTasks away
    cdef ColumnWriter done
    cdef readonly uint64_t epoch
    cdef readonly uint32_t number           # of this worker, given by the scheduler
    cdef uint64_t held_digest               # of what is in memory ...
    cdef uint64_t given_digest              # ... and of what was given and has not ended, with the attempts
    cdef uint64_t n_received                # frames over this connection
    cdef uint64_t counts[8]                 # records in each state
    cdef uint64_t illegal                   # from << 8 | to of the first illegal transition, or 0
    cdef double oldest_row                  # when the first row of the open DONE frame was written; 0 = no rows
    cdef vector[uint64_t] dropped           # ids whose data must leave the store
    cdef vector[TaskRecord*] withdrawn      # work list of give_back
    cdef Story story                        # the last transitions, always
    cdef bint listened                      # whether every transition is written down
    cdef TransitionLog history

    # rows
    cdef void open_frame(self) noexcept nogil
    cdef void report(self, uint64_t task_id, uint32_t attempt, uint8_t status, uint64_t size, float seconds,
                     uint32_t type_number, const uint8_t* payload, size_t length, double now) noexcept nogil

    # edges
    cdef void detach(self, TaskRecord* record) noexcept nogil
    cdef void attach(self, TaskRecord* record) noexcept nogil
    cdef void inputs_landed(self, TaskRecord* record) noexcept nogil
    cdef void give_back_waiters(self, TaskRecord* record, double now, uint64_t verdict=*) noexcept nogil
    cdef void fail_waiters(self, TaskRecord* record, const uint8_t* payload, size_t length, double now) noexcept nogil
    cdef void drop_unneeded(self, TaskRecord* record) noexcept nogil
    cdef void withdraw_waiter(self, TaskRecord* waiter) noexcept nogil
    cdef void remove(self, TaskRecord* record) noexcept nogil
    cdef void report_away(self, TaskRecord* record, double now) noexcept nogil
    cdef void end_execution(self, TaskRecord* record) noexcept nogil
    cdef void move(self, TaskRecord* record, uint8_t state) noexcept nogil
    cdef void count_given(self, TaskRecord* record) noexcept nogil
    cdef void note_change(self, TaskRecord* record, uint8_t start, uint8_t finish) noexcept nogil

    # transitions of tasks
    cdef void released_to_waiting(self, TaskRecord* record) noexcept nogil
    cdef void waiting_to_ready(self, TaskRecord* record) noexcept nogil
    cdef void waiting_to_waiting(self, TaskRecord* record) noexcept nogil
    cdef void ready_to_waiting(self, TaskRecord* record) noexcept nogil
    cdef TaskRecord* ready_to_executing(self) noexcept nogil
    cdef void executing_to_memory(self, TaskRecord* record, uint64_t nbytes, uint32_t type_number, float seconds,
                                  const uint8_t* payload, size_t length, double now) noexcept nogil
    cdef void executing_to_erred(self, TaskRecord* record, uint64_t verdict, float seconds, const uint8_t* payload,
                                 size_t length, double now) noexcept nogil
    cdef void executing_to_ready(self, TaskRecord* record) noexcept nogil
    cdef void executing_to_released(self, TaskRecord* record) noexcept nogil
    cdef void waiting_to_released(self, TaskRecord* record) noexcept nogil
    cdef void ready_to_released(self, TaskRecord* record) noexcept nogil
    cdef void memory_to_released(self, TaskRecord* record) noexcept nogil
    cdef void erred_to_released(self, TaskRecord* record) noexcept nogil
    cdef void erred_to_waiting(self, TaskRecord* record) noexcept nogil
    # transitions of inputs
    cdef void released_to_fetch(self, TaskRecord* record) noexcept nogil
    cdef void erred_to_fetch(self, TaskRecord* record) noexcept nogil
    cdef void fetch_to_in_flight(self, TaskRecord* record) noexcept nogil
    cdef void in_flight_to_fetch(self, TaskRecord* record) noexcept nogil
    cdef void fetch_to_waiting(self, TaskRecord* record) noexcept nogil
    cdef void in_flight_to_waiting(self, TaskRecord* record) noexcept nogil
    cdef void fetch_to_released(self, TaskRecord* record) noexcept nogil
    cdef void in_flight_to_released(self, TaskRecord* record) noexcept nogil
    cdef void arrived_to_memory(self, TaskRecord* record, uint64_t nbytes, uint32_t type_number) noexcept nogil
    cdef void released_to_memory(self, TaskRecord* record, uint64_t nbytes, uint32_t type_number) noexcept nogil
    cdef void release(self, TaskRecord* record, double now) noexcept nogil
