"""The reference model's decisions: queue, placement, lookahead and balance in their simplest form.

The core's policies are copied exactly, ties included, with one bound: balance looks at all workers, where
the core takes a sample of 16.
May import: tests.model.records.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.model.records import CLASS_NANOSECONDS, Options, Prefix, Run, State, Task, Universe, Worker

MAX_AHEAD = 4096
MAX_AHEAD_INPUTS = 16
MAX_ASKED = 1024
SMALLEST_RUN = 8


class Queue:
    """Ready tasks that are bound to no worker."""

    def __init__(self, universe: Universe) -> None:
        self.universe = universe
        self.loose: list[Task] = []
        self.runs: list[Run] = []
        self.claimers: list[Worker] = []
        self.serial = 0

    @property
    def size(self) -> int:
        """Entries that were not taken; some may be stale."""
        return len(self.loose) + sum(self.unserved(run) for run in self.runs)

    def unserved(self, run: Run) -> int:
        """What of a run was not taken."""
        claimed = sum(len(worker.claim) for worker in self.universe.workers if worker.claimed_run is run)
        return len(run.unclaimed) + sum(map(len, run.returned)) + claimed

    def push(self, task: Task) -> None:
        """Queue one task."""
        self.loose.append(task)

    def push_run(self, tasks: list[Task]) -> None:
        """Queue the root tasks of a frame, sorted by order."""
        if len(tasks) < SMALLEST_RUN:
            self.loose += tasks
            return
        self.serial += 1
        self.runs.append(Run(tasks[0].priority, tasks[0].rank, self.serial, tasks))
        self.runs.sort(key=lambda run: (run.priority, run.rank, run.serial))

    def _best_loose(self) -> Task:
        return min(self.loose, key=lambda task: (task.priority, task.rank, task.id))

    def _head(self, worker: Worker) -> tuple[Task, Callable[[], None]]:
        """The next entry for a worker, and how to remove it."""
        if self.loose:
            best = self._best_loose()
            if not self.runs or (best.priority, best.rank) <= (self.runs[0].priority, self.runs[0].rank):
                return best, lambda: self.loose.remove(best)
        run = self.runs[0]
        if worker.claimed_run is not run or not worker.claim:
            self.give_back(worker)
            self._claim(worker, run)
        return worker.claim[0], lambda: self._take_claimed(worker, run)

    def _take_claimed(self, worker: Worker, run: Run) -> None:
        del worker.claim[0]
        if not self.unserved(run):
            self.runs.remove(run)

    def _claim(self, worker: Worker, run: Run) -> None:
        claimers = self.claimers
        if run.returned:
            worker.claim = run.returned.pop()
        elif run.unclaimed:
            share = len(run.unclaimed) // (2 * (len(self.universe.running()) or 1)) or 1
            worker.claim, run.unclaimed = run.unclaimed[:share], run.unclaimed[share:]
        else:
            while not (claimers[-1].claimed_run is run and claimers[-1].claim):
                self.give_back(claimers.pop())
            half = len(claimers[-1].claim) // 2
            worker.claim, claimers[-1].claim = claimers[-1].claim[half:], claimers[-1].claim[:half]
        worker.claimed_run = run
        if worker not in claimers:
            claimers.append(worker)

    def give_back(self, worker: Worker) -> None:
        """Return what a worker claimed and did not take."""
        if worker.claim and worker.claimed_run is not None:
            worker.claimed_run.returned.append(worker.claim)
        worker.claim, worker.claimed_run = [], None

    def next_for(self, worker: Worker) -> tuple[Task, Callable[[], None]] | None:
        """The next ready task for a worker."""
        while self.loose or self.runs:
            task, take = self._head(worker)
            if task.alive and task.state is State.READY:
                return task, take
            take()
        return None


class Policy:
    """Where tasks go; `assign` and `retract` carry it out."""

    def __init__(
        self,
        universe: Universe,
        queue: Queue,
        assign: Callable[[Task, Worker, bool], None],
        ask_back: Callable[[Task], None],
    ) -> None:
        self.universe = universe
        self.queue = queue
        self.assign = assign
        self.ask_back = ask_back

    def place(self) -> None:
        """Everything that became ready, then the queue, then what can go ahead."""
        for task in self.universe.became_ready:
            if task.alive and task.state is State.READY:
                self._place_ready(task)
        self.universe.became_ready.clear()
        self._serve_queue()
        self._send_ahead()

    def _place_ready(self, task: Task) -> None:
        if task.options and self._place_elsewhere(task, task.options):
            return
        if task.options and task.options.restricted:
            self._place_restricted(task, task.options)
        elif task.needs and self.universe.running():
            self._place_near(task)
        else:
            self.queue.push(task)

    def _give(self, task: Task, worker: Worker) -> None:
        self.assign(task, worker, False)
        if task.dependents:
            self.universe.assigned.append(task)

    def _place_restricted(self, task: Task, options: Options) -> None:
        running = [worker for worker in options.candidates or () if worker.running]
        if running:
            best = min(running, key=lambda worker: (not worker.fits(options), worker.rank))
            self._give(task, best)
            best.weigh()
        elif options.loose and self.universe.running():
            self._place_near(task)
        else:
            task.state = State.NO_WORKER
            self.universe.no_worker.append(task)

    def _place_elsewhere(self, task: Task, options: Options) -> bool:
        """To the least loaded of the workers on which it did not raise."""
        candidates = options.candidates if options.candidates is not None else self.universe.running()
        others = [worker for worker in candidates if worker.running and worker is not task.avoid]
        if task.avoid is None or not others:
            return False
        best = min(others, key=lambda worker: (worker.rank, worker.number))
        self._give(task, best)
        best.weigh()
        return True

    def _place_near(self, task: Task) -> None:
        least = self.universe.running()[0]
        bytes_at: dict[Worker, int] = {}
        for needed in task.needs:
            for holder in needed.holders:
                bytes_at[holder] = bytes_at.get(holder, 0) + needed.nbytes + 1
        near = [worker for worker in bytes_at if worker.running]
        if not near:
            self.queue.push(task)
            return
        total = sum(needed.nbytes + 1 for needed in task.needs)
        best = min(near, key=lambda worker: (-bytes_at[worker], worker.rank))
        settings = self.universe.settings
        there = best.load + (total - bytes_at[best]) / settings["bandwidth"]
        elsewhere = least.load + settings["latency"]
        elsewhere += (total - bytes_at.get(least, 0)) / settings["bandwidth"]
        chosen = best if there <= elsewhere else least
        self._give(task, chosen)
        chosen.weigh()

    def _has_room(self, worker: Worker, prefix: Prefix) -> bool:
        settings = self.universe.settings
        if worker.pressing < math.ceil(settings["saturation"] * worker.nthreads):
            return True
        if prefix.duration < 0 or prefix.nbytes > settings["bulky_bytes"]:
            return False
        return worker.occupancy < int(settings["prefill"] * 1e9) * worker.nthreads

    def _serve_queue(self) -> None:
        while self.queue.size and self.universe.running():
            worker = self.universe.running()[0]
            share = self.queue.size // len(self.universe.running()) + 1
            for served in range(share):
                entry = self.queue.next_for(worker)
                if entry is None or not self._has_room(worker, entry[0].prefix):
                    if served == 0:
                        return
                    break
                entry[1]()
                self._give(entry[0], worker)
            worker.weigh()

    # -- lookahead

    def _send_ahead(self) -> None:
        for task in self.universe.assigned:
            self._follow(task)
        self.universe.assigned.clear()
        for task in self.universe.may_go_ahead:
            if task.alive and task.state is State.WAITING and self._try_ahead(task):
                self._follow(task)
        self.universe.may_go_ahead.clear()

    def _follow(self, start: Task) -> None:
        chain = [start]
        while chain:
            task = chain.pop()
            if task.alive and task.state is State.PROCESSING:
                for dependent in task.dependents:
                    if dependent.state is State.WAITING and self._try_ahead(dependent):
                        chain.append(dependent)

    def _try_ahead(self, task: Task) -> bool:
        unfinished = [needed for needed in task.needs if needed.state is not State.MEMORY]
        if len(task.needs) > MAX_AHEAD_INPUTS or any(
            needed.state is not State.PROCESSING or needed.asked_back for needed in unfinished
        ):
            return False
        on = {needed.worker for needed in unfinished}
        worker = on.pop()
        if on or worker is None or not worker.running or not self._may_take_ahead(worker, task):
            return False
        self.assign(task, worker, True)
        worker.weigh()
        return True

    def _may_take_ahead(self, worker: Worker, task: Task) -> bool:
        settings, prefix = self.universe.settings, task.prefix
        if worker.ahead >= MAX_AHEAD:
            return False
        heavy = prefix.duration < 0 or prefix.nbytes > settings["bulky_bytes"]
        if heavy and worker.ahead > worker.nthreads:
            return False
        least = self.universe.running()[0].load
        if worker.load >= least + settings["prefill"] and len(worker.processing) > worker.nthreads:
            return False
        options = task.options
        return not options or options.candidates is None or worker in options.candidates or options.loose

    # -- balance

    def balance(self) -> None:
        """An idle worker is given what a loaded one has not started."""
        running = self.universe.running()
        if len(running) < 2 or running[0].startable >= running[0].nthreads:
            return
        thief = running[0]
        victim = min(running, key=lambda worker: (-worker.load, worker.number))
        startable = victim.startable
        gap = int((victim.load - thief.load) * 1e9)
        if victim is thief or any(task.asked_back for task in victim.processing):
            return
        if startable <= victim.nthreads or gap < 2 * int(self.universe.settings["latency"] * 1e9):
            return
        self._ask_for_half(victim, thief, gap, startable)

    def _ask_for_half(self, victim: Worker, thief: Worker, gap: int, startable: int) -> None:
        wanted = gap // 2 * thief.nthreads
        moved = asked = 0
        for looked, task in enumerate(reversed(victim.processing)):
            duration = CLASS_NANOSECONDS[task.booked]
            if moved >= wanted or asked >= MAX_ASKED or looked >= 4 * MAX_ASKED:
                return
            if startable - asked <= victim.nthreads or moved + duration > wanted + duration // 2:
                return
            options = task.options
            allowed = not options or options.candidates is None or thief in options.candidates
            if allowed and not (task.asked_back or task.started or task.ahead):
                self.ask_back(task)
                asked += 1
                moved += duration
