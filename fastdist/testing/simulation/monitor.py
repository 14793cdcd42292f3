"""What must always be true: judged on each record that is touched, and on everything when nothing moves any more.

| | what must hold | where |
|---|---|---|
| I1 | each wanted task ends once, with the right value or a failure that it may have | `state_heard`, `check_outcome` |
| I2 | no attempt of a task is executed twice | `execution_started` |
| I3 | data is where the scheduler says, and nowhere else | `touched` (holders are alive), `at_rest` |
| I4 | counters are what counting gives | `touched`, `at_rest`, `everything` |
| I5 | nothing is left of what nobody wants | `at_the_end` |
| I6 | after the last fault everything comes to rest | `at_rest`, and the limits of `simulation` |
| I7 | the recorded events, fed to another core, give the same commands | `Recording` |
| I8 | the same seed gives the same trace | `Kernel.trace` |

May import: its siblings, `_core`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from fastdist._core.codec.frames import TaskStatus
from fastdist._core.codec.values import decode_value
from fastdist._core.scheduler.core import SchedulerCore
from fastdist._core.scheduler.reasons import Reason
from fastdist._core.scheduler.transitions import LEGAL
from fastdist._core.scheduler.views import STATE_NAMES
from fastdist._core.worker import inspect
from fastdist.testing.simulation.workloads import ALWAYS, Program, Spec

if TYPE_CHECKING:
    from fastdist.testing.simulation.client import SimulatedClient
    from fastdist.testing.simulation.scheduler import SimulatedScheduler
    from fastdist.testing.simulation.worker import SimulatedWorker

PENDING, FINISHED, ERRED = TaskStatus.STATUS_PENDING, TaskStatus.STATUS_FINISHED, TaskStatus.STATUS_ERRED
CANCELLED, LOST = TaskStatus.STATUS_CANCELLED, TaskStatus.STATUS_LOST
EDGES = frozenset((*LEGAL, ("released", "forgotten"), ("scattering", "forgotten")))
#: Why a task cannot be computed although nothing failed.
REFUSALS = (Reason.UNKNOWN_KEY.value, Reason.LOST_DATA.value)
NEEDS_INPUTS = ("waiting", "ready", "no_worker", "processing")


class Violation(AssertionError):
    """Something that must hold does not."""


def require(truth: object, *what: object) -> None:
    """Raise Violation, with a text made of the rest, unless the first is true."""
    if not truth:
        raise Violation(" ".join(map(str, what)))


class Monitor:
    """Watches one simulation.

    Parameters
    ----------
    program : Program
        What is right.
    repeats : bool
        Whether frames may come twice.
    allowed_failures : int
        How many deaths of workers a task may be blamed for.
    """

    def __init__(self, program: Program, repeats: bool, allowed_failures: int) -> None:
        self.program = program
        self.repeats = repeats
        self.allowed_failures = allowed_failures
        self.scheduler: SimulatedScheduler | None = None
        self.clients: list[SimulatedClient] = []
        self.workers: list[SimulatedWorker] = []
        self.executed = 0
        self.scheduler_transitions = 0
        self.disk_faults = 0
        #: How often data may have gone: workers that were given up, what no worker took, and what a client released.
        self.n_losses = 0
        #: State of each task as the transitions tell it, and how many are in each.
        self.states: dict[Any, str] = {}
        self.counts: Counter[str] = Counter()
        self._executions: dict[tuple[int, int], str] = {}
        self._outcomes: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self._heard: dict[tuple[str, int], int] = {}
        self._watched: dict[tuple[str, int], None] = {}
        #: Tasks that were cancelled, each with the clients to whom that applies (None: to all).
        self._cancels: dict[str, set[str | None]] = {}
        self._finished_transitions = 0
        self._commands = blake2b(digest_size=16)

    # -- who is there

    def client_came(self, client: SimulatedClient) -> None:
        """A client started."""
        self.clients.append(client)

    def client_gone(self, client: SimulatedClient) -> None:
        """A client gave up: all its futures are cancelled."""
        self._heard = {place: status for place, status in self._heard.items() if place[0] != client.name}
        self._watched = {place: None for place in self._watched if place[0] != client.name}

    def worker_came(self, worker: SimulatedWorker) -> None:
        """A worker got its number."""
        self.workers.append(worker)

    def worker_died(self, worker: SimulatedWorker) -> None:
        """A worker is gone; what it did is remembered."""
        if worker.core is not None and worker in self.workers:
            self._finished_transitions += inspect.n_transitions(worker.core)
            self.workers.remove(worker)

    @property
    def transitions(self) -> int:
        """How many transitions tasks made, in the scheduler and in all workers."""
        living = sum(inspect.n_transitions(worker.core) for worker in self.workers if worker.core is not None)
        return self.scheduler_transitions + self._finished_transitions + living

    # -- what workers do

    def execution_started(self, worker: SimulatedWorker, task_id: int, attempt: int, spec: Spec) -> None:
        """I2: nobody else has executed this attempt."""
        place = (task_id, attempt)
        if place in self._executions:
            raise Violation(
                f"{spec.key} (id {task_id}, attempt {attempt}) starts on {worker.process.name}; "
                f"this attempt was executed on {self._executions[place]} already"
            )
        self._executions[place] = worker.process.name

    def input_missing(self, worker: SimulatedWorker, spec: Spec, task_id: int) -> None:
        """A task was started without one of its inputs."""
        raise Violation(f"{spec.key} starts on {worker.process.name} without its input {task_id}")

    def outcome_of(self, spec: Spec) -> str:
        """What this execution of the task does: raise, reschedule or value."""
        if not spec.failures and not spec.reschedules:
            return "value"
        self._outcomes[spec.key] += 1
        number = self._outcomes[spec.key]
        if number <= spec.failures:
            return "raise"
        return "reschedule" if number <= spec.failures + spec.reschedules else "value"

    def blamed(self, keys: Iterable[str]) -> None:
        """A worker died that may have been executing these."""
        self._deaths.update(keys)

    # -- what clients hear

    def cancel_asked(self, client: SimulatedClient, keys: Sequence[str], force: bool) -> None:
        """A client cancels tasks."""
        for key in keys:
            self._cancels.setdefault(key, set()).add(None if force else client.name)

    def state_heard(self, client: SimulatedClient, id: int, status: int, local: bool) -> None:
        """I1: states follow each other as they may, and none is told twice."""
        key = client.names.get(id)
        if key is None:
            return
        place = (client.name, id)
        known = self._heard.get(place, PENDING)
        if known == CANCELLED:
            # What was under way when the client cancelled means nothing to it.
            return
        # A row that a broken connection swallowed makes a gap.
        again = self.repeats or client.n_returns or local or status == CANCELLED
        if known == LOST or (known != PENDING and self._may_be_lost(key)):
            # What was refused has an outcome once it is submitted anew; data may be lost, and scattered again.
            known = PENDING
        if known != PENDING and status != PENDING and not again:
            raise Violation(
                f"{client.name} hears of {key} ({id}): {TaskStatus(status).name} after {TaskStatus(known).name}"
            )
        self._heard[place] = status

    def outcome_heard(self, client: SimulatedClient, id: int) -> None:
        """I1: the outcome that the client has now is one that the task may have."""
        key = client.names.get(id)
        if key is not None:
            self.check_outcome(client, key)

    def check_outcome(self, client: SimulatedClient, key: str) -> None:
        """The state of a future is right."""
        future = client.futures[key]
        state, payload = future.state, future.payload
        if state == FINISHED:
            if self.program.must_fail(key):
                raise Violation(f"{client.name}: {key} finished although it cannot")
            if payload is not None:
                value = decode_value(payload)
                if value != self.program.expected(key):
                    raise Violation(f"{client.name} got {value} for {key}, and not {self.program.expected(key)}")
        elif state == ERRED:
            self._check_failure(client, key, payload or b"")
        elif state == CANCELLED:
            self._check_cancelled(client, key)
        elif state == LOST:
            reason = decode_value(payload or b"")
            require(reason["reason"] in REFUSALS, f"{client.name}: {key} is lost: {reason}")
            self._check_refused(client, key)

    def _check_failure(self, client: SimulatedClient, key: str, payload: bytes) -> None:
        if payload.startswith(b"raised by "):
            root = payload[len(b"raised by ") :].decode()
            # An input that cannot be read takes one of the retries, too.
            may = root in self.program.may_raise(key) or (
                self.disk_faults and self.program.specs[root].failures and root in self.program.ancestors(key)
            )
            require(may, f"{client.name}: {key} failed with {payload!r}")
            return
        if payload == b"unreadable":
            require(self.disk_faults, f"{client.name}: {key} failed although no disk did")
            return
        reason = decode_value(payload)
        if reason["reason"] in REFUSALS:
            self._check_refused(client, key)
            return
        require(reason["reason"] == Reason.KILLED_WORKER.value, f"{client.name}: {key} failed: {reason}")
        root = reason["key"]
        require(
            self._deaths[root] > self.allowed_failures and root in self.program.ancestors(key),
            f"{client.name}: {key} failed because of {self._deaths[root]} deaths with {root}",
        )

    def _check_refused(self, client: SimulatedClient, key: str) -> None:
        """An input was cancelled while a task that needs it was on its way: that one is refused for all clients.

        The record keeps that until nothing depends on it any more, even if the task is submitted anew by then. Or data
        that was scattered is lost.
        """
        require(
            self._may_be_lost(key) or not self._cancels.keys().isdisjoint(self.program.ancestors(key)),
            f"{client.name}: {key} was refused, and nobody cancelled an input of it",
        )

    def _may_be_lost(self, key: str) -> bool:
        """Whether it is data that was scattered, or needs some, and data may have been lost."""
        return bool(self.n_losses or self.disk_faults) and any(
            self.program.specs[each].scattered for each in self.program.ancestors(key)
        )

    def _check_cancelled(self, client: SimulatedClient, key: str) -> None:
        if client.is_over:
            return
        asked = (self._cancels.get(each, ()) for each in self.program.ancestors(key))
        require(
            any(client.name in who or None in who for who in asked),
            f"{client.name}: {key} was cancelled, and nobody asked for that",
        )

    def waiter_set(self, client: SimulatedClient, id: int) -> None:
        """The client wants to be told when this future is done."""
        self._watched[client.name, id] = None

    def waiter_left(self, client: SimulatedClient, id: int) -> None:
        """It does not, any more."""
        self._watched.pop((client.name, id), None)
        self._heard.pop((client.name, id), None)

    def waiter_called(self, client: SimulatedClient, id: int) -> None:
        """I1: each waiter is called once."""
        if id in client.names:
            if (client.name, id) not in self._watched:
                raise Violation(f"{client.name} is told twice that {client.names[id]} is done")
            del self._watched[client.name, id]

    # -- what the scheduler does

    @property
    def core(self) -> SchedulerCore:
        """The scheduler's."""
        assert self.scheduler is not None
        return self.scheduler.core

    def core_acted(self, commands: Sequence[tuple[int, int, int, bytes]]) -> None:
        """I3, I4: judge the transitions since the last call, and the records that they touched."""
        digest_commands(self._commands, commands)
        rows, lost = self.core.take_transitions()
        require(not lost, f"{lost} transitions were not written down")
        states, counts = self.states, self.counts
        for key, start, finish, *_ in rows:
            known = states.get(key, "released")
            if start != known or (start, finish) not in EDGES:
                raise Violation(f"{key}: {start} -> {finish}, and it was {known}")
            if key in states:
                counts[known] -= 1
            if finish == "forgotten":
                states.pop(key, None)
            else:
                states[key] = finish
                counts[finish] += 1
        self.scheduler_transitions += len(rows)
        if rows:
            self._check_counts()
            assert self.scheduler is not None
            members = {entry.identity["address"] for entry in self.scheduler.workers.values()}
            for key in dict.fromkeys([row[0] for row in rows]):
                self.touched(key, members)

    def _check_counts(self) -> None:
        counts, counted = self.counts, self.core.counts()
        for name in STATE_NAMES:
            if counts[name] != counted[name] and name != "released":
                raise Violation(f"{counted[name]} tasks are {name}; by their transitions it is {counts[name]}")

    @property
    def commands(self) -> str:
        """The digest of all commands of the core."""
        return self._commands.hexdigest()

    def touched(self, key: str, members: set[str]) -> None:
        """The record of one task fits what else is known; `members` are the addresses of the workers."""
        view = self.core.task_view(self.program.specs[key].canonical)
        state = self.states.get(key)
        if view is None or state is None:
            require(view is None and state is None, f"{key} is {state}; the scheduler says {view}")
            return
        if view["state"] != state:
            raise Violation(f"{key} is {view['state']} and was told to be {state}")
        if state == "memory":
            held = view["who_has"]
            if not held or not members.issuperset(held) or len(set(held)) < len(held):
                raise Violation(f"{key} is in memory on {held}; there are {members}")
        elif state in NEEDS_INPUTS:
            if state == "processing" and view["processing_on"] not in members:
                raise Violation(f"{key} is processing on {view['processing_on']}, which is gone")
            missing = 0
            for each in view["dependencies"]:
                missing += self.states.get(each) != "memory"
            if missing != view["waiting_on"]:
                raise Violation(f"{key} waits for {view['waiting_on']} inputs; {missing} are missing")
            if not view["wanted"] and not view["waiters"]:
                raise Violation(f"{key} is {state} and nobody needs it")

    # -- everything

    def everything(self) -> None:
        """Count all that can be counted again."""
        self.core.validate()
        for worker in self.workers:
            if worker.core is not None:
                inspect.validate(worker.core)

    def at_rest(self) -> None:
        """Nothing moves any more: what is wanted is there, and everybody believes the same."""
        self.everything()
        for client in self.clients:
            if client.is_over or not client.process.alive:
                continue
            require(client.is_connected, f"{client.name} is not connected")
            for key, future in client.futures.items():
                if future.state == PENDING:
                    view = self.core.task_view(self.program.specs[key].canonical)
                    raise Violation(f"{client.name} waits for {key} for ever; the scheduler says {view}")
                self.check_outcome(client, key)
        self._check_data()
        left = [place for place in self._watched if self._is_alive(place[0])]
        require(not left, f"nobody was told that these are done: {left[:5]}")

    def _is_alive(self, name: str) -> bool:
        return any(client.name == name and client.process.alive and not client.is_over for client in self.clients)

    def _check_data(self) -> None:
        """I3, I4: every worker holds what the scheduler says, with the right value, and nothing else."""
        by_address = {worker.address: worker for worker in self.workers if worker.core is not None}
        believed: dict[str, dict[int, int]] = {address: {} for address in by_address}
        for view in self.core.tasks():
            key, state = view["key"], view["state"]
            require(state in ("memory", "erred", "released", "no_worker", "waiting"), f"{key} is {state} at rest")
            for address in view["who_has"]:
                require(address in by_address, f"{key} is held by {address}, which is gone")
                require(view["id"] in by_address[address].store, f"{key} is not at {address}")
                value = by_address[address].store[view["id"]]
                require(value == self.program.expected(key), f"{key} is {value} at {address}")
                believed[address][view["id"]] = view["nbytes"]
        for address, worker in by_address.items():
            assert worker.core is not None
            held = {task_id: nbytes for task_id, _, nbytes in inspect.held(worker.core)}
            require(set(held) == set(worker.store), f"the store of {address} is not what its core holds")
            surplus = set(held) ^ set(believed[address])
            require(not surplus, f"{address} and the scheduler disagree about {sorted(surplus)[:5]}")
            shown = self.core.worker_view(worker.core.number)
            require(
                (shown["processing"], shown["ahead"], shown["occupancy"], shown["held"], shown["nbytes"])
                == (0, 0, 0.0, len(held), sum(believed[address].values())),
                f"the figures of {address} at rest are {shown}",
            )
            busy = {name: count for name, count in inspect.state_counts(worker.core).items() if count}
            require(not set(busy) - {"memory"}, f"{address} has {busy} at rest")

    def at_the_end(self) -> None:
        """I5: nobody wants anything any more, and nothing is left."""
        self.everything()
        left = self.core.tasks()
        require(not left, f"the scheduler has {len(left)} tasks left, such as {left[:1]}")
        for worker in self.workers:
            if worker.core is not None:
                counts = {name: count for name, count in inspect.state_counts(worker.core).items() if count}
                require(not counts and not worker.store, f"{worker.process.name} has {counts} left")
        for client in self.clients:
            if client.process.alive and not client.is_over:
                require(not len(client.table), f"{client.name} has {len(client.table)} slots left")


class Recording:
    """I7: all events of a scheduler core, to be fed to another one.

    Parameters
    ----------
    core : SchedulerCore
        The one to record, before anything happened to it.
    """

    def __init__(self, core: SchedulerCore) -> None:
        self.events: list[tuple[str, tuple[Any, ...]]] = []
        core.recorder = self.events.append

    def replay(self, epoch: int, seeds: tuple[int, int], settings: dict[str, float]) -> str:
        """The digest of the commands of a new core that hears the same."""
        core = SchedulerCore(epoch, seeds, settings)
        digest = blake2b(digest_size=16)
        for name, arguments in self.events:
            answer = getattr(core, name)(*arguments)
            if name == "act":
                digest_commands(digest, answer)
        return digest.hexdigest()


def digest_commands(digest: Any, commands: Sequence[tuple[int, int, int, bytes]]) -> None:
    """Add the commands of one `act`."""
    for target, number, kind, body in commands:
        digest.update(b"%d %d %d" % (target, number, kind))
        digest.update(body)


__all__ = ["ALWAYS", "Monitor", "Recording", "Violation"]
