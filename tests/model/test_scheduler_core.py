"""Random events, illegal and stale ones among them, to the core and to the reference model.

Hypothesis draws short sequences and shrinks what fails; seeded walks go deep. `FASTDIST_MODEL_EXAMPLES` sets how
many sequences hypothesis tries (default 40), `FASTDIST_MODEL_STEPS` how long they are, `FASTDIST_MODEL_WALKS` the
number of walks of 300 steps (default 60).
May import: fastdist._core, hypothesis, tests.model, tests.core.scheduler.frames.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from fastdist._core.codec.frames import DoneStatus
from fastdist._core.keys.canonical import encode_key
from fastdist.retries import AGAIN, ELSEWHERE
from tests.core.scheduler.frames import EPOCH, DoneRow, TaskRow
from tests.model.harness import Pair
from tests.model.records import Client, Options, Task, Worker
from tests.model.walk import OUTCOMES, VERDICTS, Walk

MAX_WORKERS = 5
MAX_CLIENTS = 4

small = st.integers(0, 30)
names = st.integers(0, 9)
seconds = st.sampled_from([0.0, 1e-5, 0.001, 0.02, 0.5])
sizes = st.sampled_from([0, 8, 1000, 100_000, 5_000_000])
row_specs = st.tuples(
    names,
    st.lists(small, max_size=3),
    st.sampled_from([b"f", b"f", b"g", b"h", None]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
option_specs = st.tuples(
    st.one_of(st.none(), st.sets(st.integers(0, MAX_WORKERS - 1), max_size=3)),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from([0.0, -1.0, 2.0]),
    st.sampled_from([{}, {}, {"gpu": 1.0}, {"gpu": 2.0, "disk": 1.0}]),
)


class CoreMachine(RuleBasedStateMachine):
    """What may happen to a scheduler."""

    @initialize(threads=st.lists(st.integers(1, 3), min_size=1, max_size=3), failures=st.integers(0, 2))
    def begin(self, threads: list[int], failures: int) -> None:
        """Some workers and a client."""
        self.pair = Pair(allowed_failures=failures)
        self.submissions = 0
        self.roots = 0
        for nthreads in threads:
            self.pair.add_worker(nthreads, {})
        self.pair.both("on_client", "c")

    # -- picks

    @property
    def clients(self) -> list[Client]:
        """Clients that have not gone."""
        return list(self.pair.model.universe.alive_clients())

    @property
    def workers(self) -> list[Worker]:
        """All workers, gone ones too."""
        return self.pair.model.universe.workers

    @property
    def tasks(self) -> list[Task]:
        """All tasks."""
        return list(self.pair.model.tasks.values())

    def client(self, pick: int) -> Client:
        """One of the clients."""
        return self.clients[pick % len(self.clients)]

    def worker(self, pick: int) -> Worker:
        """One of the workers that live, or of all if none does."""
        alive = [worker for worker in self.workers if worker.alive] or self.workers
        return alive[pick % len(alive)]

    # -- clients

    @rule(
        pick=small,
        specs=st.lists(row_specs, min_size=1, max_size=6),
        option=option_specs,
        last=st.booleans(),
        again=st.booleans(),
        skip=st.sampled_from([0, 0, 0, 3]),
        ordered=st.booleans(),
    )
    def submit(
        self, pick: int, specs: list[Any], option: Any, last: bool, again: bool, skip: int, ordered: bool
    ) -> None:
        """A frame of tasks that depend on what the client has named."""
        client = self.client(pick)
        first = max(client.next_id, 1) + skip
        rows = []
        for number, (name, needs, function, wanted, inline, with_option) in enumerate(specs):
            below = first + number - 1
            named = tuple(below - need for need in needs if need < below)
            key = encode_key(f"{'xyz'[name % 3]}-{name}")
            order = (1000 - first - number) if ordered else None
            rows.append(TaskRow(key, function, b"a" * name, named, order, int(with_option), wanted, inline))
        self.send(client, first, rows, option, last, again)

    def send(self, client: Client, first: int, rows: list[TaskRow], option: Any, last: bool, again: bool) -> None:
        """One TASKS frame."""
        if not again:
            self.submissions += 1
        options = []
        if any(row.option for row in rows):
            candidates, loose, retries, priority, needs = option
            packed = repr(needs).encode() if needs else b""
            options = [Options(priority, retries, loose, needs, packed)]
            if needs and candidates is None:
                candidates = range(len(self.workers))
            if candidates is not None:
                candidates = [number for number in candidates if number < len(self.workers)]
            self.pair.register(options[0], candidates)
        known = sorted(client.functions)
        how = {"last": last, "submission": self.submissions, "fifo_timeout": 60.0 if again else 0.0}
        self.pair.submit(client.number, first, rows, options, known_functions=known, **how)

    @rule(pick=small, count=st.integers(8, 40), function=st.sampled_from([b"f", b"g"]), shuffled=st.booleans())
    def submit_roots(self, pick: int, count: int, function: bytes, shuffled: bool) -> None:
        """Many independent tasks at once."""
        client = self.client(pick)
        rows = []
        for number in range(count):
            self.roots += 1
            order = (number * 7) % 41 if shuffled else None
            rows.append(TaskRow(encode_key(f"root-{self.roots:032x}"), function, order=order))
        self.send(client, max(client.next_id, 1), rows, None, True, False)

    @rule(pick=small, kind=st.integers(0, 2))
    def submit_nonsense(self, pick: int, kind: int) -> None:
        """A frame that must be refused whole."""
        client = self.client(pick)
        first = max(client.next_id, 1)
        rows = [TaskRow(encode_key("x-1")), TaskRow(encode_key("nonsense"))]
        if kind == 0:
            first = client.next_id - 1 if client.next_id else 0
        elif kind == 1:
            rows[1].needs = (first + 1,)
        else:
            rows[1].function = b"unheard of"
        known = [b"unheard of"] if kind == 2 else []
        self.pair.submit(client.number, first, rows, submission=self.submissions, known_functions=known)

    @rule(pick=small, chosen=st.lists(names, min_size=1, max_size=3), used=st.booleans())
    def scatter(self, pick: int, chosen: list[int], used: bool) -> None:
        """Data is announced."""
        client = self.client(pick)
        first = client.next_id - 1 if used and client.next_id else max(client.next_id, 1)
        self.pair.scatter(client.number, first, [encode_key(f"{'xyzd'[n % 4]}-{n}") for n in chosen])

    @rule(pick=small, picks=st.lists(small, max_size=8), functions=st.sets(st.sampled_from([b"f", b"g", b"h"])))
    def release(self, pick: int, picks: list[int], functions: set[bytes]) -> None:
        """Futures are dropped, some of them twice or never had."""
        client = self.client(pick)
        ids = [max(client.next_id - number, 0) for number in picks]
        self.pair.release(client.number, ids, sorted(functions))

    @rule(pick=small)
    def release_all(self, pick: int) -> None:
        """A client lets go of everything."""
        client = self.client(pick)
        self.pair.release(client.number, list(client.ids), sorted(client.functions))

    @rule(pick=small, chosen=st.lists(names, max_size=2), force=st.booleans())
    def cancel(self, pick: int, chosen: list[int], force: bool) -> None:
        """Cancel by key."""
        keys = [encode_key(f"{'xyz'[name % 3]}-{name}") for name in chosen]
        self.pair.both("on_cancel", self.client(pick).number, keys, force, b"why")

    @rule(pick=small, chosen=st.lists(small, max_size=3))
    def retry(self, pick: int, chosen: list[int]) -> None:
        """Try again, perhaps what never was."""
        erred = [task.key for task in self.tasks if task.state == "erred"] + [encode_key("x-0")]
        keys = [erred[number % len(erred)] for number in chosen]
        self.pair.both("on_retry", keys, self.client(pick).number, [1000 + number for number in chosen])

    @rule()
    def restart(self) -> None:
        """Cancel everything."""
        self.pair.both("on_restart", b"restart")

    @rule(picks=st.lists(small, max_size=3))
    def scatter_failed(self, picks: list[int]) -> None:
        """Data does not come; some of it had come already."""
        known = [task for task in self.pair.by_id.values() if task.function is None][-20:]
        if known:
            self.pair.about("on_scatter_failed", [known[pick % len(known)] for pick in picks], b"lost on the way")

    @rule(pick=small, picks=st.lists(small, max_size=4), kept=st.integers(0, 3))
    def copies(self, pick: int, picks: list[int], kept: int) -> None:
        """Copies are asked for, dropped, and reduced to what is needed."""
        held = [task for task in self.tasks if task.holders]
        chosen = [held[number % len(held)] for number in picks] if held else []
        if kept == 0:
            self.pair.about("on_drop_copies", chosen, worker=self.worker(pick).number)
        elif kept == 1:
            self.pair.both("on_reduce_copies")
        else:
            self.pair.about("on_kept", chosen, kept - 1)

    @precondition(lambda self: len(self.pair.model.universe.clients) < MAX_CLIENTS)
    @rule()
    def add_client(self) -> None:
        """Another client."""
        self.pair.both("on_client", "d")

    @precondition(lambda self: len(self.clients) > 1)
    @rule(pick=small, how=st.sampled_from(["closed", "lost", "lost"]))
    def leave(self, pick: int, how: str) -> None:
        """A client goes, or its connection breaks."""
        if how == "closed":
            self.pair.both("on_client_closed", self.client(pick).number)
        else:
            self.pair.both("on_client_lost", self.client(pick).number, self.pair.now)

    @rule(passed=st.sampled_from([0.4, 3.0, 30.0]))
    def pass_time(self, passed: float) -> None:
        """Waits for another attempt end."""
        if not self.pair.model.lost_clients:
            self.pair.now += passed
            self.pair.both("on_tick", self.pair.now)

    @precondition(lambda self: len(self.clients) > 1)
    @rule(pick=small, back=st.booleans(), passed=st.sampled_from([1.0, 40.0]))
    def wait(self, pick: int, back: bool, passed: float) -> None:
        """A lost client comes back, and time passes."""
        if back:
            self.pair.both("on_client_back", self.client(pick).number)
        if len(self.pair.model.lost_clients) < len(self.clients):
            self.pair.now += passed
            self.pair.both("on_tick", self.pair.now)

    @rule(pick=small, allowed=st.booleans())
    def inline(self, pick: int, allowed: bool) -> None:
        """The queue to a client is long, or short again."""
        self.pair.both("on_inline_allowed", self.client(pick).number, allowed)

    # -- workers

    @precondition(lambda self: len(self.workers) < MAX_WORKERS)
    @rule(nthreads=st.integers(1, 3), resources=st.sampled_from([{}, {"gpu": 1.0}, {"gpu": 2.0, "disk": 1.0}]))
    def add_worker(self, nthreads: int, resources: dict[str, float]) -> None:
        """Another worker; options that ask for any worker may use it."""
        number = self.pair.add_worker(nthreads, resources)
        for options in {task.options for task in self.tasks if task.options and task.options.restricted}:
            old = [worker.number for worker in options.candidates]
            self.pair.candidates(options, [*old, number])

    @rule(pick=small, blamed=st.booleans(), held=st.booleans())
    def lose_worker(self, pick: int, blamed: bool, held: bool = False) -> None:
        """A worker dies; what it was given may wait for its nanny."""
        now = self.pair.now if held and not blamed else None
        self.pair.both("on_worker_lost", self.worker(pick).number, blamed, "gone", now)

    @rule(pick=small, running=st.booleans())
    def pause(self, pick: int, running: bool) -> None:
        """A worker pauses or resumes."""
        self.pair.both("on_worker_status", self.worker(pick).number, running)

    @rule(picks=st.lists(small, max_size=3), later=st.integers(-1, 1))
    def death_report(self, picks: list[int], later: int) -> None:
        """A nanny blames tasks, perhaps with attempts that were or never were."""
        tasks = [task for task in self.tasks if task.attempt]
        if tasks:
            blamed = [tasks[pick % len(tasks)] for pick in picks]
            executing = [(task.id, max(task.attempt + later, 0)) for task in blamed]
            held = list(self.pair.model.awaited)
            self.pair.death_report(held[0] if held else "tcp://10.9.9.9:1", executing)

    def report(self, worker: Worker, rows: list[DoneRow], epoch: int = EPOCH) -> None:
        """One DONE frame."""
        new_types = [] if worker.types or epoch != EPOCH else ["int", "str"]
        self.pair.done(worker.number, rows, new_types, epoch)

    @rule(pick=small, count=st.integers(1, 8), took=seconds, nbytes=sizes, payload=st.sampled_from([b"", b"r"]))
    def finish(self, pick: int, count: int, took: float, nbytes: int, payload: bytes) -> None:
        """A worker finishes its oldest tasks."""
        worker = self.worker(pick)
        rows = [
            DoneRow(task.id, task.attempt, DoneStatus.DONE_FINISHED, nbytes, took, number % 2, payload)
            for number, task in enumerate(worker.processing[:count])
        ]
        self.report(worker, rows)

    @rule(pick=small, which=small, status=st.sampled_from(OUTCOMES), verdict=st.sampled_from(VERDICTS))
    def one_outcome(self, pick: int, which: int, status: DoneStatus, verdict: int) -> None:
        """One task of a worker ends or starts in some way."""
        worker = self.worker(pick)
        if worker.processing:
            task = worker.processing[which % len(worker.processing)]
            size = verdict if status == DoneStatus.DONE_ERRED else 8
            self.report(worker, [DoneRow(task.id, task.attempt, status, size, 0.01, 0, b"error")])

    @rule(pick=small, verdict=st.sampled_from(VERDICTS))
    def fail_one(self, pick: int, verdict: int) -> None:
        """A task that may be tried again raises."""
        failing = [(worker, task) for worker in self.workers for task in worker.processing if task.retries]
        if failing:
            worker, task = failing[pick % len(failing)]
            self.report(worker, [DoneRow(task.id, task.attempt, DoneStatus.DONE_ERRED, verdict, 0.01, 0, b"error")])

    @rule(pick=small, answers=st.lists(st.booleans(), min_size=1, max_size=6))
    def answer_retract(self, pick: int, answers: list[bool]) -> None:
        """A worker answers what it was asked back."""
        worker = self.worker(pick)
        asked = [task for task in worker.processing if task.asked_back]
        rows = [
            DoneRow(task.id, task.attempt, DoneStatus.DONE_RETRACTED + (not given))
            for task, given in zip(asked, answers, strict=False)
        ]
        self.report(worker, rows)

    @rule(pick=small, which=small)
    def unreached(self, pick: int, which: int) -> None:
        """A worker gives a task back, because it did not reach those that have its inputs."""
        worker = self.worker(pick)
        if worker.processing:
            task = worker.processing[which % len(worker.processing)]
            rows = [
                DoneRow(needed.id, 1, DoneStatus.DONE_MISSING, holder.number)
                for needed in task.needs
                for holder in needed.holders
            ]
            verdict = AGAIN | ELSEWHERE | 100_000
            self.report(worker, [*rows, DoneRow(task.id, task.attempt, DoneStatus.DONE_RETRACTED, verdict)])

    @rule(pick=small, which=small, holder=st.integers(0, MAX_WORKERS), missing=st.booleans(), nbytes=sizes)
    def copy(self, pick: int, which: int, holder: int, missing: bool, nbytes: int) -> None:
        """A worker has a copy of data, or misses one."""
        tasks = [task for task in self.tasks if task.holders or task.state == "scattering"] or self.tasks
        if tasks:
            task = tasks[which % len(tasks)]
            status = DoneStatus.DONE_MISSING if missing else DoneStatus.DONE_REPLICA
            self.report(self.worker(pick), [DoneRow(task.id, 0, status, holder if missing else nbytes)])

    @rule(
        pick=st.integers(0, MAX_WORKERS),
        rows=st.lists(st.tuples(small, st.integers(-1, 1), st.integers(0, 9), st.sampled_from([0, 1, 5])), max_size=4),
        wrong_epoch=st.booleans(),
    )
    def nonsense(self, pick: int, rows: list[Any], wrong_epoch: bool) -> None:
        """Any worker says anything about tasks that are or were."""
        worker = self.workers[pick % len(self.workers)]
        known = list(self.pair.by_id.values())[-40:]
        done = []
        for which, shift, status, type in rows:
            task = known[which % len(known)] if known else None
            id, attempt = (task.id, max(task.attempt + shift, 0)) if task else (12345, 1)
            done.append(DoneRow(id, attempt, status, 1, 0.5, type, b"odd"))
        self.report(worker, done, EPOCH + wrong_epoch)

    # -- decisions

    @rule()
    def act(self) -> None:
        """The core decides."""
        self.pair.act()

    @rule(pick=small)
    def act_often(self, pick: int) -> None:
        """As in life: decide, and hear what came of it."""
        self.pair.act()
        self.finish(pick, 2, 0.001, 100, b"r")
        self.pair.act()

    def teardown(self) -> None:
        """Whatever happened, everybody can leave and nothing stays."""
        if not hasattr(self, "pair"):
            return
        self.pair.act()
        for client in self.clients:
            self.pair.both("on_client_closed", client.number)
        self.pair.act()
        assert self.pair.core.n_tasks() == 0


TestCoreAgainstModel = CoreMachine.TestCase
TestCoreAgainstModel.settings = settings(
    max_examples=int(os.environ.get("FASTDIST_MODEL_EXAMPLES", "40")),
    stateful_step_count=int(os.environ.get("FASTDIST_MODEL_STEPS", "50")),
    deadline=None,
    derandomize="FASTDIST_MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    database=None,
)


@pytest.mark.parametrize("seed", range(int(os.environ.get("FASTDIST_MODEL_WALKS", "60"))))
def test_walk(seed: int) -> None:
    Walk(CoreMachine(), seed).run(300)
