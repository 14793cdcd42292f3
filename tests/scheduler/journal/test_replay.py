"""A core that is fed from the journal of another one knows what that one knew, but for placements.

The events are those of random walks (tests/model), with stale, doubled and illegal ones among them.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from fastdist._core.scheduler import facts
from fastdist._core.scheduler.core import SchedulerCore
from fastdist.errors import JournalError
from fastdist.scheduler.journal.facts import FactPlayer, FactRecorder
from fastdist.scheduler.journal.records import RecordKind
from fastdist.scheduler.journal.snapshots import SnapshotPlayer, records_of
from tests.core.scheduler.frames import EPOCH
from tests.model.harness import Pair
from tests.model.test_scheduler_core import CoreMachine
from tests.model.walk import Walk

Records = list[tuple[RecordKind, memoryview]]


class Player(FactPlayer):
    """Takes the options of frames from a list: those of the walks are not in the frames."""

    def __init__(self, core: SchedulerCore, options: list[list[tuple[Any, ...]]]) -> None:
        super().__init__(core, lambda subject, change: core.on_client_closed(change))
        self.options = iter(options)

    def _options(self, frame: memoryview) -> list[int]:
        return [self._core.on_options(*arguments) for arguments in next(self.options)]


class Journaled(CoreMachine):
    """A machine whose core keeps a journal in memory."""

    def begin(self, threads: list[int], failures: int) -> None:
        """Listen to the core before anything happens."""
        self.records: Records = []
        self.options: list[list[tuple[Any, ...]]] = []
        self.failures = failures
        self.submissions = self.roots = 0
        self.pair = pair = Pair(allowed_failures=failures)
        known: dict[int, tuple[Any, ...]] = {}
        self.recorder = recorder = FactRecorder(pair.core, self.add, lambda: None)

        def listen(event: tuple[str, tuple[Any, ...]]) -> None:
            name, arguments = event
            recorder(event)
            if name == "on_options":
                # The number that it gets is that of the next free place.
                self.latest = arguments
            elif name == "on_tasks":
                self.options.append([known[number] for number in arguments[2]])

        real = pair.register

        def register(*arguments: Any) -> int:
            number = real(*arguments)
            priority, retries, restricted, loose, needs, for_worker, _ = self.latest
            known[number] = (priority, retries, restricted, loose, needs, for_worker, None)
            return number

        both = pair.both

        def noticing(name: str, *arguments: Any) -> Any:
            answer = both(name, *arguments)
            if name == "on_tick":
                recorder.add_outcomes()
                for number in answer:
                    self.add(RecordKind.FACT, b"\x92\xa4gone" + bytes([number]))
            return answer

        pair.register = register  # type: ignore[method-assign]
        pair.both = noticing  # type: ignore[method-assign]
        pair.core.recorder = listen
        for nthreads in threads:
            pair.add_worker(nthreads, {})
        pair.both("on_client", "c")

    def add(self, kind: RecordKind, *pieces: bytes) -> None:
        """A record."""
        self.records.append((kind, memoryview(b"".join(pieces))))

    def teardown(self) -> None:
        """Nothing is undone: what is there is compared."""
        self.recorder.add_outcomes()


def wants(core: SchedulerCore, number: int) -> dict[int, bytes]:
    ids = facts.wanted_ids(core.model, number)
    rows = core.who_has(number, ids)
    return {id: facts.keys_of(core.model, [row[0]])[0] for id, row in zip(ids, rows, strict=True) if row}


def known(core: SchedulerCore) -> dict[Any, tuple[Any, ...]]:
    return {
        view["key"]: (view["dependencies"], view["dependents"], view["wanted"], view["retries"], view["suspicious"],
                      view["kept"], view["has_work"])
        for view in core.tasks()
    }  # fmt: skip


def errors(core: SchedulerCore) -> dict[Any, bytes]:
    """Of the tasks that failed, but for those whose data was lost."""
    answer = {}
    for view in core.tasks():
        if view["state"] == "erred":
            (row,) = facts.outcomes(core.model, [view["id"]])
            assert row[3] is not None
            if b"lost" not in row[3]:
                answer[view["key"]] = row[3]
    return answer


def fed(machine: Journaled) -> tuple[SchedulerCore, FactPlayer]:
    """A new core that has read the journal of the machine."""
    new = SchedulerCore(EPOCH + 1, (3, 4), {"allowed_failures": machine.failures})
    player = Player(new, machine.options)
    for kind, body in machine.records:
        player.play(kind, body)
    return new, player


@pytest.mark.parametrize("seed", range(15))
def test_a_core_fed_from_a_journal_knows_what_the_other_knew(seed: int) -> None:
    machine = Journaled()
    Walk(machine, seed).run(150)
    old = machine.pair.core
    new, _ = fed(machine)
    new.validate()
    assert known(new) == known(old)
    for client in range(len(machine.pair.model.universe.clients)):
        assert wants(new, client) == wants(old, client)
    assert errors(new) == errors(old)


@pytest.mark.parametrize("seed", range(15))
def test_a_snapshot_has_all_that_the_journal_came_to(seed: int) -> None:
    machine = Journaled()
    Walk(machine, seed).run(150)
    old, player = fed(machine)
    new = SchedulerCore(EPOCH + 2, (5, 6), {"allowed_failures": machine.failures})
    loaded = FactPlayer(new, lambda subject, change: None)
    snapshot = SnapshotPlayer(new, loaded)
    for _, pieces in records_of(old, player):
        snapshot.play(memoryview(b"".join(pieces)))
    new.validate()
    assert known(new) == known(old)
    assert errors(new) == errors(old)
    assert (loaded.names, loaded.applied) == (player.names, player.applied)
    for number in player.names:
        assert wants(new, number) == wants(old, number)
    states = {view["key"]: view["state"] for view in old.tasks()}
    assert {view["key"]: view["state"] for view in new.tasks()} == states



@pytest.mark.parametrize("seed", range(3))
def test_a_journal_may_end_after_any_record(seed: int) -> None:
    machine = Journaled()
    Walk(machine, seed).run(150)
    records = machine.records
    for count in range(0, len(records), 9):
        machine.records = records[:count]
        new, _ = fed(machine)
        new.validate()


@pytest.mark.parametrize("seed", range(10))
def test_records_that_no_scheduler_wrote_are_refused_and_break_nothing(seed: int) -> None:
    machine = Journaled()
    Walk(machine, seed).run(60)
    old, player = fed(machine)
    draw = random.Random(seed)
    rows = [(kind, b"".join(pieces)) for kind, pieces in records_of(old, player)]
    for kind, body in [*((kind, bytes(body)) for kind, body in machine.records), *rows]:
        damaged = bytearray(body)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        new = SchedulerCore(EPOCH, (5, 6), {})
        loaded = Player(new, [[]] * 1000)
        snapshot = SnapshotPlayer(new, loaded)
        with contextlib.suppress(JournalError):
            if kind is RecordKind.ROWS:
                snapshot.play(memoryview(rows[0][1]))
                snapshot.play(memoryview(damaged))
            else:
                loaded.play(kind, memoryview(damaged))
