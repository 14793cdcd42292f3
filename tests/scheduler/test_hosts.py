"""Hosts that are lost with worker and nanny: who is blamed, and who is not. May import: fastdist, tests."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from fastdist.errors import CommClosedError
from fastdist.scheduler import hosts
from fastdist.scheduler.extensions.nannies import Nannies
from fastdist.scheduler.hosts import HOST_LOST, LostHosts

ENTRY: Any = SimpleNamespace(address="tcp://10.0.0.1:1", name="w", nanny="n")
EXECUTING = [(7, 1)]


class FakeNanny:
    """The connection of a nanny that answers, or not."""

    closed = False
    name = ""

    def __init__(self, answers: bool = True) -> None:
        self.answers = answers
        self.asked = 0

    async def call(self, op: str, *, timeout: float) -> None:
        assert op == "identity" and timeout == hosts.ANSWER_SECONDS
        self.asked += 1
        if not self.answers:
            raise asyncio.TimeoutError


class Setting:
    """A scheduler of which only what `LostHosts` uses is there; time passes when the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blamed: list[tuple[str, list[tuple[int, int]], str, dict[str, Any]]] = []
        self.wakes = 0
        self.passed = asyncio.Event()
        core = SimpleNamespace(key_of_id=lambda id: f"key-{id}", on_death_report=self._blame)
        self.scheduler: Any = SimpleNamespace(core=core, wake=self._wake, extensions={}, epoch=1)
        self.nannies = self.scheduler.extensions["nannies"] = Nannies(self.scheduler)
        self.scheduler.extensions = {"nannies": self.nannies}
        self.hosts = LostHosts(self.scheduler)

        async def sleep(seconds: float) -> None:
            assert seconds == hosts.REPORT_SECONDS
            await self.passed.wait()

        monkeypatch.setattr(hosts, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))

    def _blame(self, *arguments: Any) -> None:
        self.blamed.append(arguments)  # type: ignore[arg-type]

    def _wake(self) -> None:
        self.wakes += 1

    def connect(self, nanny: Any) -> None:
        self.nannies.register(nanny, {"nanny": ENTRY.nanny}, [])

    async def after_the_window(self) -> list[Any]:
        waits = list(self.hosts._waits.values())
        self.passed.set()
        await asyncio.gather(*waits, return_exceptions=True)
        assert not self.hosts._waits
        return self.blamed


def run(test: Any) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:

        async def main() -> None:
            await test(Setting(monkeypatch))

        asyncio.run(main())


@pytest.mark.parametrize("silent", [False, True])
def test_a_worker_that_is_lost_with_its_nanny_blames_its_tasks(silent: bool) -> None:
    async def test(setting: Setting) -> None:
        nanny = FakeNanny()
        setting.connect(nanny)
        setting.hosts.watch(ENTRY, EXECUTING, silent)
        await asyncio.sleep(0)
        assert not setting.blamed
        # Its end may be noticed after that of the worker.
        nanny.closed = True
        ((address, executing, how, details),) = await setting.after_the_window()
        assert (address, executing, how) == (ENTRY.address, EXECUTING, HOST_LOST)
        assert details["executing"] == ["key-7"] and setting.wakes == 1

    run(test)


def test_a_nanny_that_is_connected_is_waited_for() -> None:
    async def test(setting: Setting) -> None:
        nanny = FakeNanny()
        setting.connect(nanny)
        setting.hosts.watch(ENTRY, EXECUTING, silent=False)
        assert await setting.after_the_window() == [] and nanny.asked == 0

    run(test)


@pytest.mark.parametrize("answers", [True, False])
def test_the_nanny_of_a_silent_worker_is_asked(answers: bool) -> None:
    """A stopped worker has a nanny that answers; behind a cut cable there is none, and the connection stays open."""

    async def test(setting: Setting) -> None:
        nanny = FakeNanny(answers)
        setting.connect(nanny)
        setting.hosts.watch(ENTRY, EXECUTING, silent=True)
        blamed = await setting.after_the_window()
        assert nanny.asked == 1 and len(blamed) == (0 if answers else 1)

    run(test)


def test_a_connection_that_breaks_while_the_nanny_is_asked_is_no_answer() -> None:
    class Broken(FakeNanny):
        async def call(self, op: str, *, timeout: float) -> None:
            raise CommClosedError("cut")

    async def test(setting: Setting) -> None:
        setting.connect(Broken())
        setting.hosts.watch(ENTRY, EXECUTING, silent=True)
        assert len(await setting.after_the_window()) == 1

    run(test)


def test_a_report_over_another_connection_ends_the_wait() -> None:
    async def test(setting: Setting) -> None:
        setting.hosts.watch(ENTRY, EXECUTING, silent=False)
        setting.hosts.reported(ENTRY.address)
        assert await setting.after_the_window() == []

    run(test)


@pytest.mark.parametrize("first", [True, False])
def test_a_nanny_that_said_goodbye_is_no_lost_host(first: bool) -> None:
    async def test(setting: Setting) -> None:
        nanny: Any = FakeNanny()
        setting.connect(nanny)
        if first:
            setting.nannies.leave(nanny, {}, [])
        setting.hosts.watch(ENTRY, EXECUTING, silent=False)
        if not first:
            setting.nannies.leave(nanny, {}, [])
        nanny.closed = True
        assert await setting.after_the_window() == []

    run(test)


def test_a_nanny_that_came_back_has_not_left() -> None:
    async def test(setting: Setting) -> None:
        nanny: Any = FakeNanny()
        setting.connect(nanny)
        setting.nannies.leave(nanny, {}, [])
        nanny.closed = True
        setting.connect(FakeNanny())
        assert not setting.nannies.has_left(ENTRY.nanny)

    run(test)


def test_a_stranger_cannot_say_goodbye() -> None:
    async def test(setting: Setting) -> None:
        stranger: Any = FakeNanny()
        with pytest.raises(PermissionError, match="register-nanny must come first"):
            setting.nannies.leave(stranger, {}, [])

    run(test)


def test_what_executed_nothing_is_not_waited_for_and_the_end_ends_all_waits() -> None:
    async def test(setting: Setting) -> None:
        setting.hosts.watch(ENTRY, [], silent=False)
        assert not setting.hosts._waits
        setting.hosts.watch(ENTRY, EXECUTING, silent=False)
        await setting.hosts.close()
        assert not setting.hosts._waits and not setting.blamed

    run(test)
