"""A reference model of the scheduler core: the same events in, the same commands out, written to be read.

Tasks are objects in dictionaries; what the core counts, the model counts again each time; what the core
keeps lists of to find quickly, the model searches. States, counters, fencing and frees are exact, and so
are the decisions of `tests.model.policy`. What has no meaning is not modelled: slots, numbers of
functions and options, the order of rows about different tasks in FREE and STATE frames.
May import: tests.model.records, tests.model.policy, the row types of tests.core.scheduler.frames.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from fastdist._core.codec.frames import TaskStatus
from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist._core.scheduler.reasons import Reason, reason_payload
from tests.core.scheduler.frames import TaskRow
from tests.model.policy import MAX_AHEAD_INPUTS, Policy, Queue
from tests.model.records import Client, Options, State, Task, Universe, Worker

DEFAULTS = {
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
UNKNOWN_INPUT = "an input of this task is not known to the scheduler any more"
NOTHING_TO_RETRY = "the scheduler has no such task that could be tried again: submit it again"


def as_float32(value: float) -> float:
    """What is left of a number in a DONE frame."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


class Refused(Exception):
    """The event is illegal: the core raises FrameError and changes nothing."""


class Reference:
    """The model. Methods are named after those of `SchedulerCore`."""

    def __init__(self, **settings: float) -> None:
        self.universe = Universe({**DEFAULTS, **settings})
        self.queue = Queue(self.universe)
        self.policy = Policy(self.universe, self.queue, self.assign, self.ask_back)
        self.lost_clients: dict[int, float] = {}
        self.awaited: dict[str, tuple[float, list[Task]]] = {}

    @property
    def tasks(self) -> dict[bytes, Task]:
        """All tasks by canonical key."""
        return self.universe.tasks

    # -- telling --------------------------------------------------------------------------------------

    def tell(self, client: Client, id: int, task: Task | None, status: TaskStatus, payload: bytes = b"") -> None:
        """One STATE row."""
        finished = task is not None and status == TaskStatus.STATUS_FINISHED
        if finished and not client.inline:
            payload = b""
        if client.alive:
            nbytes, type = (task.nbytes, task.type) if finished else (0, "")
            client.rows.append((id, status, nbytes, type, payload))

    def tell_all(self, task: Task, status: TaskStatus, payload: bytes = b"") -> None:
        """One STATE row for each client that wants the task."""
        for client, id in task.wants:
            if id:
                self.tell(client, id, task, status, payload)

    def tell_error(self, task: Task, client: Client | None = None, id: int = 0) -> None:
        """The error of a task, to one client or to all."""
        status = TaskStatus.STATUS_ERRED if task.function is not None else TaskStatus.STATUS_LOST
        assert task.error is not None
        if client is None:
            self.tell_all(task, status, task.error)
        else:
            self.tell(client, id, task, status, task.error)

    def tell_current(self, task: Task, client: Client, id: int) -> None:
        """What a client that joins late has missed."""
        if task.state is State.MEMORY:
            self.tell(client, id, task, TaskStatus.STATUS_FINISHED)
        elif task.state is State.ERRED:
            self.tell_error(task, client, id)

    def tell_free(self, worker: Worker | None, task: Task | int) -> None:
        """A worker has to forget a task (or a task id that means nothing)."""
        assert worker is not None
        if worker.alive:
            worker.frees.append(task)
            self.universe.touch(worker)

    # -- transitions ----------------------------------------------------------------------------------

    def assign(self, task: Task, worker: Worker, ahead: bool) -> None:
        """READY, or WAITING and ahead -> PROCESSING."""
        assert task.state is (State.WAITING if ahead else State.READY)
        worker.stopping.discard(task.id)
        task.attempt += 1
        task.worker, task.ahead, task.started, task.asked_back = worker, ahead, False, False
        task.waits = task.seceded = False
        task.booked = task.prefix.duration_class
        task.state = State.PROCESSING
        worker.processing.append(task)
        inputs = [
            (needed, needed.nbytes if needed.state is State.MEMORY else 0, [w.number for w in needed.holders])
            for needed in task.needs
        ]
        for _, _, holders in inputs:
            for number in holders:
                if number not in worker.addresses and number != worker.number:
                    worker.addresses.add(number)
                    worker.new_addresses.append((number, self.universe.workers[number].address))
        assert task.function is not None
        if task.function not in worker.functions:
            worker.functions.add(task.function)
            worker.new_functions.append(task.function)
        option = task.options.for_worker if task.options else b""
        if task.options and option and task.options not in worker.options:
            worker.options.add(task.options)
            worker.new_options.append(option)
        worker.rows.append((task, task.attempt, task.priority, inputs, task.inline, ahead, option, task.failures))
        self.universe.touch(worker)

    def ask_back(self, task: Task) -> None:
        """RETRACT."""
        assert task.worker is not None
        task.asked_back = True
        task.worker.retracts.append((task, task.attempt))
        self.universe.touch(task.worker)

    def dismiss(self, task: Task) -> None:
        """A PROCESSING task that nobody wants any more leaves its worker; if it executes, its thread stays taken."""
        assert task.worker is not None
        self.tell_free(task.worker, task)
        if task.started and not (task.waits or task.seceded):
            task.worker.stopping.add(task.id)
        self.leave(task)

    def leave(self, task: Task) -> None:
        """A PROCESSING task leaves its worker."""
        assert task.worker is not None
        task.worker.processing.remove(task)
        self.universe.touch(task.worker)
        task.worker, task.ahead, task.started, task.asked_back = None, False, False, False
        task.waits = task.seceded = False

    def need(self, task: Task) -> None:
        """RELEASED -> WAITING or READY, with the inputs that have to be computed again."""
        stack, failed = [task], []
        while stack:
            task = stack.pop()
            if task.state is not State.RELEASED:
                continue
            if task.function is None:
                failed.append(task)
                continue
            stack += [needed for needed in task.needs if needed.state is State.RELEASED]
            if task.waiting_on:
                task.state = State.WAITING
                if any(needed.state is State.ERRED for needed in task.needs):
                    failed.append(task)
            else:
                task.state = State.READY
                self.universe.became_ready.append(task)
        for task in failed:
            self.fail_for_inputs(task)

    def fail_for_inputs(self, task: Task) -> None:
        """An input erred, or the task is data that is gone."""
        if task.state is State.RELEASED or task.is_needed:
            errors = [needed.error for needed in task.needs if needed.state is State.ERRED]
            if errors:
                assert errors[0] is not None
                self.fail(task, errors[0])
            elif task.function is None:
                self.fail(task, self.lost_payload(task))

    @staticmethod
    def lost_payload(task: Task) -> bytes:
        """Why data that cannot be computed is gone."""
        key = str(decode_key(task.key))
        message = f"the data of {key!r} was lost with the last worker that held it, and there is no task that could"
        message += " compute it again; scatter it again"
        return reason_payload(Reason.LOST_DATA, message, key=key)

    def fail(self, task: Task, error: bytes) -> None:
        """The task and all that need it -> ERRED."""
        stack = [task]
        while stack:
            task = stack.pop()
            if task.state in (State.ERRED, State.MEMORY):
                continue
            if task.state is State.PROCESSING:
                self.dismiss(task)
            task.state, task.error = State.ERRED, error
            self.tell_error(task)
            stack += [dependent for dependent in task.dependents if dependent.is_needed]

    def finish(self, task: Task, worker: Worker, nbytes: int, type: str, payload: bytes) -> None:
        """-> MEMORY on its first holder."""
        if task.state is State.PROCESSING:
            self.leave(task)
        task.nbytes, task.type, task.state = nbytes, type, State.MEMORY
        task.hold(worker)
        rest = list(task.dependents)
        while rest:
            dependent = rest.pop(0)
            if dependent.state is State.WAITING:
                # A task that needs the same input twice is ready at its second entry.
                if not dependent.waiting_on and dependent not in rest:
                    dependent.state = State.READY
                    self.universe.became_ready.append(dependent)
                elif len(dependent.needs) <= MAX_AHEAD_INPUTS:
                    self.universe.may_go_ahead.append(dependent)
            elif dependent.state is State.PROCESSING and not dependent.waiting_on:
                dependent.ahead = False
        self.tell_all(task, TaskStatus.STATUS_FINISHED, payload)

    def back(self, task: Task, tell_worker: bool) -> None:
        """PROCESSING -> READY or WAITING."""
        if tell_worker:
            self.tell_free(task.worker, task)
        self.withdraw(task)
        self.leave(task)
        if task.waiting_on:
            task.state = State.WAITING
        else:
            task.state = State.READY
            self.universe.became_ready.append(task)

    def withdraw(self, task: Task) -> None:
        """What was sent ahead of `task` is WAITING again."""
        for dependent in task.dependents:
            if dependent.state is State.PROCESSING and dependent.ahead:
                self.tell_free(dependent.worker, dependent)
                self.leave(dependent)
                dependent.state = State.WAITING
                self.withdraw(dependent)

    def lose_data(self, task: Task) -> None:
        """MEMORY without a holder."""
        self.withdraw(task)
        waiters = task.waiters
        task.nbytes, task.state = 0, State.RELEASED
        for dependent in task.dependents:
            if dependent.state in (State.READY, State.NO_WORKER):
                dependent.state = State.WAITING
        if waiters or task.wants:
            if task.function is not None:
                self.tell_all(task, TaskStatus.STATUS_PENDING)
            self.need(task)

    def tidy(self) -> None:
        """Release what nobody needs, forget what nothing depends on, until nothing changes."""
        changed = True
        while changed:
            changed = False
            for task in list(self.tasks.values()):
                if task.wants or task.waiters:
                    continue
                if task.state not in (State.RELEASED, State.SCATTERING):
                    self.release(task)
                    changed = True
                if not task.dependents:
                    self.forget(task)
                    changed = True
        used = {task.function for task in self.tasks.values()}
        for client in self.universe.clients:
            used |= client.functions
        for function in self.universe.functions - used:
            self.universe.functions.remove(function)
            for worker in self.universe.workers:
                if worker.alive and function in worker.functions:
                    worker.functions.remove(function)
                    worker.freed_functions.append(function)
                    self.universe.touch(worker)

    def release(self, task: Task) -> None:
        """-> RELEASED."""
        for holder in task.holders:
            self.tell_free(holder, task)
        if task.state is State.PROCESSING:
            self.dismiss(task)
        task.holders, task.nbytes, task.error, task.state = [], 0, None, State.RELEASED

    def forget(self, task: Task) -> None:
        """The record goes."""
        task.alive = False
        del self.tasks[task.key]
        for needed in task.needs:
            needed.dependents.remove(task)

    # -- clients --------------------------------------------------------------------------------------

    def on_client(self, name: str) -> int:
        """A client comes."""
        self.universe.clients.append(Client(len(self.universe.clients)))
        return len(self.universe.clients) - 1

    def on_client_closed(self, number: int) -> None:
        """A client goes."""
        client = self.universe.clients[number]
        self.lost_clients.pop(number, None)
        client.alive = False
        client.rows.clear()
        client.functions.clear()
        client.ids.clear()
        client.open_ids.clear()
        for task in self.tasks.values():
            task.wants = [want for want in task.wants if want[0] is not client]
        self.tidy()

    def on_client_lost(self, number: int, now: float) -> None:
        """A connection breaks."""
        if self.universe.clients[number].alive:
            self.lost_clients[number] = now + self.universe.settings["client_grace"]

    def on_client_back(self, number: int) -> bool:
        """A client returns in time, or not."""
        client = self.universe.clients[number]
        if self.lost_clients.pop(number, None) is None or not client.alive:
            return False
        client.inline = True
        for id, task in sorted(client.ids.items()):
            if task.state in (State.MEMORY, State.ERRED):
                self.tell_current(task, client, id)
            elif task.attempt:
                self.tell(client, id, task, TaskStatus.STATUS_PENDING)
        return True

    def on_tick(self, now: float) -> list[int]:
        """Give lost clients up, and try tasks again."""
        due = [number for number, time in self.lost_clients.items() if time <= now]
        for number in due:
            self.on_client_closed(number)
        waiting = [task for task in self.tasks.values() if task.due is not None and task.due <= now]
        for task in sorted(waiting, key=lambda task: (task.due, -task.id)):
            task.due = None
            if task.state is State.NO_WORKER:
                task.state = State.READY
                self.universe.became_ready.append(task)
        return due

    def on_inline_allowed(self, number: int, allowed: bool) -> None:
        """Whether small results may travel to a client."""
        self.universe.clients[number].inline = allowed

    def check_tasks(self, client: Client, first_id: int, rows: Sequence[TaskRow], known: Iterable[bytes]) -> None:
        """Raise Refused for a frame that no honest client sends."""
        sent = {row.function for row in rows if row.function is not None}
        if first_id < client.next_id or first_id == 0:
            raise Refused("ids are used already")
        if any(need >= first_id + number for number, row in enumerate(rows) for need in row.needs):
            raise Refused("a task needs a later one")
        if any(function in sent and function not in self.universe.functions for function in known):
            raise Refused("a function was never sent")

    def on_tasks(
        self,
        number: int,
        first_id: int,
        rows: Sequence[TaskRow],
        options: Sequence[Options],
        now: float,
        *,
        last: bool,
        submission: int,
        fifo_timeout: float,
        known_functions: Iterable[bytes] = (),
    ) -> None:
        """A TASKS frame."""
        client = self.universe.clients[number]
        if not client.alive:
            return
        self.check_tasks(client, first_id, rows, known_functions)
        client.next_id = first_id + len(rows)
        functions = {row.function for row in rows if row.function is not None}
        client.functions |= functions
        self.universe.functions |= functions
        if submission != client.last_number or client.submission == 0:
            if client.submission == 0 or now - client.last_time > round(fifo_timeout * 1e6) * 1e-6:
                self.universe.generation += 1
                client.submission = self.universe.generation
            client.last_number = submission
        client.last_time = now
        taken = []
        for id, row in enumerate(rows, first_id):
            task = self.take_row(client, id, row, options)
            if task is not None:
                taken.append((id, task))
        self.start(client, taken)
        if last:
            for id in client.open_ids:
                task = client.ids.pop(id)
                task.wants.remove((client, 0))
            client.open_ids.clear()
        self.tidy()

    def take_row(self, client: Client, id: int, row: TaskRow, options: Sequence[Options]) -> Task | None:
        """The task of a row, made if it is new."""
        task = self.tasks.get(row.key)
        if task is None and row.function is None:
            key = str(decode_key(row.key))
            message = f"there is no task {key!r} on the scheduler: it was never submitted, or it was released by"
            message += " everyone who wanted it"
            payload = reason_payload(Reason.UNKNOWN_KEY, message, key=key)
            self.tell(client, id, None, TaskStatus.STATUS_LOST, payload)
            return None
        asked = options[row.option - 1] if row.option else None
        rank = client.submission << 32 | (id if row.order is None else row.order)
        if task is not None and row.function is not None and self.may_take_work(client, task, row):
            if task.state is State.ERRED:
                task.state, task.error, task.suspicious, task.deaths = State.RELEASED, None, 0, []
                self.tell_all(task, TaskStatus.STATUS_PENDING)
            task.function, task.arguments, task.options, task.rank = row.function, row.arguments, asked, rank
            task.retries = asked.retries if asked else 0
            task.needs = [client.ids[need] for need in row.needs]
            for needed in task.needs:
                needed.dependents.append(task)
        if task is None:
            prefix = self.universe.prefix(row.key)
            task = Task(row.key, row.function, row.arguments, asked, rank, prefix, asked.retries if asked else 0)
            self.tasks[row.key] = task
            if all(need in client.ids for need in row.needs):
                task.needs = [client.ids[need] for need in row.needs]
                for needed in task.needs:
                    needed.dependents.append(task)
            else:
                task.state, task.error = State.ERRED, reason_payload(Reason.UNKNOWN_KEY, UNKNOWN_INPUT)
                task.function, task.refused = None, True
        client.ids[id] = task
        task.want(client, id if row.wanted else 0)
        if not row.wanted:
            client.open_ids.append(id)
        elif row.inline:
            task.inline = True
        return task

    def may_take_work(self, client: Client, task: Task, row: TaskRow) -> bool:
        """Whether a task that was refused can have the work of this row, whose inputs may not depend on it."""
        if not task.refused or task.function is not None or task.state not in (State.ERRED, State.RELEASED):
            return False
        if not all(need in client.ids for need in row.needs):
            return False
        stack, seen = [client.ids[need] for need in row.needs], set()
        while stack:
            needed = stack.pop()
            if needed is task:
                return False
            if id(needed) not in seen:
                seen.add(id(needed))
                stack += needed.needs
        return True

    def start(self, client: Client, taken: Sequence[tuple[int, Task]]) -> None:
        """Start what is new; root tasks with the same options are queued together."""
        roots: list[Task] = []
        for id, task in taken:
            if task.state is not State.RELEASED:
                self.tell_current(task, client, id)
            elif (
                task.needs
                or task.function is None
                or (task.options and task.options.restricted)
                or (roots and task.options is not roots[0].options)
            ):
                self.need(task)
            else:
                task.state = State.READY
                roots.append(task)
        if roots:
            self.queue.push_run(sorted(roots, key=lambda task: task.rank))

    def on_release(self, number: int, ids: Sequence[int], functions: Iterable[bytes] = ()) -> None:
        """A RELEASE frame."""
        client = self.universe.clients[number]
        for id in ids:
            task = client.ids.get(id)
            if task is not None and (client, id) in task.wants:
                task.wants.remove((client, id))
                del client.ids[id]
        client.functions -= set(functions)
        self.tidy()

    def with_dependents(self, tasks: Iterable[Task]) -> list[Task]:
        """The tasks and all that depends on them."""
        stack, order = list(tasks), []
        while stack:
            task = stack.pop()
            if task not in order:
                order.append(task)
                stack += task.dependents
        return order

    def on_cancel(self, number: int, keys: Sequence[bytes], force: bool, payload: bytes) -> int:
        """Cancel by key."""
        client = self.universe.clients[number]
        named = [self.tasks[key] for key in keys if key in self.tasks]
        for task in self.with_dependents(named):
            self.drop_wants(task, None if force else client, payload)
        self.tidy()
        return len(named)

    def on_restart(self, payload: bytes) -> None:
        """Cancel everything."""
        for task in self.tasks.values():
            self.drop_wants(task, None, payload)
        self.tidy()

    def drop_wants(self, task: Task, only: Client | None, payload: bytes) -> None:
        """One client, or nobody, wants the task any more."""
        for owner, id in list(task.wants):
            if id and only in (None, owner):
                task.wants.remove((owner, id))
                del owner.ids[id]
                self.tell(owner, id, task, TaskStatus.STATUS_CANCELLED, payload)

    def on_retry(self, keys: Sequence[bytes], number: int, ids: Sequence[int]) -> None:
        """Try failed tasks again."""
        named = []
        for key, known_as in zip(keys, ids, strict=True):
            task = self.tasks.get(key)
            if task is not None and (self.universe.clients[number], known_as) in task.wants:
                named.append(task)
            else:
                payload = reason_payload(Reason.UNKNOWN_KEY, NOTHING_TO_RETRY)
                self.tell(self.universe.clients[number], known_as, None, TaskStatus.STATUS_LOST, payload)
        stack, roots, seen = list(named), [], set()
        while stack:
            task = stack.pop()
            if task.state not in (State.ERRED, State.RELEASED) or id(task) in seen:
                continue
            seen.add(id(task))
            # What was released in between may have failed of something that is still known as failed.
            if task.state is State.ERRED:
                roots.append(task)
            stack += task.needs
        again = [task for task in self.with_dependents(roots) if task.state is State.ERRED]
        for task in again:
            if task.function is not None:
                task.state, task.error, task.suspicious = State.RELEASED, None, 0
                task.deaths = []
                self.tell_all(task, TaskStatus.STATUS_PENDING)
        for task in again:
            if task.wants and task.state is State.RELEASED:
                self.need(task)
        for task in named:
            if task.state is State.ERRED and task.function is None:
                self.tell_error(task)
        self.tidy()

    def on_scatter_failed(self, tasks: Sequence[Task], payload: bytes) -> None:
        """Data does not come."""
        for task in tasks:
            if task.alive and task.state is State.SCATTERING:
                self.fail(task, payload)
        self.tidy()

    def rename(self, task: Task) -> None:
        """The task gets another id: what is on its way about what it was means nothing any more."""
        for worker in self.universe.workers:
            worker.frees = [task.id if each is task else each for each in worker.frees]
        task.id = -1

    def on_scatter(self, number: int, first_id: int, keys: Sequence[bytes]) -> list[tuple[Task, bool]]:
        """A client announces data."""
        client = self.universe.clients[number]
        if first_id < client.next_id or first_id == 0:
            raise Refused("ids are used already")
        client.next_id = first_id + len(keys)
        answer = []
        for id, key in enumerate(keys, first_id):
            task = self.tasks.get(key)
            if task is None:
                prefix = self.universe.prefix(encode_key(0))
                task = self.tasks[key] = Task(key, None, b"", None, 0, prefix, state=State.SCATTERING)
            if task.function is None and task.state in (State.ERRED, State.RELEASED):
                task.error, task.state = None, State.SCATTERING
                self.rename(task)
            client.ids[id] = task
            task.want(client, id)
            if task.state is State.RELEASED:
                self.need(task)
            self.tell_current(task, client, id)
            answer.append((task, task.state is State.MEMORY))
        return answer
