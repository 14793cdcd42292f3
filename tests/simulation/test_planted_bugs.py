"""Bugs planted around the cores are noticed. May import: fastdist.testing.simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastdist._core.codec.frames import FrameKind
from fastdist.testing.simulation import Violation, run_seed
from fastdist.testing.simulation.network import Connection
from fastdist.testing.simulation.scheduler import SimulatedScheduler
from fastdist.testing.simulation.worker import Machine, SimulatedWorker
from fastdist.testing.simulation.workloads import Spec

#: How often the planted bugs happen.
EVERY = 7
SEEDS = range(12)


def losing(kind: FrameKind) -> Callable[[pytest.MonkeyPatch], None]:
    """Some frames of a kind never arrive, although no connection broke."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        send, sent = Connection.send, [0]

        def lossy(self: Connection, sender: Any, what: Any, body: Any) -> None:
            sent[0] += what == kind
            if what != kind or sent[0] % EVERY:
                send(self, sender, what, body)

        patch.setattr(Connection, "send", lossy)

    return plant


def out_of_order(patch: pytest.MonkeyPatch) -> None:
    """Messages overtake each other within a connection."""
    put = Connection._put

    def hurried(self: Connection, *arguments: Any) -> None:
        self._last = [0.0, 0.0]
        put(self, *arguments)

    patch.setattr(Connection, "_put", hurried)


def wrong_values(patch: pytest.MonkeyPatch) -> None:
    """Some tasks return what is not theirs."""
    value, made = Spec.value, [0]

    def wrong(self: Spec, inputs: Any) -> int:
        made[0] += 1
        return value(self, inputs) + (made[0] % 300 == 299)

    patch.setattr(Spec, "value", wrong)


def deaths_untold(patch: pytest.MonkeyPatch) -> None:
    """The scheduler does not hear of workers that die."""

    def forget(self: SimulatedScheduler, entry: Any, reason: str) -> None:
        del self.workers[entry.number], self._names[entry.name]

    patch.setattr(SimulatedScheduler, "_lose_worker", forget)


def data_kept(patch: pytest.MonkeyPatch) -> None:
    """Workers keep the values of tasks that are freed."""
    patch.setattr(SimulatedWorker, "_drop", lambda self, task_id: None)


def executed_twice(patch: pytest.MonkeyPatch) -> None:
    """RUN frames come twice: tasks that failed or were given back start again."""
    patch.setattr("fastdist.testing.simulation.network.DOUBLED", {FrameKind.RUN})


PLANTED = {
    "run-lost": losing(FrameKind.RUN),
    "done-lost": losing(FrameKind.DONE),
    "state-lost": losing(FrameKind.STATE),
    "free-lost": losing(FrameKind.FREE),
    "out-of-order": out_of_order,
    "wrong-values": wrong_values,
    "deaths-untold": deaths_untold,
    "data-kept": data_kept,
    "executed-twice": executed_twice,
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[name](monkeypatch)
    with pytest.raises(Violation):
        for seed in SEEDS:
            machines = [Machine(f"m{number}", 2) for number in range(3)]
            graphs = [("tree", 60), ("random", 200), ("chain", 30)]
            run_seed(seed, machines=machines, graphs=graphs, actions=8, fault_rate=2.0, special=0.1)
