"""The reference model, continued: what workers do, and what is sent.

May import: tests.model.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from fastdist._core.codec.frames import DoneStatus
from fastdist._core.keys.canonical import decode_key
from fastdist._core.scheduler.reasons import Reason, reason_payload
from fastdist.retries import AGAIN, ELSEWHERE, FINAL
from tests.core.scheduler.frames import DoneRow
from tests.model.records import Options, Prefix, State, Task, Worker
from tests.model.reference import Reference, Refused, as_float32

MAX_WAITERS = 20


class FullReference(Reference):
    """The whole model."""

    # -- workers --------------------------------------------------------------------------------------

    def on_worker(self, address: str, nthreads: int, nanny: bool, resources: dict[str, float]) -> int:
        """A worker comes."""
        worker = Worker(len(self.universe.workers), address, nthreads, dict(resources))
        self.universe.workers.append(worker)
        worker.weigh()
        self.try_unplaced()
        return worker.number

    def on_options(self, number: int, options: Options) -> None:
        """Options for the next frame."""
        self.universe.options[number] = options

    def on_candidates(self, options: Options, workers: Sequence[int]) -> None:
        """The workers that options allow."""
        options.candidates = [self.universe.workers[number] for number in workers]
        self.try_unplaced()

    def try_unplaced(self) -> None:
        """NO_WORKER -> READY."""
        for task in self.universe.no_worker:
            if task.alive and task.state is State.NO_WORKER and task.due is None:
                task.state = State.READY
                self.universe.became_ready.append(task)
        self.universe.no_worker.clear()

    def on_worker_status(self, number: int, running: bool) -> None:
        """A worker pauses or resumes."""
        worker = self.universe.workers[number]
        if worker.running == running or not worker.alive:
            return
        worker.running = running
        worker.weigh()
        if running:
            self.try_unplaced()
            return
        self.queue.give_back(worker)
        for task in reversed(worker.processing):
            if not (task.asked_back or task.started):
                self.ask_back(task)

    def on_worker_lost(self, number: int, blamed: bool, how: str, now: float | None = None) -> None:
        """A worker dies; with `now`, what it was given waits for its nanny."""
        worker = self.universe.workers[number]
        if not worker.alive:
            return
        executing: list[Task] = []
        if blamed:
            may_run = [task for task in worker.processing if not (task.ahead or task.waits)]
            may_run.sort(key=lambda task: (not task.started, task.priority, task.rank))
            executing = may_run[: worker.nthreads]
        attempts = [(task, task.attempt) for task in executing]
        worker.alive = worker.running = False
        self.queue.give_back(worker)
        given = list(worker.processing)
        while worker.processing:
            self.back(worker.processing[0], tell_worker=False)
        held = [task for task in self.tasks.values() if worker in task.holders]
        for task in sorted(held, key=lambda task: task.id & 0xFFFFFFFF):
            task.holders.remove(worker)
            if not task.holders:
                self.lose_data(task)
        if now is not None:
            self.hold(worker.address, given, now + self.universe.settings["report_grace"])
        self.blame(worker.address, attempts, how)
        self.tidy()

    def hold(self, address: str, given: list[Task], until: float) -> None:
        """What could be placed at once waits for the report of a nanny."""
        held = [task for task in given if task.alive and task.state is State.READY]
        for task in held:
            task.state, task.due = State.NO_WORKER, until
        became_ready = [task for task in self.universe.became_ready if task not in held]
        self.universe.became_ready[:] = became_ready
        if held:
            self.awaited[address] = (until, held)

    def on_death_report(self, address: str, executing: Sequence[tuple[Task, int]], how: str) -> None:
        """A nanny explains a death."""
        self.blame(address, executing, how)
        until, held = self.awaited.pop(address, (None, []))
        for task in sorted(held, key=lambda task: task.id):
            if task.alive and task.state is State.NO_WORKER and task.due == until:
                task.state, task.due = State.READY, None
                self.universe.became_ready.append(task)
        self.tidy()

    def blame(self, address: str, executing: Sequence[tuple[Task, int]], how: str) -> None:
        """Count a death against tasks."""
        allowed = self.universe.settings["allowed_failures"]
        for task, attempt in executing:
            if not task.alive or not task.is_needed or attempt > task.attempt:
                continue
            if any(death["attempt"] == attempt for death in task.deaths):
                continue
            task.suspicious += 1
            task.deaths.append({"worker": address, "how": how, "attempt": attempt})
            if task.suspicious > allowed:
                key = str(decode_key(task.key))
                message = f"task {key!r} was executing on {task.suspicious} workers that died, the last one at"
                message += f" {address} ({how}); it is not tried again"
                deaths, task.deaths = task.deaths, []
                fields = {"attempts": task.suspicious, "allowed_failures": int(allowed), "deaths": deaths}
                payload = reason_payload(Reason.KILLED_WORKER, message, key=key, worker=address, **fields)
                self.fail(task, payload)

    def on_done(
        self,
        number: int,
        rows: Sequence[tuple[Task | None, DoneRow]],
        new_types: Sequence[str],
        same_epoch: bool,
        now: float,
    ) -> None:
        """A DONE frame; rows come with the task that the id means, if it means one."""
        worker = self.universe.workers[number]
        if not worker.alive:
            return
        if not same_epoch:
            self.universe.stale += len(rows)
            return
        n_types = len(worker.types) + len(new_types)
        for _, row in rows:
            if row.status > DoneStatus.DONE_RETURNED or (row.status == 0 and row.type >= n_types):
                raise Refused("an unknown status or type")
        worker.types += new_types
        measured: dict[Prefix, list[tuple[float, int]]] = {}
        for task, row in rows:
            self.take_done(worker, task if task and task.alive else None, row, measured, now)
        for prefix, values in measured.items():
            # Not `sum`, which is more exact than the core on newer Pythons.
            seconds = functools.reduce(operator.add, (value for value, _ in values), 0.0) / len(values)
            nbytes = float(sum(size for _, size in values)) / len(values)
            seconds = seconds if 0 <= seconds < 1e9 else 0.0
            prefix.duration = seconds if prefix.duration < 0 else (prefix.duration + seconds) / 2
            prefix.nbytes = nbytes if prefix.nbytes < 0 else (prefix.nbytes + nbytes) / 2
        worker.weigh()
        self.tidy()

    def take_done(
        self, worker: Worker, task: Task | None, row: DoneRow, measured: dict[Prefix, list], now: float
    ) -> None:
        """One row."""
        if row.status == DoneStatus.DONE_REPLICA:
            self.take_replica(worker, task, row)
        elif row.status == DoneStatus.DONE_MISSING:
            self.take_missing(task, row)
        elif task is None or task.worker is not worker or task.attempt != row.attempt:
            if self.take_dismissed(worker, task, row):
                return
            self.universe.stale += 1
            if row.status == DoneStatus.DONE_FINISHED and not self.has_use(worker, task):
                self.tell_free(worker, task or row.id)
        elif row.status in (DoneStatus.DONE_FINISHED, DoneStatus.DONE_ERRED):
            self.take_outcome(worker, task, row, measured, now)
        elif row.status == DoneStatus.DONE_STARTED:
            task.started = True
        elif row.status == DoneStatus.DONE_RETRACT_REFUSED:
            task.started, task.asked_back = True, False
        elif row.status >= DoneStatus.DONE_WAITS:
            self.take_away(worker, task, row.status)
        else:
            self.back(task, tell_worker=row.status == DoneStatus.DONE_RESCHEDULE)
            if row.status == DoneStatus.DONE_RETRACTED and row.nbytes & AGAIN and task.state is State.READY:
                self.try_again(worker, task, row.nbytes, now)

    def take_dismissed(self, worker: Worker, task: Task | None, row: DoneRow) -> bool:
        """A row that only says how long a task that was taken from the worker keeps its thread."""
        if row.status == DoneStatus.DONE_STARTED:
            if task is not None and task.worker is worker:
                return False
            if row.id not in worker.stopping:
                worker.stopping.add(row.id)
                self.universe.touch(worker)
            return True
        ended = (DoneStatus.DONE_FINISHED, DoneStatus.DONE_ERRED, DoneStatus.DONE_RESCHEDULE)
        if row.status not in ended or row.id not in worker.stopping:
            return False
        worker.stopping.remove(row.id)
        self.universe.touch(worker)
        return row.status == DoneStatus.DONE_RESCHEDULE

    def take_away(self, worker: Worker, task: Task, status: int) -> None:
        """The task gave its thread back, or has one again."""
        if status != DoneStatus.DONE_RETURNED or task.waits or task.seceded:
            self.universe.touch(worker)
        task.waits = status == DoneStatus.DONE_WAITS
        task.seceded = status == DoneStatus.DONE_SECEDED
        task.started = task.started or task.waits or task.seceded

    @staticmethod
    def has_use(worker: Worker, task: Task | None) -> bool:
        """Whether FREE would hurt."""
        return task is not None and (worker in task.holders or task.worker is worker)

    def take_outcome(
        self, worker: Worker, task: Task, row: DoneRow, measured: dict[Prefix, list], now: float
    ) -> None:
        """FINISHED or ERRED of the current attempt."""
        if task.ahead and task.waiting_on:
            self.universe.stale += 1
            self.back(task, tell_worker=True)
        elif row.status == DoneStatus.DONE_FINISHED:
            measured.setdefault(task.prefix, []).append((as_float32(row.seconds), row.nbytes))
            self.finish(task, worker, row.nbytes, worker.types[row.type], row.payload)
        elif task.retries and row.nbytes != FINAL:
            task.retries -= 1
            self.back(task, tell_worker=True)
            if row.nbytes & AGAIN:
                self.try_again(worker, task, row.nbytes, now)
        else:
            self.fail(task, row.payload)
            worker.stopping.discard(row.id)

    @staticmethod
    def try_again(worker: Worker, task: Task, verdict: int, now: float) -> None:
        """The policy of a task that raised says when and where."""
        task.avoid = worker if verdict & ELSEWHERE else None
        task.due = None
        seconds = (verdict & (ELSEWHERE - 1)) * 1e-6
        if task.state is State.READY and seconds:
            task.due, task.state = now + seconds, State.NO_WORKER

    def take_replica(self, worker: Worker, task: Task | None, row: DoneRow) -> None:
        """The worker holds a copy."""
        if task is not None and task.state is State.MEMORY:
            task.hold(worker)
        elif task is not None and task.state is State.SCATTERING:
            type = worker.types[row.type] if row.type < len(worker.types) else ""
            self.finish(task, worker, row.nbytes, type, b"")
        else:
            self.universe.stale += 1
            if not self.has_use(worker, task):
                self.tell_free(worker, task or row.id)

    def take_missing(self, task: Task | None, row: DoneRow) -> None:
        """A holder has not what it should have, or was not reached."""
        if task is None or task.state is not State.MEMORY or row.nbytes >= len(self.universe.workers):
            return
        if row.attempt == 1 and not self.can_be_computed_again(task):
            return
        holder = self.universe.workers[row.nbytes]
        if holder in task.holders:
            task.holders.remove(holder)
            self.tell_free(holder, task)
            if not task.holders:
                self.lose_data(task)

    @staticmethod
    def can_be_computed_again(task: Task) -> bool:
        """Whether no data is needed for it that is neither there nor has a function that computes it."""
        stack, seen = [task], {task}
        while stack:
            one = stack.pop()
            if one.function is None:
                return False
            new = {each for each in one.needs if each.state is not State.MEMORY} - seen
            seen |= new
            stack += new
        return True

    # -- copies ---------------------------------------------------------------------------------------

    @staticmethod
    def on_kept(tasks: Sequence[Task], count: int) -> None:
        """The user wants copies."""
        for task in tasks:
            if task.alive:
                task.kept = count

    def on_drop_copies(self, number: int, tasks: Sequence[Task]) -> int:
        """A worker drops copies."""
        return sum([self.drop_copy(task, self.universe.workers[number]) for task in tasks if task.alive])

    def on_reduce_copies(self) -> int:
        """Copies that nobody needs go."""
        count = 0
        for task in sorted(self.tasks.values(), key=lambda task: task.id & 0xFFFFFFFF):
            surplus = len(task.holders) - self.copies_wanted(task)
            for worker in sorted(task.holders, key=lambda worker: (worker.running, -self.held(worker), worker.number)):
                if surplus > 0 and self.drop_copy(task, worker):
                    surplus -= 1
                    count += 1
        return count

    def held(self, worker: Worker) -> int:
        """Bytes that a worker holds."""
        return sum(task.nbytes for task in self.tasks.values() if worker in task.holders)

    @staticmethod
    def copies_wanted(task: Task) -> int:
        """How many copies are of use."""
        if task.waiters > MAX_WAITERS:
            return max(MAX_WAITERS, task.kept)
        placed = {other.worker.number for other in task.dependents if other.worker}
        unplaced = [other for other in task.dependents if other.is_needed and not other.worker]
        return max(len(placed) + len(unplaced), task.kept, 1)

    def drop_copy(self, task: Task, worker: Worker) -> bool:
        """One copy goes, unless it is the last one or is about to be used."""
        if worker not in task.holders or len(task.holders) == 1:
            return False
        if any(other.worker is worker for other in task.dependents):
            return False
        task.holders.remove(worker)
        self.tell_free(worker, task)
        return True

    # -- commands -------------------------------------------------------------------------------------

    def act(self) -> dict[tuple[str, int], object]:
        """Decide; what each peer is sent, in a form that hides what has no meaning."""
        for worker in self.universe.dirty:
            worker.weigh()
        self.policy.place()
        self.policy.balance()
        answer: dict[tuple[str, int], object] = {}
        for worker in self.universe.workers:
            if worker.alive:
                if worker.frees or worker.freed_functions:
                    ids = [task.id if isinstance(task, Task) else task for task in worker.frees]
                    answer["free", worker.number] = sorted(ids), sorted(worker.freed_functions)
                if worker.rows:
                    rows = [self.plain(row) for row in worker.rows]
                    new = worker.new_functions, worker.new_options, worker.new_addresses
                    answer["run", worker.number] = rows, *map(sorted, new)
                if worker.retracts:
                    answer["retract", worker.number] = [(task.id, n) for task, n in worker.retracts]
            for waiting in (worker.frees, worker.freed_functions, worker.rows, worker.retracts):
                waiting.clear()
            for table in (worker.new_functions, worker.new_options, worker.new_addresses):
                table.clear()
            worker.dirty = False
        self.universe.dirty.clear()
        for client in self.universe.clients:
            if client.rows:
                answer["state", client.number] = sorted(client.rows, key=lambda row: row[0])
            client.rows = []
        return answer

    @staticmethod
    def plain(row: tuple) -> tuple:
        """A RUN row without objects."""
        task, attempt, priority, inputs, inline, ahead, option, failures = row
        needs = [(needed.id, nbytes, holders) for needed, nbytes, holders in inputs]
        return (
            task.id,
            attempt,
            task.function,
            priority,
            task.rank,
            task.key,
            task.arguments,
            needs,
            inline,
            ahead,
            option,
            failures,
        )
