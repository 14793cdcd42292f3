"""Workers that died: which tasks were executing there, and what their nannies said.

A task is blamed once for each attempt, however often its death is told. What a worker with a nanny was given waits
until the nanny has told which of it was executing, or for a short while: the culprit must not be started again before
it is known. May import: the scheduler's model, transitions and reasons.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from fastdist._core.scheduler.model cimport Model
from fastdist._core.scheduler.parties cimport WorkerRecord
from fastdist._core.scheduler.records cimport AHEAD, NONE, NO_WORKER, PROCESSING, READY, STARTED, WAITING, WAITS, Task
from fastdist._core.scheduler.transitions cimport any_to_erred, readable_key

from fastdist._core.scheduler.reasons import Reason, reason_payload

cdef enum:
    MAX_NOTED = 10_000         # tasks of which the deaths are kept; of more, only their number is


@cython.final
cdef class DeathNotes:
    """What is known of the deaths that tasks are blamed for, and which tasks wait for the word of a nanny."""

    def __cinit__(self):
        self.by_task = {}
        self.held = {}

    def of(self, uint64_t id) -> list:
        """What is known of the deaths that a task is blamed for, oldest first."""
        return list(self.by_task.get(id, ()))

    def waits(self, uint64_t id) -> str | None:
        """The address of the lost worker of which the nanny has to tell before the task is tried again, or None."""
        for address, (until, ids) in self.held.items():
            if id in ids:
                return address
        return None

    cdef list given(self, Model model, WorkerRecord worker):
        """Ids of what a worker has and has not finished."""
        cdef uint32_t slot = worker.first
        cdef list answer = []
        while slot != NONE:
            answer.append(model.id_of(slot))
            slot = model.task(slot).next
        return answer

    cdef int hold(self, Model model, WorkerRecord worker, list ids, double until) except -1:
        """Let what could be placed again at once wait until then, or until `let_go`."""
        cdef Task* task
        cdef set held = set()
        cdef size_t i, kept = 0
        self.prune(model)
        for id in ids:
            task = model.find(<uint64_t>id)
            if task != NULL and task.state == READY:
                model.set_state(task, NO_WORKER)
                model.retries.hold(<uint64_t>id, until)
                held.add(id)
        for i in range(model.became_ready.size()):
            if model.became_ready[i] not in held:
                model.became_ready[kept] = model.became_ready[i]
                kept += 1
        model.became_ready.resize(kept)
        if held:
            self.held[worker.address] = (until, held)
        return 0

    cdef int let_go(self, Model model, str address) except -1:
        """The nanny has told: what waited for it can be placed."""
        cdef Task* task
        entry = self.held.pop(address, None)
        if entry is None:
            return 0
        for id in sorted(entry[1]):
            task = model.find(<uint64_t>id)
            if task != NULL and task.state == NO_WORKER and model.retries.due(<uint64_t>id) == entry[0]:
                model.retries.end_wait(<uint64_t>id)
                model.set_state(task, READY)
                model.became_ready.push_back(<uint64_t>id)
        return 0

    cdef int blame(self, Model model, str address, list executing, str how, dict details) except -1:
        """Count a death against the tasks that were executing; too many, and the task has failed."""
        cdef Task* task
        cdef list deaths
        self.prune(model)
        for id, attempt in executing:
            task = model.find(<uint64_t>id)
            if (
                task == NULL or task.state not in (WAITING, READY, NO_WORKER, PROCESSING)
                or attempt > task.attempt
            ):
                continue
            deaths = self.by_task.setdefault(id, [])
            if any([death["attempt"] == attempt for death in deaths]):
                continue
            deaths.append({**details, "worker": address, "how": how, "attempt": attempt})
            if len(self.by_task) > MAX_NOTED:
                self.by_task.pop(next(iter(self.by_task)))
            task.suspicious += 1
            if task.suspicious > model.allowed_failures:
                self.give_up(model, <uint64_t>id, address, how)
        return 0

    cdef int give_up(self, Model model, uint64_t id, str address, str how) except -1:
        """Processes died with the task too often: it has failed."""
        cdef Task* task = model.find(id)
        cdef uint32_t length
        cdef const unsigned char* key = model.payload.key_bytes(task, &length)
        text = str(readable_key(key, length))
        payload = reason_payload(
            Reason.KILLED_WORKER,
            f"task {text!r} was executing on {task.suspicious} workers that died, the last one at {address} ({how}); "
            "it is not tried again",
            key=text,
            worker=address,
            attempts=int(task.suspicious),
            allowed_failures=int(model.allowed_failures),
            deaths=self.by_task.pop(id, []),
        )
        return any_to_erred(model, <uint32_t>id, payload, <uint32_t>len(payload))

    cdef int prune(self, Model model) except -1:
        """Forget what is known of tasks that are gone, or were tried again by hand."""
        cdef Task* task
        for id in list(self.by_task):
            task = model.find(<uint64_t>id)
            if task == NULL or task.suspicious == 0:
                del self.by_task[id]
        for address, (until, ids) in list(self.held.items()):
            if not any([model.retries.due(<uint64_t>id) == until for id in ids]):
                del self.held[address]
        return 0


cdef list presumed_executing(Model model, WorkerRecord worker):
    """(task id, attempt) of what a worker without a nanny was most likely executing.

    Those that it reported as started, then those that it starts first of the tasks whose inputs were all there, up to
    its threads.
    """
    cdef list candidates = []
    cdef uint32_t slot = worker.first
    cdef Task* task
    cdef double priority
    while slot != NONE:
        task = model.task(slot)
        if not task.flags & (AHEAD | WAITS):
            priority = model.option(task.options).priority if task.options else 0.0
            candidates.append((
                not task.flags & STARTED, priority, task.submission, task.order, len(candidates),
                model.id_of(slot), task.attempt,
            ))
        slot = task.next
    return [candidate[5:] for candidate in sorted(candidates)[:worker.nthreads]]
