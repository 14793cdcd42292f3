"""Connections between processes: in order within one, in any order between two; slow, doubled or cut as the dice fall.

A message is a kind and a body: the number of a frame kind and its bytes, or the name of an operation and its plain
fields. May import: its sibling `kernel`, `_core`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from zlib import crc32

from fastdist._core.codec.frames import FrameKind
from fastdist.testing.simulation.kernel import Kernel, Process

Kind = int | str

#: Frames that may arrive twice: what they say is true the second time, too. TASKS and RELEASE frames are counted by
#: both sides instead, and a worker does not remember the attempts that it failed or gave back, so that it would take a
#: second RUN for the first.
DOUBLED = frozenset({FrameKind.STATE, FrameKind.FREE, FrameKind.RETRACT, FrameKind.DONE})
#: Where the length of the offsets of type names is in a DONE frame; a frame with new names may not come twice.
TYPE_OFFSETS_LENGTH = slice(8 + 9 * 8, 8 + 10 * 8)


class Party(Protocol):
    """What stands at the end of a connection."""

    process: Process

    def on_message(self, connection: Connection, kind: Kind, body: Any) -> None:
        """Something arrived."""

    def on_closed(self, connection: Connection, reason: str) -> None:
        """The other side is gone, or cannot be reached any more."""


@dataclass
class Weather:
    """How the network behaves.

    Attributes
    ----------
    latency : float
        Seconds that a message takes at least.
    jitter : float
        Seconds that it takes longer, on average.
    doubled : float
        How many of the frames that may come twice do.
    """

    latency: float = 5e-5
    jitter: float = 2e-4
    doubled: float = 0.0


class Connection:
    """Two parties that send each other messages.

    Parameters
    ----------
    network : Network
    number : int
        Unique.
    parties : tuple of Party
        Who opened it, and who was asked.
    """

    def __init__(self, network: Network, number: int, parties: tuple[Party, Party]) -> None:
        self.network = network
        self.number = number
        self.parties = parties
        #: Whether each side believes that it is open.
        self.open = [True, True]
        self.is_cut = False
        self.slow = 1.0
        self._last = [0.0, 0.0]
        for side, party in enumerate(parties):
            party.process.on_death.append(partial(self._died, side))

    def send(self, sender: Party, kind: Kind, body: Any) -> None:
        """Send something; what is sent into a connection that has ended is lost."""
        side = 0 if self.parties[0] is sender else 1
        if not self.open[side] or self.is_cut:
            return
        self._put(1 - side, self._deliver, kind, body)
        weather = self.network.weather
        if weather.doubled and may_come_twice(kind, body) and self.network.kernel.random.random() < weather.doubled:
            self._put(1 - side, self._deliver, kind, body)

    def _put(self, side: int, call: Callable[..., object], *arguments: Any) -> None:
        """Have something happen at one end, after all that is on its way there."""
        kernel, weather = self.network.kernel, self.network.weather
        delay = (weather.latency + kernel.random.expovariate(1.0) * weather.jitter) * self.slow
        self._last[side] = max(self._last[side], kernel.now + delay)
        kernel.at(self._last[side], self.parties[side].process.enter, call, (side, *arguments))

    def _deliver(self, side: int, kind: Kind, body: Any) -> None:
        if not self.open[side] or self.is_cut:
            return
        network = self.network
        content = body if isinstance(body, bytes) else repr(body).encode()
        name = kind if isinstance(kind, int) else crc32(kind.encode())
        network.kernel.note(self.number << 34 | side << 33 | name, content)
        network.delivered += 1
        self.parties[side].on_message(self, kind, body)

    def _end(self, side: int, reason: str) -> None:
        """One side notices that the connection is over."""
        if self.open[side]:
            self.open[side] = False
            self.network.kernel.note(self.number << 34 | side << 33, reason.encode())
            self.parties[side].on_closed(self, reason)

    def close(self, party: Party) -> None:
        """One side ends it; the other one hears all that was sent before."""
        side = 0 if self.parties[0] is party else 1
        self.open[side] = False
        if not self.is_cut:
            self._put(1 - side, self._end, "it was closed")

    def _died(self, side: int) -> None:
        self.open[side] = False
        if not self.is_cut:
            self._put(1 - side, self._end, "the process ended")

    def cut(self, delays: tuple[float, float], reason: str) -> None:
        """Lose what is on its way, and everything after it; each side notices after its own delay."""
        if self.is_cut:
            return
        self.is_cut = True
        for side, delay in enumerate(delays):
            self.network.kernel.after(delay, self.parties[side].process.enter, self._end, (side, reason))

    @property
    def is_live(self) -> bool:
        """Whether both sides may use it."""
        return all(self.open) and not self.is_cut


def may_come_twice(kind: Kind, body: Any) -> bool:
    """Whether a message means the same if it arrives again."""
    if kind == FrameKind.DONE:
        return int.from_bytes(body[TYPE_OFFSETS_LENGTH], "little") <= 4
    return kind in DOUBLED


class Network:
    """Who listens where, and who can reach whom.

    Parameters
    ----------
    kernel : Kernel
    weather : Weather
    """

    def __init__(self, kernel: Kernel, weather: Weather) -> None:
        self.kernel = kernel
        self.weather = weather
        self.listeners: dict[str, Party] = {}
        self.connections: list[Connection] = []
        self.delivered = 0
        self._made = 0
        #: Pairs of names of processes that cannot open a connection to each other now.
        self.walls: dict[tuple[str, str], int] = {}

    def connect(self, party: Party, address: str) -> Connection | None:
        """A new connection, or None if nobody is there."""
        other = self.listeners.get(address)
        if other is None or not other.process.alive or self.is_walled(party.process, other.process):
            return None
        self._made += 1
        connection = Connection(self, self._made, (party, other))
        if len(self.connections) > 64 and self._made % 64 == 0:
            self.connections = [each for each in self.connections if each.is_live]
        self.connections.append(connection)
        return connection

    def is_walled(self, first: Process, second: Process) -> bool:
        """Whether these two cannot reach each other."""
        return bool(self.walls) and (
            self.walls.get((first.name, second.name), 0) + self.walls.get((second.name, first.name), 0) > 0
        )
