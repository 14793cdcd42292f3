"""A short run of each fuzz target, the same every time; `make fuzz` runs them for as long as one likes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.driver import Hang, LastInput, run
from tests.fuzz.mutation import MAX_BYTES, mutate
from tests.fuzz.targets import TARGETS, Target

INPUTS = 3_000


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_give_errors_that_are_meant(name: str) -> None:
    count = run(TARGETS[name](), seed=1, inputs=INPUTS, seconds=None, last=None)
    assert count.inputs == INPUTS
    # Neither does the target refuse everything, nor does the damage leave everything sound.
    assert 0 < count.accepted < INPUTS


class Fragile(Target):
    """Fails for what begins with an x, and never ends for what begins with a y."""

    name = "fragile"

    def corpus(self) -> list[bytes]:
        return [b"abc", b"aaaa"]

    def take(self, data: bytes) -> bool:
        if data[:1] == b"x":
            raise ZeroDivisionError
        while data[:1] == b"y":
            pass
        return True


def test_what_fails_is_found_and_its_input_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "last"
    with pytest.raises((ZeroDivisionError, Hang)):
        run(Fragile(), seed=3, inputs=100_000, seconds=None, last=LastInput(path))
    assert LastInput.read(path)[:1] in (b"x", b"y")


def test_an_endless_loop_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.driver.PATIENCE", 0.01)
    monkeypatch.setattr(Fragile, "corpus", lambda self: [b"y"])
    with pytest.raises(Hang):
        run(Fragile(), seed=1, inputs=1, seconds=None, last=None)


def test_the_same_seed_gives_the_same_damage() -> None:
    corpus = [bytes(range(50)), b"", b"x" * MAX_BYTES]
    ways = [[mutate(data, random.Random(seed), corpus) for data in corpus] for seed in (1, 1, 2)]
    assert ways[0] == ways[1] != ways[2]
    assert all(len(data) <= MAX_BYTES for data in ways[0])
