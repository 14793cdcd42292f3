"""The part of a scheduler that keeps a journal, and goes on from one.

May import: `_core`, `rpc`, the other modules of `scheduler`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgpack

from fastdist import config
from fastdist._core.scheduler import facts
from fastdist._core.scheduler.reasons import Reason, reason_payload
from fastdist.errors import JournalError
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.journal.facts import FactPlayer, FactRecorder
from fastdist.scheduler.journal.folder import JournalFolder, log_name, snapshot_name
from fastdist.scheduler.journal.reader import JournalReader, Position
from fastdist.scheduler.journal.records import RecordKind
from fastdist.scheduler.journal.shortening import start_shortening
from fastdist.scheduler.journal.snapshots import SnapshotPlayer
from fastdist.scheduler.journal.writer import JournalWriter
from fastdist.scheduler.membership import ClientEntry, WorkerEntry

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

#: Parts of the scheduler that hold something for clients, or for the tasks of a worker.
HAVE_OWNERS = ("semaphores", "multi-locks", "queues", "variables")
#: Seconds between two looks at the length of the log.
LOOK_PAUSE = 1.0


class Journal(Extension):
    """Writes down the facts that a scheduler needs to go on after it was killed.

    After `recover` the tasks are known and nobody is connected: clients count as away, and tasks are placed once the
    workers that were there have come back and declared what they have, or the settling time is over.

    Parameters
    ----------
    scheduler : Scheduler
    path : str
        The folder of the journal.

    Attributes
    ----------
    settling : bool
        Whether workers are still waited for.
    recovered_clients : dict
        Names of the clients of the core that live in the scheduler itself, and their numbers.
    """

    name = "journal"

    def __init__(self, scheduler: Scheduler, path: str | os.PathLike[str]) -> None:
        super().__init__(scheduler)
        self.path = os.fspath(path)
        self.settling = False
        self.recovered_clients: dict[str, int] = {}
        self._folder: JournalFolder | None = None
        self._writer: JournalWriter | None = None
        self._recorder: FactRecorder | None = None
        self._expected: set[str] = set()
        self._workers: set[str] = set()
        self._clients: dict[int, ClientEntry] = {}
        #: Numbers of clients that went without a goodbye, while the journal is read.
        self._gone: set[int] = set()
        self._deadline: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._shortener: subprocess.Popen[bytes] | None = None
        #: Bytes of the files that no snapshot covers, but for the current one; and of the last snapshot.
        self._unshortened = 0
        self._snapshot_bytes = 0

    # -- going on ----------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Open the folder, apply what it holds, and keep the journal from now on.

        Raises
        ------
        JournalError, OSError
            If the folder cannot be used, or is damaged.
        """
        begun = time.monotonic()
        core = self.scheduler.core
        folder = self._folder = JournalFolder(self.path)
        try:
            player, position = self.replay(folder)
        except BaseException:
            folder.close()
            raise
        if position.torn:
            logger.warning(
                "the end of the journal was being written when its scheduler ended: the last %d bytes of %s are cut",
                position.torn,
                log_name(position.file),
            )
            file = folder.open(log_name(position.file), os.O_WRONLY)
            os.ftruncate(file, position.length)
            os.close(file)
        self._take_clients(player)
        self._unshortened = position.n_bytes
        self._expected = set(self._workers)
        self.settling = bool(self._expected)
        seconds = config.get("scheduler.journal-sync")
        self._writer = JournalWriter(folder, position, seconds, self._tell_trouble)
        self._recorder = FactRecorder(core, self._writer.add, self._writer.flush)
        core.recorder = self._recorder
        if position.n_records:
            logger.info(
                "the journal in %s had %d records (%d bytes): %d tasks, %d clients and %d workers are known again "
                "after %.3f s",
                self.path, position.n_records, position.n_bytes, core.n_tasks(), len(self._clients),
                len(self._expected), time.monotonic() - begun,
            )  # fmt: skip

    def replay(self, folder: JournalFolder, up_to: int | None = None) -> tuple[FactPlayer, Position]:
        """Apply what is in a folder, as far as a log file, to the scheduler.

        Raises
        ------
        JournalError
            If something is damaged or missing.
        """
        reader = JournalReader(folder, up_to)
        player = FactPlayer(self.scheduler.core, self._apply)
        snapshot = SnapshotPlayer(self.scheduler.core, player)
        for kind, body in reader:
            if kind is RecordKind.ROWS:
                snapshot.play(body)
            elif kind is not RecordKind.END:
                player.play(kind, body)
        return player, reader.position

    def _take_clients(self, player: FactPlayer) -> None:
        """Clients that were connected count as away; the others live in the scheduler."""
        now = time.monotonic()
        for number, name in player.names.items():
            entry = self._clients.get(number)
            if entry is None:
                if number not in self._gone:
                    self.recovered_clients[name] = number
                continue
            entry.applied = player.applied[number]
            self.scheduler.clients_away[number] = entry
            self.scheduler.core.on_client_lost(number, now)

    async def started(self) -> None:
        """Workers can come back from now on."""
        if self.settling:
            seconds = config.get("scheduler.journal-settle")
            self._deadline = asyncio.get_running_loop().call_later(seconds, self._settle)
        self._shorten_later()
        self.scheduler.wake()

    def worker_declared(self, entry: WorkerEntry) -> None:
        """A worker has said what it has."""
        self._expected.discard(entry.address)
        if self.settling and not self._expected:
            self._settle()

    def _settle(self) -> None:
        """From now on tasks are placed."""
        if not self.settling:
            return
        self.settling = False
        if self._deadline is not None:
            self._deadline.cancel()
        if self._expected:
            logger.warning("%d workers did not come back to the recovered scheduler: %s", len(self._expected),
                           ", ".join(sorted(self._expected)[:10]))  # fmt: skip
        for address in sorted(self._expected):
            self._workers.discard(address)
            self.add_fact("worker", [address, False])
            for name in HAVE_OWNERS:
                self.scheduler.extensions[name].worker_gone(_absent(address), "it did not come back")
        self._expected.clear()
        core = self.scheduler.core
        lost = facts.awaited_data(core.model)
        if lost:
            core.on_scatter_failed(
                lost,
                reason_payload(Reason.LOST_DATA, "the data was lost while the scheduler was away; scatter it again"),
            )
        for entry in self.scheduler.members:
            if entry.held:
                entry.held = False
                core.on_worker_status(entry.number, entry.takes_work)
        self.scheduler.wake()

    # -- facts beside those of the core ------------------------------------------------------------------------------

    def client_came(self, entry: ClientEntry) -> None:
        """A client registered: it may return to another life of this scheduler."""
        if entry.number in self._clients:
            return
        self._clients[entry.number] = entry
        self.add_fact("client", [entry.number, entry.name, entry.returns, entry.versions])

    def client_gone(self, entry: ClientEntry) -> None:
        """A client closed, or was given up."""
        if self._clients.pop(entry.number, None) is not None:
            self.add_fact("client-gone", [entry.number])

    def worker_came(self, entry: WorkerEntry) -> None:
        """A worker registered: after a recovery it is waited for."""
        if entry.address not in self._workers:
            self._workers.add(entry.address)
            self.add_fact("worker", [entry.address, True])
        if self.settling:
            entry.held = True
            self.scheduler.core.on_worker_status(entry.number, False)
            if not entry.away:
                # Another process than the one that was there: it has nothing to declare.
                self.worker_declared(entry)

    def worker_gone(self, entry: WorkerEntry, why: str) -> None:
        """A worker left."""
        if entry.address in self._workers and not self.scheduler.closing:
            self._workers.discard(entry.address)
            self.add_fact("worker", [entry.address, False])

    def facts(self) -> Iterator[Any]:
        """(subject, change) of everything beside the core."""
        for entry in self._clients.values():
            yield "client", [entry.number, entry.name, entry.returns, entry.versions]
        for address in sorted(self._workers):
            yield "worker", [address, True]
        for extension in self.scheduler.extensions.values():
            if extension is not self:
                yield from ((extension.name, change) for change in extension.facts())

    def add_fact(self, subject: str, change: Any) -> None:
        """Write down that a part of the scheduler changed; `change` is plain, and what its `apply_fact` takes."""
        if self._writer is not None:
            assert self._recorder is not None
            self._recorder.add_outcomes()
            self._writer.add(RecordKind.FACT, msgpack.packb([subject, change]))
            self._writer.flush()

    def _apply(self, subject: str, change: Any) -> None:
        if subject == "client":
            number, name, returns, versions = change
            # Its connection is filled in when it returns.
            peer: Any = None
            self._clients[number] = ClientEntry(number, peer, name, versions, returns=returns, recovered=True)
        elif subject == "client-gone":
            self._clients.pop(change[0], None)
            self._gone.add(change[0])
            self.scheduler.core.on_client_closed(change[0])
        elif subject == "worker":
            (self._workers.add if change[1] else self._workers.discard)(change[0])
        else:
            extension = self.scheduler.extensions.get(subject)
            if extension is None:
                raise JournalError(f"the journal holds facts of {subject!r}, which this scheduler does not have")
            extension.apply_fact(change)

    # -- writing -----------------------------------------------------------------------------------------------------

    def flush(self) -> bool:
        """Write what waits; whether all that happened so far would survive the end of this process."""
        if self._writer is None or self._recorder is None:
            return True
        self._recorder.add_outcomes()
        self._writer.flush()
        return self._writer.safe or self._writer.abandoned

    # -- shortening --------------------------------------------------------------------------------------------------

    def _shorten_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(LOOK_PAUSE, self._look_at_length)

    def _look_at_length(self) -> None:
        """Have another process make a snapshot once the log is much longer than what it came to."""
        self._shorten_later()
        # What the disk refused is tried again, whether anything happens or not.
        self.flush()
        writer, folder = self._writer, self._folder
        if writer is None or folder is None or writer.abandoned or self.settling:
            return
        if self._shortener is not None:
            if self._shortener.poll() is None:
                return
            self._shortened(folder, self._shortener.returncode)
        limit = max(config.get("scheduler.journal-file-bytes"), 2 * self._snapshot_bytes)
        if self._unshortened + writer.n_bytes >= limit:
            self.shorten()

    def shorten(self) -> None:
        """Begin another log file, and have another process make a snapshot of all before it."""
        assert self._writer is not None and self._shortener is None
        self.flush()
        try:
            complete = self._writer.rotate()
        except OSError as error:
            logger.error("the journal in %s cannot get another file: %s", self.path, error)
            return
        self._unshortened = 0
        self._shortener = start_shortening(self.path, complete)

    def _shortened(self, folder: JournalFolder, code: int) -> None:
        self._shortener = None
        snapshots = folder.snapshots()
        if code or not snapshots:
            logger.error("the journal in %s could not be shortened: the process ended with code %d", self.path, code)
            return
        folder.forget(snapshots[-1])
        self._snapshot_bytes = folder.size(snapshot_name(snapshots[-1]))

    def _tell_trouble(self, sentence: str) -> None:
        events: Any = self.scheduler.extensions["events"]
        events.log_event("all", {"action": "journal-trouble", "text": sentence})

    async def close(self) -> None:
        """The scheduler ends as it should: clients and workers are told, and do not come back to another life of it."""
        for entry in list(self.scheduler.members.clients.values()):
            for name in HAVE_OWNERS:
                self.scheduler.extensions[name].client_gone(entry)
            self.client_gone(entry)
        for address in sorted(self._workers):
            self.add_fact("worker", [address, False])
        self._workers.clear()

    async def closed(self) -> None:
        """Nothing more happens."""
        self.let_go()

    def let_go(self) -> None:
        """Write what waits, and let another scheduler have the folder."""
        for timer in (self._deadline, self._look):
            if timer is not None:
                timer.cancel()
        if self._shortener is not None:
            self._shortener.kill()
            self._shortener.wait()
            self._shortener = None
        self.flush()
        self.scheduler.core.recorder = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._folder is not None:
            self._folder.close()
            self._folder = None


def _absent(address: str) -> WorkerEntry:
    """As much as is known of a worker that was there in an earlier life of the scheduler."""
    peer: Any = None
    return WorkerEntry(
        number=-1, peer=peer, address=address, name=address, host="", pid=0, nthreads=1, memory_limit=0, resources={},
        nanny=None, local_directory="", versions={},
    )  # fmt: skip
