"""Notices workers that are frozen or cut off, by the signs of life that a native thread in each of them sends.

A stopped process keeps its connections, and a cut cable closes none. May import: comm, config, errors; of this folder
`extension`; `scheduler.membership`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from fastdist import config
from fastdist.comm.core import Comm
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import WorkerEntry
from fastdist.system.beat import BEAT_BYTES

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

RECORD = struct.Struct("<QII")
#: So many signs of life fit into the time after which a worker counts as frozen; looks are twice as frequent.
BEATS = 4
#: So many unread signs of life are taken at once.
READ_BYTES = 256 * BEAT_BYTES


class Pulse:
    """The connection over which one worker says that it lives."""

    def __init__(self, sock: socket.socket, now: float) -> None:
        self.sock = sock
        self.number = -1
        self.last = now
        #: Bytes of a sign of life of which the rest has not come.
        self.begun = 0


class Liveness(Extension):
    """Looks for signs of life and gives workers up that send none.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "liveness"

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self.timeout: float = config.get("scheduler.frozen-timeout")
        self.pulses: set[Pulse] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._looked = 0.0
        self._buffer = bytearray(READ_BYTES)

    def welcome_worker(self, entry: WorkerEntry, reply: dict[str, Any], buffers: list[Any]) -> None:
        """Tell a worker how often to send signs of life; 0 means never."""
        never = entry.peer.comm.in_process or math.isinf(self.timeout)
        reply["beat_interval"] = 0.0 if never else self.timeout / BEATS

    def take(self, comm: Comm) -> None:
        """Somebody is about to send signs of life."""
        self.pulses.add(Pulse(comm.detach(), time.monotonic()))
        if self._timer is None:
            self._looked = time.monotonic()
            self._look_later()

    def _look_later(self) -> None:
        interval = self.timeout / BEATS / 2
        self._timer = asyncio.get_running_loop().call_later(max(interval, 0.01), self.look)

    def look(self, now: float | None = None) -> None:
        """Read what has come, and give up workers of which nothing came for too long."""
        now = time.monotonic() if now is None else now
        # If this scheduler was stopped or starved itself, that is nobody's fault.
        pause = now - self._looked - self.timeout / BEATS
        self._looked = now
        for pulse in list(self.pulses):
            if pause > 0:
                pulse.last += pause
            if not self._read(pulse, now):
                self._drop(pulse)
            elif now - pulse.last > self.timeout:
                self._give_up(pulse, now)
        self._timer = None
        if self.pulses:
            self._look_later()

    def _read(self, pulse: Pulse, now: float) -> bool:
        """Take the signs of life of one worker; False if there will be no more."""
        try:
            received = pulse.sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        if not received:
            return False
        pulse.last = now
        # The network may cut the stream anywhere.
        start = -pulse.begun % BEAT_BYTES
        pulse.begun = (pulse.begun + received) % BEAT_BYTES
        if start + BEAT_BYTES <= received:
            epoch, number, _ = RECORD.unpack_from(self._buffer, start)
            if epoch != self.scheduler.epoch or pulse.number not in (-1, number):
                return False
            pulse.number = number
        return True

    def _give_up(self, pulse: Pulse, now: float) -> None:
        self._drop(pulse)
        entry = self.scheduler.members.workers.get(pulse.number)
        if entry is None:
            return
        why = f"no sign of life for {now - pulse.last:.1f} s: its process is stopped, or the network is cut"
        self.scheduler.send_worker_away(entry, why)

    def _drop(self, pulse: Pulse) -> None:
        self.pulses.discard(pulse)
        pulse.sock.close()

    async def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for pulse in list(self.pulses):
            self._drop(pulse)
