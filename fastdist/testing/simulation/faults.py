"""What goes wrong in a simulation, and when: drawn by the dice until everything heals.

May import: its siblings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastdist.testing.simulation.client import SimulatedClient
from fastdist.testing.simulation.scheduler import BEAT_LIMIT
from fastdist.testing.simulation.worker import Machine, SimulatedWorker

if TYPE_CHECKING:
    from fastdist.testing.simulation.simulation import Simulation

#: Seconds in which the kernel of a machine that is there tells that a connection is over.
RESET = 1e-3


class Faults:
    """Breaks things.

    Parameters
    ----------
    simulation : Simulation
        What is broken.
    rate : float
        Faults a second.
    kinds : list of str
        Names of methods of this class.
    """

    def __init__(self, simulation: Simulation, rate: float, kinds: list[str]) -> None:
        self.simulation = simulation
        self.kernel = simulation.kernel
        self.dice = simulation.kernel.random
        self.rate = rate
        self.kinds: list[Callable[[], object]] = [getattr(self, kind) for kind in kinds]
        self.happened = 0
        self.is_over = False

    def begin(self) -> None:
        """Have the first fault come."""
        if self.rate > 0 and self.kinds:
            self.kernel.after(self.dice.expovariate(self.rate), self._next)

    def _next(self) -> None:
        if not self.is_over:
            self.dice.choice(self.kinds)()
            self.happened += 1
            self.begin()

    def _worker(self) -> SimulatedWorker | None:
        living = [
            machine.worker
            for machine in self.simulation.machines
            if machine.worker is not None and machine.worker.process.alive
        ]
        return self.dice.choice(living) if living else None

    def _client(self) -> SimulatedClient | None:
        living = [each for each in self.simulation.clients if each.process.alive and not each.is_over]
        return self.dice.choice(living) if living else None

    # -- workers

    def kill_worker(self) -> None:
        """SIGKILL."""
        worker = self._worker()
        if worker is not None:
            self.simulation.kill_worker(worker)

    def freeze_worker(self) -> None:
        """SIGSTOP for a while: short enough not to be noticed, or long enough to be taken for dead."""
        worker = self._worker()
        if worker is None or worker.process.frozen:
            return
        seconds = self.dice.choice((0.01, 0.3, 2.0, 8.0))
        worker.process.freeze()
        if seconds > BEAT_LIMIT:
            self.kernel.after(BEAT_LIMIT, self._missed, worker)
        self.kernel.after(seconds, worker.process.thaw)

    def _missed(self, worker: SimulatedWorker) -> None:
        scheduler = self.simulation.scheduler
        scheduler.drop(worker.connection, "no sign of life")

    def pause_worker(self) -> None:
        """Too much memory is used, for a while."""
        worker = self._worker()
        if worker is not None and not worker.process.frozen:
            worker.process.enter(worker.pause, (True,))
            worker.process.after(self.dice.choice((0.01, 0.2, 1.0)), worker.pause, False)

    def damage_disk(self) -> None:
        """What was spilled cannot be read any more."""
        worker = self._worker()
        if worker is not None and worker.on_disk:
            self.simulation.monitor.disk_faults += 1
            worker.damage_disk()

    # -- connections

    def cut_worker(self) -> None:
        """The connection of a worker breaks: both sides know at once, or one of them only after a while."""
        worker = self._worker()
        if worker is not None and worker.core is not None:
            worker.connection.cut(self._delays(), "the network broke")

    def _delays(self) -> tuple[float, float]:
        late = self.dice.choice((RESET, 0.5, BEAT_LIMIT))
        return (RESET, late) if self.dice.random() < 0.5 else (late, RESET)

    def cut_transfer(self) -> None:
        """Connections between workers break."""
        for connection in self.simulation.network.connections:
            if all(isinstance(party, SimulatedWorker) for party in connection.parties) and self.dice.random() < 0.5:
                connection.cut(self._delays(), "the network broke")

    def wall(self) -> None:
        """Two workers cannot reach each other for a while."""
        first, second = self._worker(), self._worker()
        if first is None or second is None or first is second:
            return
        walls, pair = self.simulation.network.walls, (first.process.name, second.process.name)
        walls[pair] = walls.get(pair, 0) + 1
        for connection in self.simulation.network.connections:
            if {party.process.name for party in connection.parties} == set(pair):
                connection.cut((RESET, RESET), "the network broke")
        self.kernel.after(self.dice.choice((0.1, 1.0)), self._unwall, pair)

    def _unwall(self, pair: tuple[str, str]) -> None:
        walls = self.simulation.network.walls
        walls[pair] -= 1
        if not walls[pair]:
            del walls[pair]

    def clog(self) -> None:
        """Everything to and from one process is slow for a while."""
        live = [each for each in self.simulation.network.connections if each.is_live]
        if not live:
            return
        connection = self.dice.choice(live)
        connection.slow = self.dice.choice((30.0, 300.0, 3000.0))
        self.kernel.after(self.dice.choice((0.05, 0.5)), setattr, connection, "slow", 1.0)

    # -- clients

    def cut_client(self) -> None:
        """The connection of a client breaks; it comes back."""
        client = self._client()
        if client is not None and client.is_connected:
            assert client.connection is not None
            client.connection.cut(self._delays(), "the network broke")

    def freeze_client(self) -> None:
        """A client stops for a while."""
        client = self._client()
        if client is not None and not client.process.frozen:
            client.process.freeze()
            self.kernel.after(self.dice.choice((0.01, 0.5)), client.process.thaw)

    def kill_client(self) -> None:
        """A client dies; another one comes, now and then."""
        client = self._client()
        if client is not None and self.dice.random() < 0.3:
            client.process.kill()
            self.simulation.add_client()

    def slow_client(self) -> None:
        """A client reads slowly: its results travel without their data."""
        client = self._client()
        if client is not None and client.number >= 0:
            self.simulation.scheduler.core.on_inline_allowed(client.number, self.dice.random() < 0.5)

    # -- the end

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.is_over = True
        for connection in self.simulation.network.connections:
            connection.slow = 1.0


EVERY_KIND = [
    "kill_worker", "freeze_worker", "pause_worker", "damage_disk", "cut_worker", "cut_transfer", "wall", "clog",
    "cut_client", "freeze_client", "kill_client", "slow_client",
]  # fmt: skip


def revive(machine: Machine, simulation: Simulation) -> None:
    """Start another worker on a machine whose worker ended."""
    if machine.worker is None or not machine.worker.process.alive:
        simulation.add_worker(machine)
