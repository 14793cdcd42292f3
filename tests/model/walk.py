"""Long random walks through the events of `CoreMachine`, faster and deeper than hypothesis goes by itself.

May import: tests.model.
"""

from __future__ import annotations

import random
from typing import Any

from fastdist._core.codec.frames import DoneStatus
from fastdist.retries import AGAIN, ELSEWHERE, FINAL

SIZES = (0, 8, 1000, 100_000, 5_000_000)
SECONDS = (0.0, 1e-5, 0.001, 0.02, 0.5)
NEEDS: tuple[dict[str, float], ...] = ({}, {}, {"gpu": 1.0}, {"gpu": 2.0, "disk": 1.0})
OUTCOMES = (*list(DoneStatus)[:5], *list(DoneStatus)[7:])
#: What a worker may say of a failure: nothing, that it is final, or when and where the task is tried again.
VERDICTS = (0, 8, FINAL, AGAIN, AGAIN | 500_000, AGAIN | ELSEWHERE, AGAIN | ELSEWHERE | 2_000_000)


class Walk:
    """Draws events for a machine."""

    def __init__(self, machine: Any, seed: int) -> None:
        self.machine = machine
        self.random = random.Random(seed)
        choices: dict[str, int] = {
            "submit": 12,
            "submit_roots": 1,
            "submit_nonsense": 1,
            "scatter": 3,
            "release": 8,
            "cancel": 1,
            "retry": 2,
            "rarely": 1,
            "copies": 3,
            "others": 2,
            "workers": 2,
            "pause": 2,
            "death_report": 1,
            "finish": 12,
            "one_outcome": 6,
            "failures": 4,
            "pass_time": 3,
            "answer_retract": 6,
            "copy": 3,
            "nonsense": 3,
            "act": 14,
        }
        self.names = list(choices)
        self.weights = list(choices.values())
        draw = self.random
        machine.begin([draw.randint(1, 3) for _ in range(draw.randint(1, 4))], draw.randint(0, 2))

    def small(self) -> int:
        """What hypothesis would draw for a pick."""
        return self.random.randrange(31)

    def smalls(self, most: int) -> list[int]:
        """Several picks."""
        return [self.small() for _ in range(self.random.randint(0, most))]

    def flag(self, chance: float = 0.5) -> bool:
        """True with a chance."""
        return self.random.random() < chance

    def run(self, steps: int) -> None:
        """Walk."""
        for _ in range(steps):
            name = self.random.choices(self.names, self.weights)[0]
            getattr(self, name)()
        self.machine.teardown()

    def submit(self) -> None:
        """Dependent tasks."""
        draw = self.random
        specs = [
            (
                draw.randrange(24),
                [need % 8 for need in self.smalls(3)],
                draw.choice([b"f", b"f", b"g", b"h", None]),
                self.flag(0.7),
                self.flag(),
                self.flag(0.3),
            )
            for _ in range(draw.randint(1, 6))
        ]
        candidates = draw.choice([None, {draw.randrange(5) for _ in range(3)}])
        option = (
            candidates,
            self.flag(),
            draw.randrange(3),
            draw.choice([0.0, -1.0, 2.0]),
            draw.choice(NEEDS),
        )
        self.machine.submit(self.small(), specs, option, self.flag(0.7), self.flag(0.4), 0, self.flag(0.2))

    def submit_roots(self) -> None:
        """Independent tasks."""
        draw = self.random
        self.machine.submit_roots(self.small(), draw.randint(8, 40), draw.choice([b"f", b"g"]), self.flag())

    def submit_nonsense(self) -> None:
        """A bad frame."""
        self.machine.submit_nonsense(self.small(), self.random.randrange(3))

    def scatter(self) -> None:
        """Data."""
        chosen = [self.random.randrange(10) for _ in range(self.random.randint(1, 3))]
        self.machine.scatter(self.small(), chosen, self.flag(0.1))

    def release(self) -> None:
        """Futures go."""
        functions = {name for name in (b"f", b"g", b"h") if self.flag(0.2)}
        self.machine.release(self.small(), self.smalls(8), functions)

    def cancel(self) -> None:
        """Cancel."""
        self.machine.cancel(self.small(), [number % 10 for number in self.smalls(2)], self.flag())

    def retry(self) -> None:
        """Try again."""
        self.machine.retry(self.small(), self.smalls(3))

    def rarely(self) -> None:
        """What happens seldom."""
        if self.flag(0.1):
            self.machine.restart()
        else:
            self.machine.scatter_failed(self.smalls(3))

    def copies(self) -> None:
        """Copies come and go."""
        self.machine.copies(self.small(), self.smalls(4), self.random.randrange(4))

    def others(self) -> None:
        """Clients come, go, wait."""
        machine = self.machine
        if self.flag(0.3):
            machine.inline(self.small(), self.flag())
        elif len(machine.pair.model.universe.clients) < 8 and self.flag():
            machine.add_client()
        elif len(machine.clients) > 1 and self.flag(0.3):
            machine.leave(self.small(), self.random.choice(["closed", "lost"]))
        elif len(machine.clients) > 1:
            machine.wait(self.small(), self.flag(), self.random.choice([1.0, 40.0]))

    def workers(self) -> None:
        """Workers come and go."""
        alive = [worker for worker in self.machine.workers if worker.alive]
        if len(alive) < 5 and self.flag(0.6):
            self.machine.add_worker(self.random.randint(1, 3), self.random.choice(NEEDS))
        elif alive:
            self.machine.lose_worker(self.small(), self.flag(), self.flag())

    def failures(self) -> None:
        """Several tasks fail, with policies."""
        for _ in range(3):
            self.machine.fail_one(self.small(), self.random.choice(VERDICTS))

    def pass_time(self) -> None:
        """Time passes."""
        self.machine.pass_time(self.random.choice([0.4, 3.0, 30.0]))

    def pause(self) -> None:
        """Workers pause and resume."""
        self.machine.pause(self.small(), self.flag(0.7))

    def death_report(self) -> None:
        """Nannies explain."""
        self.machine.death_report(self.smalls(2), self.random.randint(-1, 1))

    def finish(self) -> None:
        """Tasks finish."""
        draw = self.random
        payload = draw.choice([b"", b"r"])
        count = draw.randint(1, 8)
        self.machine.finish(self.small(), count, draw.choice(SECONDS), draw.choice(SIZES), payload)

    def one_outcome(self) -> None:
        """One task ends in some way."""
        draw = self.random
        self.machine.one_outcome(self.small(), self.small(), draw.choice(OUTCOMES), draw.choice(VERDICTS))

    def answer_retract(self) -> None:
        """Answers."""
        self.machine.answer_retract(self.small(), [self.flag(0.7) for _ in range(6)])

    def copy(self) -> None:
        """Copies of data."""
        draw = self.random
        self.machine.copy(self.small(), self.small(), draw.randrange(6), self.flag(0.25), draw.choice(SIZES))

    def nonsense(self) -> None:
        """Anything."""
        draw = self.random
        rows = [
            (self.small(), draw.randint(-1, 1), draw.randrange(10), draw.choice([0, 1, 5]))
            for _ in range(draw.randint(0, 4))
        ]
        self.machine.nonsense(draw.randrange(6), rows, self.flag(0.1))

    def act(self) -> None:
        """Decide."""
        self.machine.act()
