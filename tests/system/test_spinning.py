"""A selector that polls before it sleeps. May import: fastdist.system.spinning."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator

import pytest

from fastdist.system import spinning
from fastdist.system.spinning import SpinningSelector


@pytest.fixture
def selector(monkeypatch: pytest.MonkeyPatch) -> Iterator[SpinningSelector]:
    monkeypatch.setattr(spinning, "usable_cores", lambda: 2)
    selector = SpinningSelector()
    yield selector
    selector.close()


@pytest.fixture
def polls(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The time-outs that the system is asked with."""
    asked: list[float | None] = []
    ask = selectors.DefaultSelector.select

    def select(self: selectors.DefaultSelector, timeout: float | None = None) -> list[object]:
        asked.append(timeout)
        return ask(self, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", select)
    return asked


def test_it_polls_until_the_time_is_over_and_then_waits(selector: SpinningSelector, polls: list[float | None]) -> None:
    selector.spin(0.002)
    assert selector.select(0.001) == []
    assert polls[:-1] and set(polls[:-1]) == {0} and polls[-1] == 0.001


def test_it_spins_once_for_each_time_that_it_is_told(selector: SpinningSelector, polls: list[float | None]) -> None:
    selector.spin(0.001)
    selector.select(0)
    selector.select(0.001)
    del polls[:]
    selector.select(0.001)
    assert polls == [0.001]


def test_what_comes_while_it_spins_is_there_at_once(selector: SpinningSelector) -> None:
    here, there = socket.socketpair()
    with here, there:
        selector.register(here, selectors.EVENT_READ)
        there.send(b"x")
        selector.spin(60)
        before = time.monotonic()
        assert [key.fileobj for key, _ in selector.select()] == [here]
        assert time.monotonic() - before < 30


def test_with_one_core_it_never_spins(monkeypatch: pytest.MonkeyPatch, polls: list[float | None]) -> None:
    monkeypatch.setattr(spinning, "usable_cores", lambda: 1)
    with SpinningSelector() as selector:
        selector.spin(0.01)
        selector.select(0.001)
    assert polls == [0.001]
