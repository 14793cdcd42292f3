"""The scheduler core: events in, commands out.

`on_<event>` methods apply what happened; `act` places what can run and returns everything that must be sent. There is
no clock, socket, log or random number here: time comes in as `now`, seeds at construction, and the same events give
the same commands. May import: the other modules of this folder.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from fastdist._core.codec.frames cimport STATE
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
from fastdist._core.scheduler.declaring cimport agrees, note_given, part, take_declared, try_unreachable
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
from fastdist._core.scheduler.orders cimport worker_frames
from fastdist._core.scheduler.parties cimport ClientRecord, Options, WorkerRecord
from fastdist._core.scheduler.placement cimport place
from fastdist._core.scheduler.queue cimport ReadyQueue
from fastdist._core.scheduler.replicas cimport drop_copies, keep_copies, reduce_copies
from fastdist._core.scheduler.reporting cimport end_state_frame, report_everything
from fastdist._core.scheduler.results cimport take_done
from fastdist._core.scheduler.stealing cimport balance
from fastdist._core.scheduler.transitions cimport release_unneeded
from fastdist._core.scheduler.views cimport CoreViews

TO_WORKER = 0
TO_CLIENT = 1

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
cdef class SchedulerCore(CoreViews):
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

    cdef readonly DeathNotes deaths
    cdef double report_grace
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

    def on_worker_away(self, uint32_t worker) -> None:
        """The connection of a worker broke, but it may come back: it keeps its tasks and its data, and gets nothing."""
        self._record("on_worker_away", (worker,))
        part(self.model, self.queue, self._worker(worker))

    def on_asked(self, uint32_t worker) -> None:
        """A worker is asked, after all that was sent to it, to declare what it has."""
        self._record("on_asked", (worker,))
        note_given(self.model, self._worker(worker))

    def on_declared(self, uint32_t worker, object body, bint fresh, bint by_key) -> bytes | None:
        """What a worker has. What it and this core do not agree on is healed.

        Parameters
        ----------
        worker : int
        body : bytes
            Of the declaration (docs/wire.md).
        fresh : bool
            It is the first over a new connection: a worker that was away is back. Otherwise `on_asked` came before.
        by_key : bool
            Its task ids mean nothing here: the tasks are found by key, and the answer has their ids and attempts.
        """
        cdef WorkerRecord record = self._worker(worker)
        self._record("on_declared", (worker, body, fresh, by_key))
        if not record.alive:
            raise KeyError(f"worker {worker} is lost")
        answer = take_declared(self.model, record, body, fresh, by_key)
        release_unneeded(self.model)
        return answer

    def agrees(self, uint32_t worker, uint64_t held, uint64_t given, uint64_t n_received) -> bool | None:
        """Whether a worker that received so many frames keeps the same digests; None if something is on its way."""
        return agrees(self._worker(worker), held, given, n_received)

    def on_worker_lost(self, uint32_t worker, bint blamed, str how, now: float | None = None) -> None:
        """A worker is gone.

        With `blamed`, the tasks that it was most likely executing are blamed at once. One with a nanny is lost with
        `blamed=False`, and `on_death_report` follows; with `now`, what it was given waits for that, for a short while.
        """
        cdef WorkerRecord record = self._worker(worker)
        self._record("on_worker_lost", (worker, blamed, how, now))
        executing = presumed_executing(self.model, record) if blamed and record.alive else []
        given = self.deaths.given(self.model, record)
        if record.away:
            record.away = False
            self.model.n_away -= 1
        lose_worker(self.model, self.queue, record)
        try_unreachable(self.model)
        if now is not None:
            self.deaths.hold(self.model, record, given, <double>now + self.report_grace)
        self.deaths.blame(self.model, record.address, executing, how, {})
        release_unneeded(self.model)

    def presumed_executing(self, uint32_t worker) -> list:
        """(task id, attempt) of what a worker most likely executes now; for one whose nanny cannot tell."""
        cdef WorkerRecord record = self._worker(worker)
        return presumed_executing(self.model, record) if record.alive else []

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
        cdef ClientRecord owner
        self._record("on_retry", (keys, client, ids))
        slots = [self._slot_of_key(key) for key in keys]
        if ids:
            owner = self._client(client)
            # Another client may have cancelled the key for all and made it anew: that is not this client's task.
            slots = [slot if slot is not None and owner.slot_of(id) == slot else None for id, slot in zip(ids, slots)]
            retry_unknown(self.model, owner, [id for id, slot in zip(ids, slots) if slot is None])
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
            if worker.alive and not worker.away:
                worker_frames(model, worker, commands)
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
