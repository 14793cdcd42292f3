"""The worker core: frames and events in; tasks to execute, fetches and DONE frames out.

It has one lock, held for C-only work, so that execution threads and the event loop may call it at the same time; a
thread that finds nothing to do sleeps in `wait` without the GIL. Every event takes the time as an argument. Frames are
checked whole before anything changes. May import: `_core` and `fastdist.errors`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from libcpp.string cimport string
from libcpp.vector cimport vector

from fastdist._core.codec.frames cimport (
    DONE_FINISHED, DONE_MISSING, DONE_REPLICA, DONE_RESCHEDULE, DONE_RETRACT_REFUSED, DONE_RETRACTED, DONE_STARTED,
    ColumnReader,
)
from fastdist._core.worker.fetch cimport UNREACHED_VERDICT, Want, contains
from fastdist._core.worker.frames cimport FREE_COLUMNS, RUN_COLUMNS, RunColumns, read_pieces, read_run
from fastdist._core.worker.model cimport (
    ERRED, EXECUTING, FETCH, IN_FLIGHT, MEMORY, READY, RELEASED, WAITING, Edge, arguments_of, edges_of, padded,
)
from fastdist._core.worker.ready cimport Need

from fastdist.errors import FrameError


@cython.final
cdef class WorkerCore(WorkerModel):
    """The tasks and data of one worker, without threads, sockets or clock.

    Parameters
    ----------
    epoch : int
        The scheduler epoch in which the task ids mean something; frames of another epoch are refused.
    number : int
        The number that the scheduler gave to this worker.
    slots : int
        How many tasks may execute at the same time.
    resources : dict, optional
        Name and amount of each resource of this worker.
    read_option : callable, optional
        Turns the bytes of an option into the resources that it asks for; called without the lock.
    max_peers, max_bytes : int
        How many workers are asked for inputs at once, and for how many bytes at a time.
    story : int
        How many transitions are remembered, a power of two: 32 bytes each.
    """

    def __init__(self, uint64_t epoch, uint32_t number, *, uint32_t slots=1, dict resources=None, read_option=None,
                 uint32_t max_peers=10, uint64_t max_bytes=50 << 20, uint64_t story=1 << 16):
        if slots == 0:
            raise ValueError("a worker needs at least one slot to execute tasks")
        self.functions = {}
        self.addresses = {}
        self.resource_numbers = {}
        self.read_option = read_option
        self.options = {}
        self.slots = slots
        self.paused = False
        self.stale = 0
        self.add_type(b"object")
        self.set_resources(resources or {})

    # Frames from the scheduler

    def on_run(self, object body, double now) -> None:
        """Take over the tasks of a RUN frame. Raises FrameError, and changes nothing, if the frame is malformed."""
        cdef ColumnReader reader = ColumnReader(body, RUN_COLUMNS)
        cdef RunColumns columns
        cdef int called
        self._check_epoch(reader)
        read_run(reader, &columns)
        self._learn(reader)
        with nogil:
            self.gate.lock()
            self.n_received += 1
            self.story.begin_batch(now)
            self._run(&columns, now)
            called = self._claim()
            self.gate.unlock()
            self.gate.call(called)

    def _check_epoch(self, ColumnReader reader) -> None:
        cdef uint64_t epoch
        memcpy(&epoch, reader.fixed(0, 1, 8), 8)
        if epoch != self.epoch:
            raise FrameError(f"a frame of scheduler epoch {epoch} reached a worker of epoch {self.epoch}")

    cdef int _learn(self, object frame) except -1:
        """Note the new functions, options and addresses of a RUN frame, before any task needs them."""
        cdef ColumnReader reader = frame
        cdef vector[Need] needs
        cdef Need need
        functions = read_pieces(reader, 17)
        options = read_pieces(reader, 20)
        addresses = read_pieces(reader, 23)
        self.functions.update(functions)
        self.addresses.update({number: address.decode() for number, address in addresses.items()})
        self.options.update(options)
        for option, packed in options.items():
            resources = {} if self.read_option is None else self.read_option(packed)
            needs.clear()
            for name in sorted(resources):
                need.first = self._resource_number(name)
                need.second = resources[name]
                needs.push_back(need)
            self._add_option(option, needs)
        return 0

    cdef void _add_option(self, uint32_t option, vector[Need] needs) noexcept nogil:
        self.gate.lock()
        self.ready.add_option(option, needs)
        self.gate.unlock()

    cdef void _run(self, RunColumns* columns, double now) noexcept nogil:
        cdef uint32_t row
        for row in range(columns.rows):
            self._run_row(columns, row, now)

    cdef void _run_row(self, RunColumns* columns, uint32_t row, double now) noexcept nogil:
        cdef uint32_t attempt = columns.attempts[row]
        cdef TaskRecord* record = self.pool.find(columns.task_ids[row])
        if record == NULL:
            record = self.pool.create(columns.task_ids[row])
            self.released_to_waiting(record)
            self._fill(record, columns, row, now)
            return
        if record.state == EXECUTING and attempt >= record.attempt:
            # It runs already; what it brings counts for the newest attempt.
            record.attempt = attempt
            record.forgotten = False
            self.count_given(record)
            if record.away:
                self.report_away(record, now)
            return
        if record.state == MEMORY and attempt >= record.attempt:
            record.attempt = attempt
            self.report(record.task_id, attempt, DONE_FINISHED, record.nbytes, 0, record.type_number, NULL, 0, now)
            return
        if attempt <= record.attempt and record.state != FETCH and record.state != IN_FLIGHT:
            self.stale += attempt < record.attempt
            return
        if record.state == WAITING:
            self.waiting_to_waiting(record)
        elif record.state == READY:
            self.ready_to_waiting(record)
        elif record.state == ERRED:
            self.erred_to_waiting(record)
        elif record.state == FETCH:
            self.fetch_to_waiting(record)
        elif record.state == IN_FLIGHT:
            self.in_flight_to_waiting(record)
        self._fill(record, columns, row, now)

    cdef void _fill(self, TaskRecord* record, RunColumns* columns, uint32_t row, double now) noexcept nogil:
        """Copy one row into a WAITING record, link its inputs, and see whether it is ready."""
        cdef uint32_t first = columns.input_ends[row]
        cdef uint32_t i
        cdef Edge* edges
        cdef bint unnamed = record.payload == NULL
        record.attempt = columns.attempts[row]
        record.function_id = columns.functions[row]
        record.option_id = columns.options[row]
        record.heap = self.ready.heap_number(record.option_id)
        record.priority = columns.priorities[row]
        record.order = columns.orders[row]
        record.flags = columns.flags[row]
        record.forgotten = False
        self.count_given(record)
        record.key_length = columns.key_ends[row + 1] - columns.key_ends[row]
        record.arguments_length = columns.argument_ends[row + 1] - columns.argument_ends[row]
        record.n_inputs = columns.input_ends[row + 1] - first
        free(record.payload)
        record.payload = <uint8_t*>malloc(
            padded(record.key_length) + record.n_inputs * sizeof(Edge) + record.arguments_length + 1
        )
        memcpy(record.payload, columns.keys + columns.key_ends[row], record.key_length)
        if self.listened and unnamed:
            self.note_change(record, RELEASED, WAITING)
        memcpy(arguments_of(record), columns.arguments + columns.argument_ends[row], record.arguments_length)
        edges = edges_of(record)
        for i in range(record.n_inputs):
            edges[i].task_id = columns.inputs[first + i]
            edges[i].dependency = self._input(columns, first + i)
        self.attach(record)
        if record.missing == 0:
            self.waiting_to_ready(record)
            return
        # An input that nobody has is lost at once; the first such loss takes the task away.
        for i in range(record.n_inputs):
            if edges[i].dependency.state == FETCH and not self.plan.obtainable(edges[i].task_id):
                self._lose_input(edges[i].dependency, now)
                return

    cdef TaskRecord* _input(self, RunColumns* columns, uint32_t place) noexcept nogil:
        """The record of one input, fetched from its holders unless it is computed or held here."""
        cdef TaskRecord* record = self.pool.find(columns.inputs[place])
        cdef uint32_t i
        if record == NULL:
            record = self.pool.create(columns.inputs[place])
            self.released_to_fetch(record)
        elif record.state == ERRED and columns.holder_ends[place + 1] > columns.holder_ends[place]:
            self.erred_to_fetch(record)
        elif record.state != FETCH and record.state != IN_FLIGHT:
            return record
        record.nbytes = columns.input_sizes[place]
        self.scratch.clear()
        for i in range(columns.holder_ends[place], columns.holder_ends[place + 1]):
            if columns.holders[i] != self.number:
                self.scratch.push_back(columns.holders[i])
        self.plan.add(record.task_id, record.nbytes, self.scratch.data(), self.scratch.size())
        return record

    cdef void _lose_input(self, TaskRecord* record, double now) noexcept nogil:
        """Nobody is left to be asked for this input: say who failed, and give back the tasks that wait for it."""
        cdef uint32_t peer
        cdef Want* want = &self.plan.wants[record.task_id]
        if want.failed.empty():
            want.failed.push_back(self.number)
        for peer in want.failed:
            self.report(record.task_id, contains(want.unreached, peer), DONE_MISSING, peer, 0, 0, NULL, 0, now)
        self.give_back_waiters(record, now, UNREACHED_VERDICT if want.unreached.size() else 0)
        self.release(record, now)

    def on_free(self, object body, double now) -> list:
        """Apply a FREE frame. Returns the ids of the tasks whose data must leave the store."""
        cdef ColumnReader reader = ColumnReader(body, FREE_COLUMNS)
        cdef const uint64_t* task_ids = <const uint64_t*>reader.fixed(1, reader.n_rows, 8)
        cdef uint64_t n_functions = reader.length_of(3, 4)
        cdef const uint32_t* functions = <const uint32_t*>reader.starts[3]
        cdef uint32_t row
        cdef vector[uint64_t] dropped
        self._check_epoch(reader)
        with nogil:
            self.gate.lock()
            self.n_received += 1
            for row in range(reader.n_rows):
                self._free(task_ids[row], now)
            dropped.swap(self.dropped)
            self._tidy()
            self.gate.unlock()
        for row in range(n_functions):
            self.functions.pop(functions[row], None)
        return dropped

    cdef void _free(self, uint64_t task_id, double now) noexcept nogil:
        cdef TaskRecord* record = self.pool.find(task_id)
        if record == NULL:
            return
        if record.state == EXECUTING:
            if not record.forgotten:
                # Its thread is not free before it ends; that is told, too.
                self.report(task_id, record.attempt, DONE_STARTED, 0, 0, 0, NULL, 0, now)
            record.forgotten = True
            self.count_given(record)
            self.give_back_waiters(record, now)
        else:
            self.release(record, now)

    cdef void _tidy(self) noexcept nogil:
        """Give memory back when nothing is left; entries that point at records go first."""
        if self.pool.live == 0:
            self.ready.sweep()
            self.pool.trim()

    def on_retract(self, object body, double now) -> None:
        """Give back the tasks of a RETRACT frame that have not started; each is answered in the DONE frame."""
        cdef ColumnReader reader = ColumnReader(body, FREE_COLUMNS)
        cdef const uint64_t* task_ids = <const uint64_t*>reader.fixed(1, reader.n_rows, 8)
        cdef const uint32_t* attempts = <const uint32_t*>reader.fixed(2, reader.n_rows, 4)
        cdef uint32_t row
        self._check_epoch(reader)
        with nogil:
            self.gate.lock()
            self.n_received += 1
            for row in range(reader.n_rows):
                self._retract(task_ids[row], attempts[row], now)
            self.gate.unlock()

    cdef void _retract(self, uint64_t task_id, uint32_t attempt, double now) noexcept nogil:
        cdef TaskRecord* record = self.pool.find(task_id)
        cdef uint8_t status = DONE_RETRACTED
        if record != NULL and record.attempt == attempt and (record.state == WAITING or record.state == READY):
            self.report(task_id, attempt, status, 0, 0, 0, NULL, 0, now)
            self.release(record, now)
            return
        if record != NULL and record.state != FETCH and record.state != IN_FLIGHT:
            status = DONE_RETRACT_REFUSED
        self.report(task_id, attempt, status, 0, 0, 0, NULL, 0, now)

    # Fetching

    def next_fetch(self) -> tuple | None:
        """The next request for inputs: (worker number, task ids, bytes), or None while there is nothing to ask."""
        cdef vector[uint64_t] batch
        cdef uint64_t task_id = 0, nbytes = 0, total = 0
        cdef int64_t peer = -1
        cdef TaskRecord* record
        with nogil:
            self.gate.lock()
            while not self.paused and batch.empty():
                peer = self.plan.next_peer()
                if peer < 0:
                    break
                while self.plan.next_of(<uint32_t>peer, &task_id, &nbytes):
                    record = self.pool.find(task_id)
                    if record == NULL or record.state != FETCH:
                        continue
                    if total and total + nbytes > self.plan.max_bytes:
                        self.plan.queues[<uint32_t>peer].push_front(task_id)
                        break
                    self.fetch_to_in_flight(record)
                    batch.push_back(task_id)
                    total += nbytes
            if not batch.empty():
                self.plan.busy.insert(<uint32_t>peer)
            self.gate.unlock()
        return None if batch.empty() else (peer, batch, total)

    def on_fetched(self, uint32_t peer, list asked, dict found, double now) -> None:
        """`found` has (size, type number) of each input that is now in the store; None: the worker was not reached.

        Other holders are asked for what did not come; where there are none, the tasks go back.
        """
        cdef bint reached = found is not None
        cdef vector[uint64_t] landed, lost
        cdef vector[uint64_t] sizes
        cdef vector[uint32_t] types
        cdef TaskRecord* record
        cdef size_t i
        cdef int called
        for task_id, (nbytes, type_number) in (found or {}).items():
            landed.push_back(task_id)
            sizes.push_back(nbytes)
            types.push_back(type_number)
        for task_id in asked:
            if not reached or task_id not in found:
                lost.push_back(task_id)
        with nogil:
            self.gate.lock()
            self.plan.busy.erase(peer)
            for i in range(landed.size()):
                record = self.pool.find(landed[i])
                if record != NULL and (record.state == FETCH or record.state == IN_FLIGHT):
                    self.report(landed[i], 0, DONE_REPLICA, sizes[i], 0, types[i], NULL, 0, now)
                    self.arrived_to_memory(record, sizes[i], types[i])
            for i in range(lost.size()):
                record = self.pool.find(lost[i])
                if record == NULL or (record.state != IN_FLIGHT and record.state != FETCH):
                    continue
                if not self.plan.exclude(lost[i], peer, reached):
                    self._lose_input(record, now)
                elif record.state == IN_FLIGHT:
                    self.in_flight_to_fetch(record)
            called = self._claim()
            self.gate.unlock()
            self.gate.call(called)

    def on_fetch_refused(self, uint64_t task_id, bytes failure, double now) -> None:
        """The data of an input cannot be serialised: the tasks that need it fail with `failure`."""
        cdef TaskRecord* record
        cdef const uint8_t* payload = <const uint8_t*>PyBytes_AS_STRING(failure)
        cdef size_t length = len(failure)
        with nogil:
            self.gate.lock()
            record = self.pool.find(task_id)
            if record != NULL and (record.state == FETCH or record.state == IN_FLIGHT):
                self.fail_waiters(record, payload, length, now)
                self.release(record, now)
            self.gate.unlock()

    def on_put(self, uint64_t task_id, bytes key, uint64_t nbytes, uint32_t type_number, double now) -> bool:
        """Data that somebody put here is in the store. False if this worker computes it or has it already."""
        cdef TaskRecord* record
        cdef uint8_t* payload = <uint8_t*>malloc(len(key) + 1)
        cdef uint32_t length = <uint32_t>len(key)
        cdef bint taken = True
        cdef int called
        memcpy(payload, PyBytes_AS_STRING(key), length)
        with nogil:
            self.gate.lock()
            record = self.pool.find(task_id)
            if record == NULL:
                record = self.pool.create(task_id)
            taken = record.state == RELEASED or record.state == FETCH or record.state == IN_FLIGHT
            if taken:
                free(record.payload)
                record.payload = payload
                record.key_length = length
                record.n_inputs = record.arguments_length = 0
                if record.state == RELEASED:
                    self.released_to_memory(record, nbytes, type_number)
                else:
                    self.arrived_to_memory(record, nbytes, type_number)
                self.report(task_id, 0, DONE_REPLICA, nbytes, 0, type_number, NULL, 0, now)
            called = self._claim()
            self.gate.unlock()
            self.gate.call(called)
        if not taken:
            free(payload)
        return taken

    # Execution

    cdef TaskRecord* _start(self) noexcept nogil:
        return self.ready_to_executing() if self._room() > 0 else NULL

    cdef long _room(self) noexcept nogil:
        """How many slots there are for tasks that start."""
        # A task that waited and is about to go on has its slot already.
        cdef long taken = <long>(self.counts[<int>EXECUTING] - self.away.n_away + self.away.returning.size())
        if self.paused or self.gate.closed or taken >= <long>self.slots:
            return 0
        # A slot that a waiting task gave back is, for now, for tasks that go before it.
        cdef bint all_used = taken + <long>self.away.waiting.size() >= <long>self.slots
        if all_used and not self.ready.startable_before(self.away.floor):
            return 0
        return <long>self.slots - taken

    cdef int _claim(self) noexcept nogil:
        """How many sleeping threads to call, once the lock is open."""
        cdef long room
        if not self.away.returning.empty():
            self.gate.call_returning()
        if (self.gate.idle == 0 and not self.gate.watching) or not self.ready.startable():
            return 0
        room = self._room()
        return self.gate.claim(room if room < <long>self.ready.live else <long>self.ready.live)

    cdef TaskRecord* take(self) noexcept nogil:
        """The next task, or NULL."""
        cdef TaskRecord* record
        self.gate.lock()
        record = self._start()
        self.gate.unlock()
        return record

    cdef TaskRecord* wait(self) noexcept nogil:
        """The next task; sleeps until there is one. NULL when the core has been closed. Never call it with the GIL."""
        cdef TaskRecord* record = NULL
        self.gate.lock()
        while not self.gate.closed:
            record = self._start()
            if record != NULL:
                break
            self.gate.sleep()
        self.gate.unlock()
        return record

    cdef bint finish(self, TaskRecord* record, uint64_t nbytes, uint32_t type_number, float seconds,
                     const uint8_t* payload, size_t length, double now, TaskRecord** following) noexcept nogil:
        """The value is in the store. Starts the next task if asked to.

        False: nobody wants the value any more; the caller takes it out of the store and calls `discard`.
        """
        cdef int called
        self.gate.lock()
        if record.forgotten:
            self.gate.unlock()
            return False
        self.executing_to_memory(record, nbytes, type_number, seconds, payload, length, now)
        if following != NULL:
            following[0] = self._start()
        called = self._claim()
        self.gate.unlock()
        self.gate.call(called)
        return True

    cdef void discard(self, TaskRecord* record, double now) noexcept nogil:
        """The value of a forgotten task is gone; if the task came back in the meantime it starts over."""
        cdef int called
        self.gate.lock()
        if record.forgotten:
            self._leave(record, now)
        else:
            self.executing_to_ready(record)
        called = self._claim()
        self.gate.unlock()
        self.gate.call(called)

    cdef void fail(self, TaskRecord* record, uint64_t verdict, float seconds, const uint8_t* payload, size_t length,
                   double now) noexcept nogil:
        """The task raised; `payload` is the failure, `verdict` what its policy says about another attempt, or 0."""
        cdef int called
        self.gate.lock()
        if record.forgotten:
            self._leave(record, now)
        else:
            self.executing_to_erred(record, verdict, seconds, payload, length, now)
        called = self._claim()
        self.gate.unlock()
        self.gate.call(called)

    cdef void give_up(self, TaskRecord* record, uint8_t status, float seconds, double now) noexcept nogil:
        """The task is placed again: it asked for that (RESCHEDULE), or an input was gone (RETRACTED)."""
        cdef int called
        self.gate.lock()
        if not record.forgotten:
            self.report(record.task_id, record.attempt, status, 0, seconds, 0, NULL, 0, now)
        self._leave(record, now)
        called = self._claim()
        self.gate.unlock()
        self.gate.call(called)

    cdef void _leave(self, TaskRecord* record, double now) noexcept nogil:
        """End an execution without a value. Tasks may have come that wait for it, even after it was forgotten."""
        self.give_back_waiters(record, now)
        if record.forgotten:
            self.report(record.task_id, record.attempt, DONE_RESCHEDULE, 0, 0, 0, NULL, 0, now)
        self.executing_to_released(record)

    cdef size_t done_size(self) noexcept nogil:
        """Bytes of payload in the open DONE frame."""
        return self.done.size(8)

    cdef uint32_t name_type(self, const uint8_t* name, size_t length) noexcept nogil:
        cdef uint32_t number
        cdef string text
        text.assign(<const char*>name, length)
        self.gate.lock()
        number = <uint32_t>self.type_names.size()
        self.type_names.push_back(text)
        self.done.put_piece(9, 10, name, length)
        self.gate.unlock()
        return number

    def add_type(self, bytes name) -> int:
        """The number of a type name that has none yet; number 0 is `object`."""
        return self.name_type(<const uint8_t*>PyBytes_AS_STRING(name), len(name))

    def take_done(self) -> bytes | None:
        """The body of the open DONE frame, and a new frame is opened; None if it has no rows."""
        # Allocating bytes needs the GIL, runs no callback and no collection, so it may happen under the lock.
        self.gate.lock()
        try:
            if self.done.n_rows == 0:
                return None
            body = self.done.finish()
            self.open_frame()
            return body
        finally:
            self.gate.unlock()

    # Settings

    cdef uint32_t _resource_number(self, str name) except? 0:
        number = self.resource_numbers.get(name)
        if number is None:
            self.gate.lock()
            number = self.ready.add_resource()
            self.gate.unlock()
            self.resource_numbers[name] = number
        return number

    def set_resources(self, dict resources) -> None:
        """Set the amount of each named resource."""
        cdef int called
        cdef uint32_t number
        cdef double total
        for name, amount in resources.items():
            number = self._resource_number(name)
            total = amount
            self.gate.lock()
            self.ready.set_total(number, total)
            called = self._claim()
            self.gate.unlock()
            self.gate.call(called)

    def set_slots(self, uint32_t slots) -> None:
        """Set how many tasks may execute at the same time."""
        cdef int called
        self.gate.lock()
        self.slots = slots
        called = self._claim()
        self.gate.unlock()
        self.gate.call(called)

    def on_paused(self) -> None:
        """Start no task and no fetch until `on_resumed`."""
        self.gate.lock()
        self.paused = True
        self.gate.unlock()

    def on_resumed(self) -> None:
        """Go on after `on_paused`."""
        cdef int called
        self.gate.lock()
        self.paused = False
        called = self._claim()
        self.gate.unlock()
        self.gate.call(called)

    def close(self) -> None:
        """Start nothing any more and wake all threads, which then end."""
        self.gate.lock()
        self.gate.close()
        self.gate.unlock()
