"""The scheduler core: events in, commands out.

`on_<event>` methods apply what happened; `act` places what can run and returns everything that must be sent. There is
no clock, socket, log or random number here: time comes in as `now`, seeds at construction, and the same events give
the same commands. May import: the other modules of this folder.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdist._core.codec.frames cimport FREE, RETRACT, RUN, STATE
from fastdist._core.history.log cimport TransitionLog
from fastdist._core.scheduler.control cimport (
    begin_scatter,
    cancel,
    cancel_everything,
    fail_scatter,
    retry,
    retry_unknown,
    want_existing,
)
from fastdist._core.scheduler.deaths cimport DeathNotes, presumed_executing
from fastdist._core.scheduler.intake cimport release_ids, take_release, take_tasks
from fastdist._core.scheduler.membership cimport (
    add_client,
    add_worker,
    lose_client,
    lose_worker,
    set_running,
    try_due,
    try_unplaced,
)
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord, Options, WorkerRecord
from fastdist._core.scheduler.placement cimport place
from fastdist._core.scheduler.queue cimport ReadyQueue
from fastdist._core.scheduler.records cimport (
    FREE_SLOT, MEMORY, NONE, PROCESSING, SLAB_BITS, SLAB_TASKS, Task,
)
from fastdist._core.scheduler.replicas cimport drop_copies, keep_copies, reduce_copies
from fastdist._core.scheduler.reporting cimport end_state_frame, report_everything
from fastdist._core.scheduler.results cimport n_attempts, take_done
from fastdist._core.scheduler.stealing cimport balance
from fastdist._core.scheduler.story cimport ids_of, tell_story
from fastdist._core.scheduler.transitions cimport readable_key, release_unneeded
from fastdist._core.scheduler.validation cimport check_model

TO_WORKER = 0
TO_CLIENT = 1

STATE_NAMES = ("released", "waiting", "ready", "no_worker", "processing", "memory", "erred", "scattering")

DEFAULT_SETTINGS = {
    "unknown_duration": 0.5,
    "prefill": 0.005,
    "saturation": 1.1,
    "bulky_bytes": 65536,
    "allowed_failures": 3,
    "client_grace": 30.0,
    "report_grace": 0.3,
    "bandwidth": 1e8,
    "latency": 0.005,
}


@cython.final
cdef class SchedulerCore:
    """Everything the scheduler decides.

    Parameters
    ----------
    epoch : int
        A number that no other life of this scheduler has.
    seeds : tuple of two int
        For the hash table of keys; random in production, fixed in tests.
    settings : dict, optional
        Overrides of `DEFAULT_SETTINGS`.

    Notes
    -----
    Set `recorder` to a callable to get each event, and each `act`, as `(name, arguments)` before it is applied; feeding
    the same calls to a new core with the same epoch, seeds and settings repeats every decision.

    Examples
    --------
    >>> core = SchedulerCore(1, (2, 3))
    >>> core.on_worker("tcp://127.0.0.1:1", 2, False, {})
    0
    """

    cdef readonly Model model
    cdef readonly DeathNotes deaths
    cdef double report_grace
    cdef readonly ReadyQueue queue
    cdef public object recorder
    cdef dict lost_clients             # client number -> time at which it is given up

    def __cinit__(self, epoch: int, seeds: tuple, settings: dict | None = None):
        cdef dict merged = dict(DEFAULT_SETTINGS)
        unknown = set(settings or ()) - set(merged)
        if unknown:
            raise ValueError(f"unknown settings of the scheduler core: {sorted(unknown)}")
        merged.update(settings or {})
        self.model = Model(epoch, seeds, merged)
        self.queue = ReadyQueue(self.model)
        self.deaths = DeathNotes()
        self.report_grace = merged["report_grace"]
        self.lost_clients = {}

    cdef int _record(self, str name, tuple arguments) except -1:
        if self.recorder is not None:
            self.recorder((name, tuple(bytes(item) if isinstance(item, memoryview) else item for item in arguments)))
        return 0

    cdef WorkerRecord _worker(self, uint32_t number):
        if number >= <uint32_t>len(self.model.workers):
            raise KeyError(f"there is no worker {number}")
        return self.model.worker(number)

    cdef ClientRecord _client(self, uint32_t number):
        if number >= <uint32_t>len(self.model.clients):
            raise KeyError(f"there is no client {number}")
        return self.model.client(number)

    # -- events ----------------------------------------------------------------------------------------------------

    def on_client(self, str name) -> int:
        """A client registered; returns its number."""
        self._record("on_client", (name,))
        return add_client(self.model, name).number

    def on_client_closed(self, uint32_t client) -> None:
        """A client said goodbye: its futures are released at once."""
        self._record("on_client_closed", (client,))
        self._give_up(client)

    cdef int _give_up(self, uint32_t client) except -1:
        self.lost_clients.pop(client, None)
        lose_client(self.model, self._client(client))
        release_unneeded(self.model)
        return 0

    def on_client_lost(self, uint32_t client, double now) -> None:
        """A client's connection broke: its futures are released after the grace time, unless it comes back."""
        self._record("on_client_lost", (client, now))
        if self._client(client).alive:
            self.lost_clients[client] = now + self.model.client_grace

    def on_client_back(self, uint32_t client) -> bool:
        """A client whose connection broke is here again: it is told what it may have missed.

        False if it was given up meanwhile, or never lost.
        """
        self._record("on_client_back", (client,))
        cdef ClientRecord record = self._client(client)
        if self.lost_clients.pop(client, None) is None or not record.alive:
            return False
        # What was written for it and never sent is in what follows.
        record.inline_allowed = True
        report_everything(self.model, record)
        return True

    def on_options(self, double priority, uint32_t retries, bint restricted, bint loose, dict needs, bytes for_worker,
                   object described) -> int:
        """Options that tasks of the next frame refer to; returns their number. Unused ones go with that frame."""
        cdef list pairs = []
        cdef uint32_t number
        self._record("on_options", (priority, retries, restricted, loose, needs, for_worker, described))
        for name, amount in needs.items():
            pairs.append((self.model.resource_numbers.setdefault(name, len(self.model.resource_numbers)), amount))
        for worker in self.model.workers:
            while (<WorkerRecord>worker).supply.size() < <size_t>len(self.model.resource_numbers):
                (<WorkerRecord>worker).supply.push_back(0.0)
                (<WorkerRecord>worker).used.push_back(0.0)
        if self.model.free_options.empty():
            number = <uint32_t>len(self.model.options)
            self.model.options.append(None)
        else:
            number = self.model.free_options.back()
            self.model.free_options.pop_back()
        self.model.options[number] = Options(number, priority, retries, restricted, loose, pairs, for_worker, described)
        return number

    def on_candidates(self, uint32_t options, list workers) -> None:
        """The workers (by number) that tasks with these options may run on."""
        cdef Options record
        self._record("on_candidates", (options, workers))
        record = self.model.options[options]
        if record is None:
            raise KeyError(f"there are no options {options}")
        record.candidates.clear()
        for number in workers:
            record.candidates.push_back(number)
        try_unplaced(self.model)

    def restricted_options(self) -> list:
        """(number, described) of the options whose candidates change when workers come and go."""
        return [
            ((<Options>options).number, (<Options>options).described)
            for options in self.model.options
            if options is not None and (<Options>options).restricted
        ]

    def on_tasks(self, uint32_t client, object body, list options, double now) -> None:
        """A TASKS frame; `options` are the numbers that `on_options` gave to the maps in its last column."""
        self._record("on_tasks", (client, body, options, now))
        cdef ClientRecord record = self._client(client)
        cdef Options unused
        try:
            if record.alive:
                take_tasks(self.model, self.queue, record, body, options, now)
        finally:
            for number in options:
                unused = self.model.options[number]
                if unused is not None and unused.n_tasks == 0:
                    self.model.options[number] = None
                    self.model.free_options.push_back(number)
            release_unneeded(self.model)

    def on_release(self, uint32_t client, object body) -> None:
        """A RELEASE frame."""
        self._record("on_release", (client, body))
        take_release(self.model, self._client(client), body)
        release_unneeded(self.model)

    def on_worker(self, str address, uint32_t nthreads, bint has_nanny, dict resources) -> int:
        """A worker registered; returns its number, which is never used again."""
        self._record("on_worker", (address, nthreads, has_nanny, resources))
        if nthreads == 0:
            raise ValueError(f"the worker at {address} has no threads")
        return add_worker(self.model, address, nthreads, has_nanny, resources).number

    def on_worker_status(self, uint32_t worker, bint running) -> None:
        """A worker paused or resumed."""
        self._record("on_worker_status", (worker, running))
        set_running(self.model, self.queue, self._worker(worker), running)

    def on_worker_lost(self, uint32_t worker, bint blamed, str how, now: float | None = None) -> None:
        """A worker is gone.

        With `blamed`, the tasks that it was most likely executing are blamed at once. One with a nanny is lost with
        `blamed=False`, and `on_death_report` follows; with `now`, what it was given waits for that, for a short while.
        """
        cdef WorkerRecord record = self._worker(worker)
        self._record("on_worker_lost", (worker, blamed, how, now))
        executing = presumed_executing(self.model, record) if blamed and record.alive else []
        given = self.deaths.given(self.model, record)
        lose_worker(self.model, self.queue, record)
        if now is not None:
            self.deaths.hold(self.model, record, given, <double>now + self.report_grace)
        self.deaths.blame(self.model, record.address, executing, how, {})
        release_unneeded(self.model)

    def on_death_report(self, str address, list executing, str how, dict details=None) -> None:
        """A nanny says which (task id, attempt) its worker was executing when it died, how, and more for users."""
        self._record("on_death_report", (address, executing, how, details))
        self.deaths.blame(self.model, address, executing, how, details or {})
        self.deaths.let_go(self.model, address)
        release_unneeded(self.model)

    def on_done(self, uint32_t worker, object body, double now=0.0) -> None:
        """A DONE frame; waits of tasks that are tried again begin `now`."""
        cdef WorkerRecord record = self._worker(worker)
        self._record("on_done", (worker, body, now))
        self.model.retries.now = now
        if record.alive:
            take_done(self.model, record, body)
            release_unneeded(self.model)

    def on_cancel(self, uint32_t client, list keys, bint force, bytes payload) -> int:
        """Cancel tasks by canonical key; returns how many of the keys exist."""
        self._record("on_cancel", (client, keys, force, payload))
        slots = [slot for slot in map(self._slot_of_key, keys) if slot is not None]
        cancel(self.model, self._client(client), slots, force, payload)
        release_unneeded(self.model)
        return len(slots)

    def on_retry(self, list keys, uint32_t client=0, list ids=None) -> None:
        """Try failed tasks again, by canonical key; the client that asks, if any, knows them by `ids`."""
        self._record("on_retry", (keys, client, ids))
        slots = [self._slot_of_key(key) for key in keys]
        if ids:
            retry_unknown(self.model, self._client(client), [id for id, slot in zip(ids, slots) if slot is None])
        retry(self.model, [slot for slot in slots if slot is not None])
        release_unneeded(self.model)

    def on_restart(self, bytes payload) -> None:
        """Everything is cancelled, for everybody; the payload tells why."""
        self._record("on_restart", (payload,))
        cancel_everything(self.model, payload)
        release_unneeded(self.model)

    def on_scatter_failed(self, list ids, bytes payload) -> None:
        """Announced data (by task id) does not come; what has come already stays."""
        self._record("on_scatter_failed", (ids, payload))
        fail_scatter(self.model, ids, payload)
        release_unneeded(self.model)

    def on_kept(self, list ids, uint32_t count) -> None:
        """The user wants so many copies of these tasks kept."""
        self._record("on_kept", (ids, count))
        keep_copies(self.model, ids, count)

    def on_drop_copies(self, uint32_t worker, list ids) -> int:
        """Have a worker drop its copies of these tasks, where it is safe; returns how many."""
        self._record("on_drop_copies", (worker, ids))
        return drop_copies(self.model, self._worker(worker), ids)

    def on_reduce_copies(self) -> int:
        """Have workers drop the copies that nobody needs; returns how many."""
        self._record("on_reduce_copies", ())
        return reduce_copies(self.model)

    def on_scatter(self, uint32_t client, uint64_t first_id, list keys) -> list:
        """Announce data that a client will put on workers; returns (task id, already in memory) for each key."""
        self._record("on_scatter", (client, first_id, keys))
        if not self._client(client).alive:
            raise KeyError(f"client {client} is closed")
        return begin_scatter(self.model, self._client(client), first_id, keys)

    def on_want(self, uint32_t client, list keys) -> list:
        """A client wants tasks that exist, by canonical key; its id for each of them, 0 where there is no such task.

        For clients that live in the scheduler itself (datasets, queues): their ids are given here.
        """
        self._record("on_want", (client, keys))
        if not self._client(client).alive:
            raise KeyError(f"client {client} is closed")
        answer = want_existing(self.model, self._client(client), keys)
        release_unneeded(self.model)
        return answer

    def on_release_ids(self, uint32_t client, list ids) -> None:
        """As a RELEASE frame, from a list."""
        self._record("on_release_ids", (client, ids))
        release_ids(self.model, self._client(client), ids)
        release_unneeded(self.model)

    def on_inline_allowed(self, uint32_t client, bint allowed) -> None:
        """Whether small results may travel inside STATE frames to this client (not while its queue is long)."""
        self._record("on_inline_allowed", (client, allowed))
        self._client(client).inline_allowed = allowed

    def on_tick(self, double now) -> list:
        """Something is due; returns the numbers of clients that were given up."""
        self._record("on_tick", (now,))
        given_up = [client for client, due in self.lost_clients.items() if due <= now]
        for client in given_up:
            self._give_up(client)
        try_due(self.model, now)
        return given_up

    def next_deadline(self) -> float | None:
        """When `on_tick` wants to be called, or None."""
        cdef double due = self.model.retries.next_due()
        return min([*self.lost_clients.values(), *([due] if due >= 0 else [])], default=None)

    # -- commands --------------------------------------------------------------------------------------------------

    def act(self, double now=0.0) -> list:
        """Place what can run, then return what must be sent: (TO_WORKER or TO_CLIENT, number, frame kind, body).

        `now` is the time of this batch of events in stories; nothing is decided by it.
        """
        cdef list commands = []
        cdef Model model = self.model
        cdef WorkerRecord worker
        cdef ClientRecord client
        cdef size_t i
        self._record("act", ())
        for i in range(model.dirty_workers.size()):
            model.load.update(model.worker(model.dirty_workers[i]))
        place(model, self.queue)
        balance(model)
        for i in range(model.dirty_workers.size()):
            worker = model.worker(model.dirty_workers[i])
            worker.dirty = False
            if worker.alive:
                self._worker_frames(worker, commands)
        model.dirty_workers.clear()
        for i in range(model.dirty_clients.size()):
            client = model.client(model.dirty_clients[i])
            if client.state.n_rows:
                end_state_frame(client)
            for body in client.early:
                commands.append((TO_CLIENT, client.number, <int>STATE, body))
            client.early = []
        model.dirty_clients.clear()
        model.forget_scratch()
        model.story.end_batch(now)
        return commands

    cdef int _worker_frames(self, WorkerRecord worker, list commands) except -1:
        # FREE first: a slot that is freed and used again in one batch must be free at the worker before it runs there.
        if worker.free.size(0):
            commands.append((TO_WORKER, worker.number, <int>FREE, worker.free.finish()))
        for body in worker.early:
            commands.append((TO_WORKER, worker.number, <int>RUN, body))
        worker.early = []
        if worker.run.n_rows:
            commands.append((TO_WORKER, worker.number, <int>RUN, worker.run.finish()))
        # RETRACT last: what is asked back may have been given in this very batch.
        if worker.retract.n_rows:
            commands.append((TO_WORKER, worker.number, <int>RETRACT, worker.retract.finish()))
        return 0

    # -- what happened ---------------------------------------------------------------------------------------------

    def listen(self, bint on) -> None:
        """Start or stop to write every transition down for `take_transitions`."""
        self.model.listened = on
        if not on:
            self.model.history = TransitionLog()

    def take_transitions(self) -> tuple:
        """What happened since the last call while `listen` was on, in order, and how much more found no room.

        Each is (key, start, finish, number of the worker or None, bytes, name of the type, seconds of execution); the
        last three mean something for a task that came into memory.
        """
        cdef Model model = self.model
        cdef TransitionLog history = model.history
        cdef list answer = [
            (
                key, STATE_NAMES[start], "forgotten" if finish == FREE_SLOT else STATE_NAMES[finish],
                None if worker == <uint32_t>NONE else worker, nbytes, self._type_name(type), seconds,
            )
            for key, start, finish, worker, nbytes, type, seconds in history.rows()
        ]
        if answer:
            model.history = TransitionLog()
        return answer, history.lost

    cdef str _type_name(self, uint32_t number):
        cdef bytes name = self.model.type_names[number]
        return name.decode(errors="replace")

    # -- stories ---------------------------------------------------------------------------------------------------

    def story(self, keys: list | None, batches: list) -> list:
        """What happened to tasks, as far as it is remembered, oldest first.

        Each is (canonical key, start, finish, {}, name of the batch, time of the batch).

        Parameters
        ----------
        keys : list of bytes or None
            Canonical keys; None for all tasks that still exist.
        batches : list of str
            Names of batches: what happened in them to tasks that still exist.
        """
        return tell_story(self.model, keys, batches)

    def story_ids(self, keys: list) -> list:
        """(canonical key, task id) of the tasks that have, or had as far as it is remembered, these keys."""
        return ids_of(self.model, keys)

    # -- views -----------------------------------------------------------------------------------------------------

    def _slot_of_key(self, bytes key):
        cdef uint64_t hash = self.model.keys.hash(<const uint8_t*><const char*>key, <uint32_t>len(key))
        cdef uint32_t slot = self.model.keys.find(hash, <const uint8_t*><const char*>key, <uint32_t>len(key))
        return None if slot == NONE else slot

    def n_tasks(self) -> int:
        """How many tasks are known."""
        return self.model.n_tasks

    def n_processing(self) -> int:
        """How many tasks are on workers and not finished."""
        return self.model.n_in_state[PROCESSING]

    def counts(self) -> dict:
        """Tasks by state, and counters."""
        answer = {STATE_NAMES[i]: self.model.n_in_state[i] for i in range(len(STATE_NAMES))}
        answer["stale_results"] = self.model.stale_results
        answer["transitions"] = self.model.n_transitions
        answer["queued"] = self.queue.size
        answer["prefixes"] = self.model.prefix_index.size()
        return answer

    def worker_view(self, uint32_t number) -> dict:
        """Load figures of a worker."""
        cdef WorkerRecord worker = self._worker(number)
        return {
            "address": worker.address,
            "nthreads": worker.nthreads,
            "running": bool(worker.running),
            "processing": worker.n_processing,
            "ahead": worker.n_ahead,
            "occupancy": worker.occupancy * 1e-9,
            "nbytes": worker.nbytes,
            "held": worker.n_held,
        }

    def task_view(self, bytes key) -> dict | None:
        """What is known of the task with this canonical key, or None."""
        slot = self._slot_of_key(key)
        return None if slot is None else self._view(slot)

    def _view(self, uint32_t slot) -> dict:
        cdef Task* task = self.model.task(slot)
        cdef uint32_t length, i
        cdef const uint8_t* key = self.model.payload.key_bytes(task, &length)
        cdef bytes type_name = self.model.type_names[task.type]
        cdef double due = self.model.retries.due(self.model.id_of(slot))
        dependencies = []
        for i in range(task.n_dependencies):
            dependencies.append(self._key_of(self.model.dependencies_of(task)[i]))
        return {
            "id": self.model.id_of(slot),
            "key": readable_key(key, length),
            "state": STATE_NAMES[task.state],
            "attempt": task.attempt,
            "dependencies": dependencies,
            "waiting_on": task.waiting_on,
            "waiters": task.n_waiters,
            "dependents": task.n_dependents,
            "wanted": task.want_client != NONE,
            "who_has": self._holders(task),
            "processing_on": None if task.worker == NONE else self.model.worker(task.worker).address,
            "nbytes": task.nbytes if task.state == MEMORY else 0,
            "type": type_name.decode(errors="replace"),
            "kept": task.kept,
            "retries": task.retries,
            "attempts": n_attempts(self.model, task),
            "retry_at": due if due >= 0 else None,
            "suspicious": task.suspicious,
            "flags": task.flags,
            "has_work": task.function != NONE,
        }

    cdef list _holders(self, Task* task):
        cdef list answer = []
        cdef uint32_t number
        if task.holder != NONE:
            answer.append(self.model.worker(task.holder).address)
            number = task.more_holders
            while number != NONE:
                answer.append(self.model.worker(self.model.holders[number].worker).address)
                number = self.model.holders[number].next
        return answer

    def _key_of(self, uint32_t slot):
        cdef uint32_t length
        cdef const uint8_t* key = self.model.payload.key_bytes(self.model.task(slot), &length)
        return readable_key(key, length)

    def key_of_id(self, uint64_t id):
        """The key of a task id, or None if the task is gone."""
        return None if self.model.find(id) == NULL else self._key_of(<uint32_t>id)

    def who_has(self, uint32_t client, list ids) -> list:
        """For each client id: (task id, size, addresses that hold it), or None if the client does not want it."""
        cdef ClientRecord record = self._client(client)
        cdef list answer = []
        cdef uint32_t slot
        for id in ids:
            slot = record.slot_of(id)
            if slot == NONE:
                answer.append(None)
            else:
                task = self.model.task(slot)
                answer.append((self.model.id_of(slot), task.nbytes if task.state == MEMORY else 0, self._holders(task)))
        return answer

    def tasks(self) -> list:
        """A view of every task; for tests and dumps, it costs as much as there are tasks."""
        cdef list answer = []
        cdef uint32_t number, i
        for number in range(<uint32_t>self.model.slabs.size()):
            if self.model.slabs[number].tasks != NULL:
                for i in range(SLAB_TASKS):
                    if self.model.slabs[number].tasks[i].state != FREE_SLOT:
                        answer.append(self._view((number << SLAB_BITS) | i))
        return answer

    def has_what(self, uint32_t worker) -> list:
        """The keys that a worker holds; it costs as much as there are tasks."""
        address = self._worker(worker).address
        return [view["key"] for view in self.tasks() if address in view["who_has"]]

    def processing(self, uint32_t worker) -> list:
        """The keys that a worker was given and has not finished, oldest first."""
        cdef uint32_t slot = self._worker(worker).first
        cdef list answer = []
        while slot != NONE:
            answer.append(self._key_of(slot))
            slot = self.model.task(slot).next
        return answer

    def least_loaded(self) -> list:
        """Numbers of the running workers, those with the least work first."""
        numbers = [number for number in self.model.load.heap]
        return sorted(numbers, key=lambda number: (self.model.load.ranks[number], number))

    def validate(self) -> None:
        """Check every invariant; AssertionError names the first that does not hold."""
        check_model(self.model, self.queue)
