"""One seeded run: a cluster, its users and its misfortunes; then it heals, comes to rest and is judged.

May import: its siblings.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any

from fastdist._core.codec.frames import TaskStatus
from fastdist.testing.simulation.client import SimulatedClient
from fastdist.testing.simulation.faults import EVERY_KIND, Faults, revive
from fastdist.testing.simulation.kernel import Kernel
from fastdist.testing.simulation.monitor import Monitor, Recording, Violation
from fastdist.testing.simulation.network import Network, Weather
from fastdist.testing.simulation.scheduler import EPOCH, SEEDS, SimulatedScheduler
from fastdist.testing.simulation.worker import Machine, SimulatedWorker
from fastdist.testing.simulation.workloads import AGAIN, ALWAYS, ELSEWHERE, FINAL, MAKERS, Graph, Program, Spec

#: Steps between two checks of everything; steps after which a run counts as never ending, and seconds: those, and the
#: work of all tasks, on one thread, so many times.
STEPS_PER_CHECK = 10_000
MAX_STEPS = 3_000_000
REST_SECONDS, WORK_FACTOR = 600.0, 5.0
CLIENT_GRACE = 3.0


@dataclass
class Scenario:
    """What a run is made of; `drawn` makes one from a seed.

    Attributes
    ----------
    machines : list of Machine
    n_clients : int
    graphs : list of (str, int)
        Kind and size of each graph that clients may submit.
    actions : int
        What each client does, one after the other.
    fault_rate : float
        Faults a second.
    faults : list of str
        Kinds of faults, as in `faults.EVERY_KIND`.
    weather : Weather
    special : float
        The share of tasks that fail, are rescheduled, wait, are large, or want a certain worker.
    allowed_failures : int
        How many deaths a task may be blamed for.
    seconds : float
        What a task takes.
    scattered : float
        The share of tasks without inputs that need data which clients scatter.
    """

    machines: list[Machine] = field(default_factory=lambda: [Machine("m0"), Machine("m1")])
    n_clients: int = 1
    graphs: list[tuple[str, int]] = field(default_factory=lambda: [("independent", 100)])
    actions: int = 3
    fault_rate: float = 0.0
    faults: list[str] = field(default_factory=lambda: list(EVERY_KIND))
    weather: Weather = field(default_factory=Weather)
    special: float = 0.0
    allowed_failures: int = 3
    seconds: float = 1e-3
    scattered: float = 0.0

    @classmethod
    def drawn(cls, seed: int) -> Scenario:
        """The scenario that belongs to a seed."""
        dice = random.Random(seed ^ 0x5EED)
        machines = [
            Machine(
                f"m{number}",
                dice.choice((1, 1, 2, 4)),
                {"gpu": 2.0} if dice.random() < 0.4 else {},
                nanny=dice.random() < 0.7,
                spilled=dice.choice((0.0, 0.0, 0.3)),
            )
            for number in range(dice.choice((1, 2, 3, 3, 5, 8)))
        ]
        size = dice.choice((20, 60, 60, 200, 1000))
        graphs = [(dice.choice(list(MAKERS)), dice.randint(1, size)) for _ in range(dice.randint(1, 6))]
        return cls(
            machines,
            n_clients=dice.choice((1, 1, 2, 3)),
            graphs=graphs,
            actions=dice.randint(2, 12),
            fault_rate=dice.choice((0.0, 0.5, 2.0, 10.0)),
            faults=dice.sample(EVERY_KIND, dice.randint(1, len(EVERY_KIND))),
            weather=Weather(
                dice.choice((1e-5, 1e-4, 1e-3)), dice.choice((1e-5, 3e-4, 1e-2)), dice.choice((0.0, 0.0, 0.05, 0.3))
            ),
            special=dice.choice((0.0, 0.05, 0.3)),
            allowed_failures=dice.choice((0, 3, 1000)),
            seconds=dice.choice((1e-5, 1e-3, 1e-2, 0.2)),
            scattered=dice.choice((0.0, 0.0, 0.3)),
        )


@dataclass
class Report:
    """How a run went.

    Attributes
    ----------
    seed : int
    trace : str
        The digest of every delivery, with its time.
    steps, transitions, executed, faults : int
        Events; transitions of tasks in scheduler and workers; tasks that were executed; what went wrong.
    seconds, virtual_seconds : float
        What it took, and what it pretended to take.
    """

    seed: int
    trace: str
    steps: int
    transitions: int
    executed: int
    faults: int
    seconds: float
    virtual_seconds: float


class Simulation:
    """A cluster of real cores on a virtual clock.

    Parameters
    ----------
    seed : int
        Of everything that is drawn while it runs.
    scenario : Scenario, optional
        What it is made of; drawn from the seed by default.
    record : bool
        Whether the events of the scheduler are recorded, and replayed at the end.

    Examples
    --------
    >>> Simulation(1, Scenario(graphs=[("chain", 5)])).run().seed
    1
    """

    def __init__(self, seed: int, scenario: Scenario | None = None, record: bool = False) -> None:
        self.seed = seed
        self.scenario = scenario or Scenario.drawn(seed)
        self.kernel = Kernel(seed)
        self.program = Program()
        self.monitor = Monitor(self.program, self.scenario.weather.doubled > 0, self.scenario.allowed_failures)
        self.network = Network(self.kernel, self.scenario.weather)
        self.settings = {"allowed_failures": float(self.scenario.allowed_failures), "client_grace": CLIENT_GRACE}
        self.scheduler = SimulatedScheduler(self.network, self.settings, self.monitor)
        self.recording = Recording(self.scheduler.core) if record else None
        self.scheduler.core.listen(True)
        self.machines = self.scenario.machines
        self.clients: list[SimulatedClient] = []
        self.faults = Faults(self, self.scenario.fault_rate, self.scenario.faults)
        self.graphs = [self._graph(number, *what) for number, what in enumerate(self.scenario.graphs)]
        self._unfinished = 0

    # -- what it is made of

    def _graph(self, number: int, kind: str, size: int) -> Graph:
        dice = self.kernel.random
        specs = MAKERS[kind](dice, f"{kind}{number}", max(1, size))
        if self.scenario.scattered:
            self._scatter_inputs(number, specs)
        duration = self.scenario.seconds * dice.choice((0.1, 1.0, 1.0, 3.0))
        for spec in specs:
            spec.seconds = duration
            if self.scenario.special and dice.random() < self.scenario.special:
                self._make_special(spec)
            self.program.add(spec)
        return Graph(specs)

    def _scatter_inputs(self, number: int, specs: list[Spec]) -> None:
        """Have some tasks without inputs need data."""
        dice = self.kernel.random
        data = [
            self.program.add(Spec(f"data{number}-{place}", nbytes=dice.choice((28, 100_000)), scattered=True))
            for place in range(dice.randint(1, 3))
        ]
        for spec in specs:
            if not spec.inputs and dice.random() < self.scenario.scattered:
                spec.inputs = (dice.choice(data).key,)

    def _make_special(self, spec: Spec) -> None:
        dice = self.kernel.random
        kind = dice.randrange(8)
        if kind == 0:
            spec.failures = ALWAYS if dice.random() < 0.3 else dice.randint(1, 3)
        elif kind == 1:
            spec.failures = dice.randint(1, 3)
            spec.retries = dice.randint(1, 4)
            spec.options = {"retries": spec.retries}
            # Drawn by the key: the dice of the kernel fall as they did before there were policies.
            verdicts = (0, FINAL, AGAIN | 500, AGAIN | 2_000_000, AGAIN | ELSEWHERE, AGAIN | ELSEWHERE | 300_000)
            spec.verdict = verdicts[spec.salt % len(verdicts)]
        elif kind == 2:
            spec.reschedules = dice.randint(1, 2)
        elif kind == 3:
            spec.waits = True
        elif kind == 4:
            spec.nbytes = dice.choice((10_000, 300_000, 5_000_000))
        elif kind == 5:
            chosen = dice.sample(self.machines, dice.randint(1, len(self.machines)))
            spec.options = {"workers": [machine.name for machine in chosen]}
            if dice.random() < 0.3:
                spec.options["allow_other_workers"] = True
        elif kind == 6 and any(machine.resources for machine in self.machines):
            spec.options = {"resources": {"gpu": dice.choice((1.0, 2.0))}}
        else:
            spec.options = {"priority": dice.choice((-1.0, 1.0, 5.0))}

    def add_worker(self, machine: Machine) -> None:
        """Start a worker."""
        SimulatedWorker(machine, self.network, self.program, self.monitor, self._worker_ended)

    def kill_worker(self, worker: SimulatedWorker) -> None:
        """A worker's process ends; its nanny, if it has one, tells why, and starts another one."""
        executing = list(worker.executing.items())
        if worker.machine.nanny and worker.core is not None:
            self.monitor.blamed(worker.executing_keys.values())
            late = self.kernel.random.random() * self.kernel.random.choice((0.01, 0.2, 5.0))
            self.kernel.after(late, self._report_death, worker.address, executing)
        worker.process.kill()
        self._worker_ended(worker.machine)

    def _report_death(self, address: str, executing: list[tuple[int, int]]) -> None:
        fields = {"address": address, "executing": executing}
        self.scheduler.process.enter(self.scheduler.hear_nanny, (fields,))

    def _worker_ended(self, machine: Machine) -> None:
        assert machine.worker is not None
        self.monitor.worker_died(machine.worker)
        self.network.listeners.pop(machine.worker.address, None)
        self.kernel.after(0.01 + self.kernel.random.random(), revive, machine, self)

    def add_client(self) -> SimulatedClient:
        """Start a client, and what its user does."""
        name = f"client{len(self.clients)}"
        client = SimulatedClient(name, self.network, self.program, self.monitor, CLIENT_GRACE * 0.5)
        self.clients.append(client)
        self._unfinished += 1
        client.process.on_death.append(self._user_left)
        client.process.after(0.0, self._use, client, self.scenario.actions)
        return client

    # -- what users do

    def _use(self, client: SimulatedClient, left: int) -> None:
        dice = self.kernel.random
        if left == 0 or client.is_over:
            client.process.on_death.remove(self._user_left)
            self._user_left()
            return
        keys = list(client.futures)
        action = dice.random()
        if action < 0.5 or not keys:
            client.submit(dice.choice(self.graphs), dice.choice((1 << 20, 2000)))
        elif action < 0.7:
            client.release(dice.sample(keys, dice.randint(1, len(keys))), dice.random() < 0.3)
        elif action < 0.8:
            client.cancel(dice.sample(keys, dice.randint(1, min(5, len(keys)))), dice.random() < 0.3)
        else:
            failed = [key for key in keys if client.futures[key].state == TaskStatus.STATUS_ERRED]
            client.retry(dice.sample(failed, dice.randint(1, len(failed))) if failed else [])
        client.process.after(dice.expovariate(1.0) * dice.choice((1e-3, 0.1, 1.0)), self._use, client, left - 1)

    def _user_left(self) -> None:
        self._unfinished -= 1
        if self._unfinished == 0:
            self.kernel.after(0.0, self.faults.heal)

    # -- running

    def run(self) -> Report:
        """Run to the end and judge.

        Returns
        -------
        Report
            What happened.

        Raises
        ------
        Violation
            If something is not as it must be.
        """
        began = time.perf_counter()
        for machine in self.machines:
            self.add_worker(machine)
        for _ in range(self.scenario.n_clients):
            self.add_client()
        self.faults.begin()
        self._to_rest("the run")
        self.monitor.at_rest()
        if self.recording is not None:
            self._check_replay()
        for client in self.clients:
            if client.process.alive and not client.is_over:
                client.release(list(client.futures), forget_functions=True)
        self._to_rest("the end")
        self.monitor.at_the_end()
        kernel = self.kernel
        return Report(
            self.seed, kernel.trace, kernel.steps, self.monitor.transitions, self.monitor.executed,
            self.faults.happened, time.perf_counter() - began, kernel.now,
        )  # fmt: skip

    def _to_rest(self, what: str) -> None:
        kernel = self.kernel
        healed_at = None
        patience = REST_SECONDS + WORK_FACTOR * sum(spec.seconds for spec in self.program.specs.values())
        while kernel.step():
            if kernel.steps % STEPS_PER_CHECK == 0:
                self.monitor.everything()
                if kernel.steps > MAX_STEPS:
                    raise Violation(f"{what} does not come to rest in {MAX_STEPS} steps")
            if self.faults.is_over or not self.faults.rate:
                if healed_at is None and self._unfinished == 0:
                    healed_at = kernel.now
                elif healed_at is not None and kernel.now > healed_at + patience:
                    raise Violation(f"{what} does not come to rest in {patience:.0f} s after the last fault")

    def _check_replay(self) -> None:
        assert self.recording is not None
        events = len(self.recording.events)
        again = self.recording.replay(EPOCH, SEEDS, self.settings)
        if again != self.monitor.commands:
            raise Violation(f"{events} recorded events gave other commands when they were replayed")


def run_seed(seed: int, record: bool = False, **changes: Any) -> Report:
    """Run the scenario of a seed; `changes` replace what was drawn.

    Raises
    ------
    Violation
        If something is not as it must be; the text begins with the seed.
    """
    scenario = Scenario.drawn(seed)
    for name, value in changes.items():
        if not hasattr(scenario, name):
            raise TypeError(f"a scenario has no {name!r}")
        setattr(scenario, name, value)
    simulation = Simulation(seed, scenario, record)
    try:
        return simulation.run()
    except Exception as error:
        raise Violation(
            f"seed {seed}, step {simulation.kernel.steps}, after {simulation.kernel.now:.6f} s: "
            f"{type(error).__name__}: {error}"
        ) from error


def assert_seed_passes(seed: int, **changes: Any) -> Report:
    """Run a seed with everything checked, its events recorded and replayed: a regression test of one line.

    Examples
    --------
    >>> assert_seed_passes(1).seed
    1
    """
    return run_seed(seed, record=True, **changes)
