"""A virtual clock, the events that wait for it, and processes that can be killed and frozen.

Nothing here knows of tasks. One thread runs everything; the order of events is a function of the seed alone, and so is
the digest of what was noted down. May import: the standard library.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from hashlib import blake2b
from struct import Struct
from typing import Any

Call = Callable[..., object]
_HEAD = Struct("<dQ")


class Kernel:
    """The clock, the queue of events, the dice and the trace of one simulation.

    Parameters
    ----------
    seed : int
        Of all randomness.

    Attributes
    ----------
    now : float
        Seconds since the start.
    steps : int
        Events that have happened.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.steps = 0
        self._queue: list[tuple[float, int, Call, tuple[Any, ...]]] = []
        self._made = 0
        self._trace = blake2b(digest_size=16)

    def __len__(self) -> int:
        return len(self._queue)

    def after(self, delay: float, call: Call, *arguments: Any) -> None:
        """Have something called later; what is due at the same time happens in the order in which it was asked for."""
        self.at(self.now + delay, call, *arguments)

    def at(self, when: float, call: Call, *arguments: Any) -> None:
        """The same, at a time that is not over."""
        self._made += 1
        heapq.heappush(self._queue, (when, self._made, call, arguments))

    def step(self) -> bool:
        """Let the next event happen; False if nothing waits."""
        if not self._queue:
            return False
        self.now, _, call, arguments = heapq.heappop(self._queue)
        self.steps += 1
        call(*arguments)
        return True

    def note(self, number: int, content: bytes) -> None:
        """Make something part of the trace."""
        self._trace.update(_HEAD.pack(self.now, number))
        self._trace.update(content)

    @property
    def trace(self) -> str:
        """The digest of everything noted so far."""
        return self._trace.hexdigest()


class Process:
    """Something whose events stop while it is frozen, and for good when it is killed.

    Parameters
    ----------
    kernel : Kernel
    name : str
        Unique, for messages.
    """

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.alive = True
        self.frozen = False
        self._late: list[tuple[Call, tuple[Any, ...]]] = []
        #: Called when the process dies: open connections end then.
        self.on_death: list[Callable[[], object]] = []

    def after(self, delay: float, call: Call, *arguments: Any) -> None:
        """Have something done by this process."""
        self.kernel.after(delay, self.enter, call, arguments)

    def enter(self, call: Call, arguments: tuple[Any, ...]) -> None:
        """Do something now, or when the process is thawed; a dead process does nothing."""
        if not self.alive:
            return
        if self.frozen:
            self._late.append((call, arguments))
        else:
            call(*arguments)

    def freeze(self) -> None:
        """Stop, as with SIGSTOP."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on: what came meanwhile happens now, in order."""
        self.frozen = False
        late, self._late = self._late, []
        for call, arguments in late:
            self.enter(call, arguments)

    def kill(self) -> None:
        """End, as with SIGKILL."""
        if self.alive:
            self.alive = False
            self._late.clear()
            for call in self.on_death:
                call()
            self.on_death.clear()

    def __repr__(self) -> str:
        return self.name
