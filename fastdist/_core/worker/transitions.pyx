"""The state machine of one worker.

One transition is one function, named after its two states; `LEGAL` is the table of the edges, and every change of state
goes through `move`, which counts and checks. All of it is C on C data: the caller holds the lock. What Python has to do
afterwards (drop values from the store, send rows) is left in `dropped` and in the open DONE frame. May import: the
model, the ready queue, the fetch plan and the frames.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc

from fastdist._core.codec.frames cimport (
    DONE_ERRED, DONE_FINISHED, DONE_RETRACTED, DONE_RETURNED, DONE_SECEDED, DONE_WAITS, ColumnWriter,
)
from fastdist._core.digest cimport digest_of
from fastdist._core.history.log cimport TransitionLog
from fastdist._core.history.story cimport Story
from fastdist._core.worker.away cimport SECEDED, AwayTasks
from fastdist._core.worker.model cimport (
    ERRED, EXECUTING, FETCH, IN_FLIGHT, MEMORY, READY, RELEASED, STATE_COUNT, WAITING, Edge, RecordPool, edges_of,
)

from fastdist._core.worker.model import TaskState

# From each state, the states that may follow. A WAITING task that waits again got a new attempt.
TRANSITIONS = {
    TaskState.RELEASED: (TaskState.WAITING, TaskState.FETCH, TaskState.MEMORY),
    TaskState.WAITING: (TaskState.READY, TaskState.RELEASED, TaskState.WAITING),
    TaskState.READY: (TaskState.EXECUTING, TaskState.RELEASED, TaskState.WAITING),
    TaskState.EXECUTING: (TaskState.MEMORY, TaskState.ERRED, TaskState.RELEASED, TaskState.READY),
    TaskState.MEMORY: (TaskState.RELEASED,),
    TaskState.ERRED: (TaskState.RELEASED, TaskState.WAITING, TaskState.FETCH),
    TaskState.FETCH: (TaskState.IN_FLIGHT, TaskState.MEMORY, TaskState.RELEASED, TaskState.WAITING),
    TaskState.IN_FLIGHT: (TaskState.FETCH, TaskState.MEMORY, TaskState.RELEASED, TaskState.WAITING),
}

cdef uint8_t LEGAL[STATE_COUNT]
for _state, _following in TRANSITIONS.items():
    LEGAL[<int>_state] = sum(1 << int(_next) for _next in _following)

cdef enum:
    SMALL_ARGUMENTS = 256   # a finished task keeps a block of this size; a larger one is cut down to its key


cdef class WorkerModel:
    """Records, ready tasks, wanted inputs and the open DONE frame of one worker, and how they change."""

    def __cinit__(self, uint64_t epoch, uint32_t number, *, uint32_t max_peers=10, uint64_t max_bytes=50 << 20,
                  uint64_t story=1 << 16, **settings_of_the_core):
        self.pool = RecordPool()
        self.ready = ReadyQueue()
        self.plan = FetchPlan(max_peers, max_bytes)
        self.away = AwayTasks()
        self.done = ColumnWriter(DONE_COLUMNS)
        self.epoch = epoch
        self.number = number
        self.illegal = 0
        self.listened = False
        self.history = TransitionLog()
        self.story = Story(story)
        for state in range(STATE_COUNT):
            self.counts[state] = 0
        self.open_frame()

    # Rows

    cdef void open_frame(self) noexcept nogil:
        self.oldest_row = 0
        self.done.put_u64(0, self.epoch)
        self.done.put_u32(7, 0)
        self.done.put_u32(9, 0)

    cdef void report(self, uint64_t task_id, uint32_t attempt, uint8_t status, uint64_t size, float seconds,
                     uint32_t type_number, const uint8_t* payload, size_t length, double now) noexcept nogil:
        """Append one row to the open DONE frame."""
        if self.done.n_rows == 0:
            self.oldest_row = now
        self.done.put_u64(1, task_id)
        self.done.put_u32(2, attempt)
        self.done.put_u8(3, status)
        self.done.put_u64(4, size)
        self.done.put_f32(5, seconds)
        self.done.put_u32(6, type_number)
        self.done.put_piece(7, 8, payload, length)
        self.done.n_rows += 1

    # Edges

    cdef void attach(self, TaskRecord* record) noexcept nogil:
        """Link the task into the lists of its inputs and count those that are missing."""
        cdef Edge* edges = edges_of(record)
        cdef Edge* edge
        cdef uint32_t i
        record.missing = 0
        record.linked = True
        for i in range(record.n_inputs):
            edge = &edges[i]
            edge.waiter = record
            edge.previous = NULL
            edge.next = edge.dependency.waiters
            if edge.next != NULL:
                edge.next.previous = edge
            edge.dependency.waiters = edge
            if edge.dependency.state != MEMORY:
                record.missing += 1

    cdef void detach(self, TaskRecord* record) noexcept nogil:
        """Take the task out of the lists of its inputs; the ids of the inputs stay."""
        cdef Edge* edges = edges_of(record)
        cdef Edge* edge
        cdef uint32_t i
        if not record.linked:
            return
        record.linked = False
        for i in range(record.n_inputs):
            edge = &edges[i]
            if edge.previous != NULL:
                edge.previous.next = edge.next
            else:
                edge.dependency.waiters = edge.next
            if edge.next != NULL:
                edge.next.previous = edge.previous
            if edge.dependency.waiters == NULL:
                self.drop_unneeded(edge.dependency)
            edge.dependency = NULL

    cdef void drop_unneeded(self, TaskRecord* record) noexcept nogil:
        """Nobody waits for this record any more: some states end with that."""
        if record.state == FETCH:
            self.fetch_to_released(record)
        elif record.state == IN_FLIGHT:
            self.in_flight_to_released(record)
        elif record.state == ERRED:
            self.erred_to_released(record)

    cdef void inputs_landed(self, TaskRecord* record) noexcept nogil:
        """The data of this record is here: those that wait for it are one step nearer."""
        cdef Edge* edge = record.waiters
        while edge != NULL:
            edge.waiter.missing -= 1
            if edge.waiter.missing == 0:
                self.waiting_to_ready(edge.waiter)
            edge = edge.next

    cdef void give_back_waiters(self, TaskRecord* record, double now, uint64_t verdict=0) noexcept nogil:
        """The data of this record will not come: those that wait for it, and those behind them, go back unstarted.

        `verdict` says when and where those that wait for it shall be tried again.
        """
        cdef uint8_t state = record.state
        cdef TaskRecord* waiter
        cdef TaskRecord* source
        if record.waiters == NULL:
            return
        # A record on the work list is RELEASED, so that detaching its last waiter does not take it away.
        record.state = RELEASED
        self.withdrawn.push_back(record)
        while self.withdrawn.size():
            source = self.withdrawn.back()
            if source.waiters == NULL:
                self.withdrawn.pop_back()
                if source != record:
                    self.remove(source)
                continue
            waiter = source.waiters.waiter
            self.withdraw_waiter(waiter)
            if waiter != record:
                self.report(waiter.task_id, waiter.attempt, DONE_RETRACTED, verdict if source == record else 0, 0, 0,
                            NULL, 0, now)
                self.withdrawn.push_back(waiter)
        record.state = state

    cdef void fail_waiters(self, TaskRecord* record, const uint8_t* payload, size_t length, double now) noexcept nogil:
        """The data of this record cannot travel: those that wait for it fail, those behind them go back."""
        cdef uint8_t state = record.state
        cdef TaskRecord* waiter
        record.state = RELEASED
        while record.waiters != NULL:
            waiter = record.waiters.waiter
            self.withdraw_waiter(waiter)
            if waiter != record:
                self.report(waiter.task_id, waiter.attempt, DONE_ERRED, 0, 0, 0, payload, length, now)
                self.give_back_waiters(waiter, now)
                self.remove(waiter)
        record.state = state

    cdef void withdraw_waiter(self, TaskRecord* waiter) noexcept nogil:
        """Unlink a task that has not started; a task that waits for itself keeps its state until its turn."""
        self.detach(waiter)
        if waiter.state == READY:
            self.ready.withdraw(waiter)
        if waiter.state != RELEASED:
            self.move(waiter, RELEASED)

    cdef void remove(self, TaskRecord* record) noexcept nogil:
        if self.listened:
            self.note_change(record, RELEASED, STATE_COUNT)
        self.pool.remove(record)

    cdef void move(self, TaskRecord* record, uint8_t state) noexcept nogil:
        self.story.note(record.task_id, 0, record.attempt, 0, record.state, state)
        if not (LEGAL[record.state] >> state) & 1 and self.illegal == 0:
            self.illegal = <uint64_t>1 << 16 | <uint64_t>record.state << 8 | state
        if record.state != RELEASED:
            self.counts[record.state] -= 1
        if state != RELEASED:
            self.counts[state] += 1
        if self.listened:
            self.note_change(record, record.state, state)
        if record.state == MEMORY:
            self.held_digest -= digest_of(record.task_id, 0)
        elif state == MEMORY:
            self.held_digest += digest_of(record.task_id, 0)
        record.state = state
        self.count_given(record)

    cdef void count_given(self, TaskRecord* record) noexcept nogil:
        """Its state, its attempt, or whether it is forgotten has changed: does it count as given, and how?"""
        cdef uint64_t given = 0
        if not record.forgotten and (record.state == WAITING or record.state == READY or record.state == EXECUTING):
            given = digest_of(record.task_id, record.attempt)
        self.given_digest += given - record.given
        record.given = given

    cdef void note_change(self, TaskRecord* record, uint8_t start, uint8_t finish) noexcept nogil:
        """Write a transition down; an input of which only the id is known here has no key and is left out."""
        if record.payload != NULL:
            self.history.note(record.payload, record.key_length, start, finish, 0, 0, 0, 0)

    cdef void end_execution(self, TaskRecord* record) noexcept nogil:
        """It gives back its resources; one that held no slot is not away any more."""
        self.ready.give_back(record)
        if record.away:
            self.away.come_back(record)

    cdef void report_away(self, TaskRecord* record, double now) noexcept nogil:
        """Say whether the task holds a slot."""
        cdef uint8_t status = DONE_RETURNED
        if record.away == SECEDED:
            status = DONE_SECEDED
        elif record.away:
            status = DONE_WAITS
        if not record.forgotten:
            self.report(record.task_id, record.attempt, status, 0, 0, 0, NULL, 0, now)

    # Transitions of tasks

    cdef void released_to_waiting(self, TaskRecord* record) noexcept nogil:
        self.move(record, WAITING)

    cdef void waiting_to_ready(self, TaskRecord* record) noexcept nogil:
        self.move(record, READY)
        self.ready.push(record)

    cdef void waiting_to_waiting(self, TaskRecord* record) noexcept nogil:
        """A new attempt, perhaps with other inputs."""
        self.detach(record)
        self.move(record, WAITING)

    cdef void ready_to_waiting(self, TaskRecord* record) noexcept nogil:
        self.ready.withdraw(record)
        self.detach(record)
        self.move(record, WAITING)

    cdef TaskRecord* ready_to_executing(self) noexcept nogil:
        """The best task that can start now, or NULL."""
        cdef TaskRecord* record = self.ready.pop()
        if record != NULL:
            self.move(record, EXECUTING)
            self.detach(record)
        return record

    cdef void executing_to_memory(self, TaskRecord* record, uint64_t nbytes, uint32_t type_number, float seconds,
                                  const uint8_t* payload, size_t length, double now) noexcept nogil:
        cdef void* smaller
        self.story.begin_batch(now)
        self.end_execution(record)
        self.move(record, MEMORY)
        record.nbytes = nbytes
        record.type_number = type_number
        if record.arguments_length + record.n_inputs * sizeof(Edge) > SMALL_ARGUMENTS:
            smaller = realloc(record.payload, record.key_length + 1)
            if smaller != NULL:
                record.payload = <uint8_t*>smaller
            record.arguments_length = 0
            record.n_inputs = 0
        self.report(record.task_id, record.attempt, DONE_FINISHED, nbytes, seconds, type_number, payload, length, now)
        self.inputs_landed(record)

    cdef void executing_to_erred(self, TaskRecord* record, uint64_t verdict, float seconds, const uint8_t* payload,
                                 size_t length, double now) noexcept nogil:
        self.story.begin_batch(now)
        self.end_execution(record)
        self.move(record, ERRED)
        self.report(record.task_id, record.attempt, DONE_ERRED, verdict, seconds, 0, payload, length, now)
        if record.waiters == NULL:
            self.erred_to_released(record)

    cdef void executing_to_ready(self, TaskRecord* record) noexcept nogil:
        """Its result was thrown away, and then it was wanted again: it starts over."""
        self.end_execution(record)
        self.move(record, READY)
        self.ready.push(record)

    cdef void executing_to_released(self, TaskRecord* record) noexcept nogil:
        self.end_execution(record)
        self.move(record, RELEASED)
        self.remove(record)

    cdef void waiting_to_released(self, TaskRecord* record) noexcept nogil:
        self.detach(record)
        self.move(record, RELEASED)
        self.remove(record)

    cdef void ready_to_released(self, TaskRecord* record) noexcept nogil:
        self.ready.withdraw(record)
        self.detach(record)
        self.move(record, RELEASED)
        self.remove(record)

    cdef void memory_to_released(self, TaskRecord* record) noexcept nogil:
        self.dropped.push_back(record.task_id)
        self.move(record, RELEASED)
        self.remove(record)

    cdef void erred_to_released(self, TaskRecord* record) noexcept nogil:
        self.move(record, RELEASED)
        self.remove(record)

    cdef void erred_to_waiting(self, TaskRecord* record) noexcept nogil:
        self.move(record, WAITING)

    # Transitions of inputs

    cdef void released_to_fetch(self, TaskRecord* record) noexcept nogil:
        self.move(record, FETCH)

    cdef void erred_to_fetch(self, TaskRecord* record) noexcept nogil:
        self.move(record, FETCH)

    cdef void fetch_to_in_flight(self, TaskRecord* record) noexcept nogil:
        self.move(record, IN_FLIGHT)

    cdef void in_flight_to_fetch(self, TaskRecord* record) noexcept nogil:
        self.move(record, FETCH)
        self.plan.requeue(record.task_id)

    cdef void fetch_to_waiting(self, TaskRecord* record) noexcept nogil:
        self.plan.drop(record.task_id)
        self.move(record, WAITING)

    cdef void in_flight_to_waiting(self, TaskRecord* record) noexcept nogil:
        self.plan.drop(record.task_id)
        self.move(record, WAITING)

    cdef void fetch_to_released(self, TaskRecord* record) noexcept nogil:
        self.plan.drop(record.task_id)
        self.move(record, RELEASED)
        self.remove(record)

    cdef void in_flight_to_released(self, TaskRecord* record) noexcept nogil:
        self.plan.drop(record.task_id)
        self.move(record, RELEASED)
        self.remove(record)

    cdef void arrived_to_memory(self, TaskRecord* record, uint64_t nbytes, uint32_t type_number) noexcept nogil:
        """From FETCH or IN_FLIGHT: a late answer to an earlier request is as good."""
        self.plan.drop(record.task_id)
        self.move(record, MEMORY)
        record.nbytes = nbytes
        record.type_number = type_number
        self.inputs_landed(record)

    cdef void released_to_memory(self, TaskRecord* record, uint64_t nbytes, uint32_t type_number) noexcept nogil:
        self.move(record, MEMORY)
        record.nbytes = nbytes
        record.type_number = type_number

    cdef void release(self, TaskRecord* record, double now) noexcept nogil:
        """Forget a record in whatever state it is; the caller handles EXECUTING."""
        self.give_back_waiters(record, now)
        if record.state == WAITING:
            self.waiting_to_released(record)
        elif record.state == READY:
            self.ready_to_released(record)
        elif record.state == MEMORY:
            self.memory_to_released(record)
        elif record.state == ERRED:
            self.erred_to_released(record)
        elif record.state == FETCH:
            self.fetch_to_released(record)
        elif record.state == IN_FLIGHT:
            self.in_flight_to_released(record)
