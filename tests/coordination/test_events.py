"""Event: set, cleared, waited for."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastdist import Client, Event


def test_a_flag_is_set_and_taken_back(client: Client, extensions: Any) -> None:
    event, same = Event("flag"), Event("flag")
    assert event.is_set() is False
    assert event.wait(timeout="10 ms") is False
    event.set()
    event.set()
    assert same.is_set() is True
    assert same.wait() is True
    same.clear()
    same.clear()
    assert event.wait(timeout=0) is False
    assert not extensions["event-flags"].lines and not extensions["event-flags"].flags


def test_everybody_who_waits_goes_on(
    client: Client, threads: ThreadPoolExecutor, extensions: Any, eventually: Any
) -> None:
    waiting = [threads.submit(Event("all").wait) for _ in range(8)]
    assert eventually(lambda: [len(line) for line in extensions["event-flags"].lines.values()] == [8])
    Event("all").set()
    assert [each.result(10) for each in waiting] == [True] * 8
    Event("all").clear()


def test_pickles_have_the_name(client: Client) -> None:
    event = Event()
    assert pickle.loads(pickle.dumps(event)).name == event.name
    assert event.name.startswith("event-")
