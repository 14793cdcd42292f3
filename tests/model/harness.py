"""Core and reference model side by side: one event goes to both, and afterwards both must look the same.

May import: fastdist._core, tests.model, tests.core.scheduler.frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastdist._core.codec.frames import FrameKind
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.core import SchedulerCore
from fastdist.errors import FrameError
from tests.core.scheduler.frames import (
    EPOCH,
    DoneRow,
    TaskRow,
    done_frame,
    read_free,
    read_retract,
    read_run,
    read_state,
    release_frame,
    tasks_frame,
)
from tests.model.records import Options, State, Task
from tests.model.reference import Refused
from tests.model.reference_workers import FullReference


class Pair:
    """A core and a model that hear the same."""

    def __init__(self, **settings: float) -> None:
        self.core = SchedulerCore(EPOCH, (1, 2), settings)
        self.model = FullReference(**settings)
        self.by_id: dict[int, Task] = {}
        self.functions: list[dict[int, bytes]] = []
        self.options: list[dict[int, bytes]] = []
        self.option_numbers: dict[Options, int] = {}
        self.now = 0.0

    # -- events ---------------------------------------------------------------------------------------

    def both(self, name: str, *arguments: Any) -> Any:
        """An event whose arguments and answer are the same for both."""
        answer = getattr(self.core, name)(*arguments)
        assert getattr(self.model, name)(*arguments) == answer
        self.compare()
        return answer

    def add_worker(self, nthreads: int, resources: dict[str, float]) -> int:
        """A worker registers."""
        self.functions.append({})
        self.options.append({})
        return self.both("on_worker", f"tcp://10.0.0.{len(self.options)}:1", nthreads, False, resources)

    def register(self, options: Options, workers: Sequence[int] | None) -> int:
        """Options for the next frame; `workers=None` means any."""
        restricted = workers is not None
        number = self.core.on_options(
            options.priority,
            options.retries,
            restricted,
            options.loose,
            options.needs,
            options.for_worker,
            None,
        )
        self.option_numbers[options] = number
        if workers is not None:
            self.candidates(options, workers)
        return number

    def candidates(self, options: Options, workers: Sequence[int]) -> None:
        """The workers that options allow changed."""
        self.core.on_candidates(self.option_numbers[options], list(workers))
        self.model.on_candidates(options, workers)

    def submit(
        self,
        client: int,
        first_id: int,
        rows: Sequence[TaskRow],
        options: Sequence[Options] = (),
        *,
        last: bool = True,
        submission: int = 1,
        fifo_timeout: float = 0.0,
        known_functions: Sequence[bytes] = (),
    ) -> None:
        """A TASKS frame, legal or not."""
        how = {"last": last, "submission": submission, "fifo_timeout": fifo_timeout}
        how["known_functions"] = known_functions
        body = tasks_frame(first_id, rows, **how)  # type: ignore[arg-type]
        numbers = [self.option_numbers[one] for one in options]
        refused = False
        try:
            self.model.on_tasks(client, first_id, rows, options, self.now, **how)  # type: ignore[arg-type]
        except Refused:
            refused = True
        try:
            self.core.on_tasks(client, body, numbers, self.now)
        except FrameError:
            assert refused, "the core refused a frame that the model takes"
        else:
            assert not refused, "the core took a frame that the model refuses"
        self.compare()

    def scatter(self, client: int, first_id: int, keys: list[bytes]) -> None:
        """A client announces data."""
        try:
            expected = self.model.on_scatter(client, first_id, keys)
        except Refused:
            try:
                self.core.on_scatter(client, first_id, keys)
            except FrameError:
                return
            raise AssertionError("the core took ids that were used") from None
        answer = self.core.on_scatter(client, first_id, keys)
        self.compare()
        assert answer == [(task.id, there) for task, there in expected]

    def release(self, client: int, ids: Sequence[int], functions: Sequence[bytes]) -> None:
        """A RELEASE frame."""
        self.core.on_release(client, release_frame(ids, functions))
        self.model.on_release(client, ids, functions)
        self.compare()

    def done(self, worker: int, rows: Sequence[DoneRow], new_types: Sequence[str] = (), epoch: int = EPOCH) -> None:
        """A DONE frame, legal or not."""
        known = [(self.by_id.get(row.id), row) for row in rows]
        refused = False
        try:
            self.model.on_done(worker, known, new_types, epoch == EPOCH, self.now)
        except Refused:
            refused = True
        try:
            self.core.on_done(worker, done_frame(rows, new_types, epoch), self.now)
        except FrameError:
            assert refused, "the core refused a frame that the model takes"
        else:
            assert not refused, "the core took a frame that the model refuses"
        self.compare()

    def death_report(self, address: str, executing: Sequence[tuple[int, int]]) -> None:
        """A nanny explains a death."""
        self.core.on_death_report(address, list(executing), "signal 9")
        known = [(self.by_id[id], attempt) for id, attempt in executing]
        self.model.on_death_report(address, known, "signal 9")
        self.compare()

    def about(self, name: str, tasks: Sequence[Task], *more: Any, worker: int | None = None) -> Any:
        """An event about tasks, which the core knows by id."""
        first = () if worker is None else (worker,)
        answer = getattr(self.core, name)(*first, [task.id for task in tasks], *more)
        assert getattr(self.model, name)(*first, tasks, *more) == answer
        self.compare()
        return answer

    # -- commands -------------------------------------------------------------------------------------

    def act(self) -> None:
        """Both decide; the commands must be the same."""
        commands = self.plain(self.core.act())
        expected = self.model.act()
        for peer in {**commands, **expected}:
            assert commands.get(peer) == expected.get(peer), f"commands for {peer} differ"
        self.compare()

    def plain(self, commands: list[tuple[int, int, int, bytes]]) -> dict[tuple[str, int], Any]:
        """The core's commands in the model's form, checked for order and for what is sent once."""
        answer: dict[tuple[str, int], Any] = {}
        for _, number, kind, body in commands:
            if kind == FrameKind.STATE:
                rows = [
                    (row.id, row.status, row.nbytes, row.type, row.payload) for row in read_state(number, body).rows
                ]
                answer["state", number] = sorted(rows, key=lambda row: row[0])
            elif kind == FrameKind.FREE:
                assert ("run", number) not in answer, "FREE must come before RUN"
                free = read_free(number, body)
                gone = [self.functions[number].pop(function) for function in free.functions]
                answer["free", number] = sorted(free.ids), sorted(gone)
            elif kind == FrameKind.RUN:
                answer["run", number] = self.plain_run(number, body)
            else:
                answer["retract", number] = list(read_retract(number, body).tasks)
        return answer

    def plain_run(self, worker: int, body: bytes) -> tuple[Any, ...]:
        """A RUN frame without the core's numbers for functions and options."""
        run = read_run(worker, body)
        for number, payload in run.functions:
            assert number not in self.functions[worker], "a function is sent twice"
            self.functions[worker][number] = payload
        self.options[worker].update(run.options)
        rows = []
        for row in run.rows:
            function = self.functions[worker][row.function]
            inputs = [(needed.id, needed.nbytes, list(needed.holders)) for needed in row.inputs]
            option = self.options[worker][row.option] if row.option else b""
            shared = (row.id, row.attempt, function, row.priority, row.rank, row.key, row.arguments, inputs)
            rows.append((*shared, row.inline, row.ahead, option, row.failures))
        functions = sorted(payload for _, payload in run.functions)
        return rows, functions, sorted(payload for _, payload in run.options), sorted(run.addresses)

    # -- what is --------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Everything that can be asked must be the same on both sides."""
        self.core.validate()
        views = {encode_key(view["key"]): view for view in self.core.tasks()}
        tasks = self.model.tasks
        assert sorted(views) == sorted(tasks)
        for key, view in views.items():
            task = tasks[key]
            if task.id < 0:
                assert view["id"] not in self.by_id, "an id means a second task"
                task.id = view["id"]
                self.by_id = {id: known for id, known in self.by_id.items() if known is not task}
                self.by_id[task.id] = task
        for key, view in views.items():
            assert self.of_core(view) == self.of_model(tasks[key]), f"{key!r} differs"
        self.compare_counters()

    @staticmethod
    def of_core(view: dict[str, Any]) -> dict[str, Any]:
        """The fields of a view that count."""
        shown = {name: value for name, value in view.items() if name not in ("key", "flags", "waiting_on", "type")}
        shown["inline"], shown["ahead"], shown["started"], shown["asked_back"] = (
            bool(view["flags"] & bit) for bit in (1, 2, 4, 8)
        )
        needed = view["state"] in ("waiting", "ready", "no_worker", "processing")
        shown["waiting_on"] = view["waiting_on"] if needed else 0
        shown["type"] = view["type"] if view["state"] == "memory" else ""
        shown["dependencies"] = [encode_key(key) for key in view["dependencies"]]
        return shown

    def of_model(self, task: Task) -> dict[str, Any]:
        """The same fields of a model's task."""
        return {
            "id": task.id,
            "state": task.state.value,
            "attempt": task.attempt,
            "dependencies": [needed.key for needed in task.needs],
            "waiting_on": task.waiting_on if task.is_needed else 0,
            "waiters": task.waiters,
            "dependents": len(task.dependents),
            "wanted": bool(task.wants),
            "who_has": [worker.address for worker in task.holders],
            "processing_on": task.worker.address if task.worker else None,
            "nbytes": task.nbytes if task.state is State.MEMORY else 0,
            "type": task.type if task.state is State.MEMORY else "",
            "kept": task.kept,
            "retry_at": task.due,
            "attempts": task.attempts(self.model.universe.settings["allowed_failures"]),
            "retries": task.retries,
            "suspicious": task.suspicious,
            "has_work": task.function is not None,
            "inline": task.inline,
            "ahead": task.ahead,
            "started": task.started,
            "asked_back": task.asked_back,
        }

    def compare_counters(self) -> None:
        """Counts by state, and the load of each worker."""
        counts = self.core.counts()
        states = [task.state for task in self.model.tasks.values()]
        for state in State:
            assert counts[state.value] == states.count(state)
        assert counts["stale_results"] == self.model.universe.stale
        assert counts["queued"] == self.model.queue.size
        deadlines = [*self.model.lost_clients.values()]
        deadlines += [task.due for task in self.model.tasks.values() if task.due is not None]
        assert self.core.next_deadline() == min(deadlines, default=None)
        for worker in self.model.universe.workers:
            view = self.core.worker_view(worker.number)
            assert view["running"] == worker.running
            assert view["processing"] == len(worker.processing)
            assert view["ahead"] == worker.ahead
            assert view["occupancy"] == worker.occupancy * 1e-9
            if worker.alive:
                held = [task for task in self.model.tasks.values() if worker in task.holders]
                assert (view["held"], view["nbytes"]) == (len(held), sum(task.nbytes for task in held))
            processing = [encode_key(key) for key in self.core.processing(worker.number)]
            assert processing == [task.key for task in worker.processing]
