"""What people, and the shell, may read of the scheduler's records.

The core inherits these views; they change nothing. May import: the other modules of this folder, but not the core.
"""

from libc.stdint cimport uint32_t, uint64_t

from fastdist._core.history.log cimport TransitionLog
from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport ClientRecord, Options, WorkerRecord
from fastdist._core.scheduler.records cimport FREE_SLOT, MEMORY, NONE, PROCESSING, SLAB_BITS, SLAB_TASKS, Task
from fastdist._core.scheduler.results cimport n_attempts
from fastdist._core.scheduler.story cimport ids_of, tell_story
from fastdist._core.scheduler.transitions cimport readable_key
from fastdist._core.scheduler.validation cimport check_model

STATE_NAMES = ("released", "waiting", "ready", "no_worker", "processing", "memory", "erred", "scattering")


cdef class CoreViews:
    """The records of the scheduler's core, as Python values."""

    cdef WorkerRecord _worker(self, uint32_t number):
        if number >= <uint32_t>len(self.model.workers):
            raise KeyError(f"there is no worker {number}")
        return self.model.worker(number)

    cdef ClientRecord _client(self, uint32_t number):
        if number >= <uint32_t>len(self.model.clients):
            raise KeyError(f"there is no client {number}")
        return self.model.client(number)

    def restricted_options(self) -> list:
        """(number, described) of the options whose candidates change when workers come and go."""
        return [
            ((<Options>options).number, (<Options>options).described)
            for options in self.model.options
            if options is not None and (<Options>options).restricted
        ]

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
        cdef uint64_t hash = self.model.keys.hash(<const unsigned char*><const char*>key, <uint32_t>len(key))
        cdef uint32_t slot = self.model.keys.find(hash, <const unsigned char*><const char*>key, <uint32_t>len(key))
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
        cdef const unsigned char* key = self.model.payload.key_bytes(task, &length)
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
        cdef const unsigned char* key = self.model.payload.key_bytes(self.model.task(slot), &length)
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
        numbers = [place.worker for place in self.model.load.heap]
        return sorted(numbers, key=lambda number: (self.model.load.ranks[number], number))

    def validate(self) -> None:
        """Check every invariant; AssertionError names the first that does not hold."""
        check_model(self.model, self.queue)
