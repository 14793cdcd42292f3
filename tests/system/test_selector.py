"""A selector with a short way to the system call. May import: fastdist.system.selector."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator

import pytest

from fastdist.system import selector as module
from fastdist.system.selector import QuickSelector


@pytest.fixture
def selector(monkeypatch: pytest.MonkeyPatch) -> Iterator[QuickSelector]:
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    selector = QuickSelector()
    yield selector
    selector.close()


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The time-outs that the system is asked with."""
    asked: list[float | None] = []
    ask = QuickSelector._ask

    def note(self: QuickSelector, timeout: float | None) -> module.Ready:
        asked.append(timeout)
        return ask(self, timeout)

    monkeypatch.setattr(QuickSelector, "_ask", note)
    return asked


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_it_polls_until_the_time_is_over_and_then_waits(selector: QuickSelector, polls: list[float | None]) -> None:
    selector.spin(0.002)
    assert selector.select(0.001) == []
    assert polls[:-1] and set(polls[:-1]) == {0} and polls[-1] == 0.001


def test_it_spins_once_for_each_time_that_it_is_told(selector: QuickSelector, polls: list[float | None]) -> None:
    selector.spin(0.001)
    selector.select(0)
    selector.select(0.001)
    del polls[:]
    selector.select(0.001)
    assert polls == [0.001]


def test_what_comes_while_it_spins_is_there_at_once(
    selector: QuickSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    here, there = pair
    selector.register(here, selectors.EVENT_READ)
    there.send(b"x")
    selector.spin(60)
    before = time.monotonic()
    assert [key.fileobj for key, _ in selector.select()] == [here]
    assert time.monotonic() - before < 30


def test_with_one_core_it_never_spins(monkeypatch: pytest.MonkeyPatch, polls: list[float | None]) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    with QuickSelector() as selector:
        selector.spin(0.01)
        selector.select(0.001)
    assert polls == [0.001]


def test_it_tells_what_can_be_read_and_written_as_any_selector_does(
    selector: QuickSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    here, there = pair
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    with selectors.DefaultSelector() as other:
        for each in (selector, other):
            each.register(here, both, "data")
        assert selector.select(0) == other.select(0)
        there.send(b"x")
        assert selector.select(0) == other.select(0)
        for each in (selector, other):
            each.modify(here, selectors.EVENT_READ)
        there.close()
        assert selector.select(0) == other.select(0)
        for each in (selector, other):
            each.unregister(here)
        assert selector.select(0) == other.select(0) == []


def test_reading_can_be_paused_and_resumed_while_writing_goes_on(
    selector: QuickSelector, pair: tuple[socket.socket, socket.socket]
) -> None:
    here, there = pair
    selector.register(here, selectors.EVENT_READ | selectors.EVENT_WRITE)
    there.send(b"x")
    selector.pause_reading(here.fileno())
    assert [events for _, events in selector.select(0)] == [selectors.EVENT_WRITE]
    selector.resume_reading(here.fileno())
    assert [events for _, events in selector.select(0)] == [selectors.EVENT_READ | selectors.EVENT_WRITE]


def test_what_it_is_to_do_before_it_sleeps_decides_how_long_it_sleeps(polls: list[float | None]) -> None:
    with QuickSelector(lambda timeout: 0 if timeout is None else timeout) as selector:
        assert selector.select() == []
    assert polls == [0]
