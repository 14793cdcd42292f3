"""Runs a target on damaged inputs in this process: the inputs come from a seed, and each has a time limit.

The input that is being read lies in a file that outlives this process, so that one that crashes it is known. May
import: tests.fuzz.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, FunctionType

from tests.fuzz.mutation import MAX_BYTES, mutate
from tests.fuzz.targets import Target

#: Seconds for one input, and what the process may grow by.
PATIENCE = 0.5
GROWTH = 512 << 20
_TIMED_TOGETHER = 64


class Hang(Exception):
    """An input took too long."""


class Growth(Exception):
    """An input, or many, took too much memory."""


@dataclass
class Count:
    """How many inputs were read, and how many of them were accepted."""

    inputs: int = 0
    accepted: int = 0
    slowest: float = 0.0


class LastInput:
    """A file with the input that is being read."""

    def __init__(self, path: Path) -> None:
        with open(path, "w+b") as file:
            file.truncate(4 + MAX_BYTES)
            self._memory = mmap.mmap(file.fileno(), 4 + MAX_BYTES)

    def keep(self, data: bytes) -> None:
        """This one is next."""
        self._memory[: 4 + len(data)] = len(data).to_bytes(4, "little") + data

    @staticmethod
    def read(path: Path) -> bytes:
        """What another process read last."""
        content = path.read_bytes()
        return content[4 : 4 + int.from_bytes(content[:4], "little")]


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def too_slow(number: int, frame: FrameType | None) -> None:
        raise Hang(f"it took longer than {PATIENCE:g} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def inputs_of(target: Target, seed: int) -> Iterator[bytes]:
    """The sound inputs, and then damaged ones without end; the same for the same seed."""
    corpus = target.corpus()
    yield from corpus
    draw = random.Random(seed)
    while True:
        yield mutate(draw.choice(corpus), draw, corpus)


def run(target: Target, *, seed: int, inputs: int | None, seconds: float | None, last: LastInput | None) -> Count:
    """Feed a target until the number of inputs, or the time, is used up.

    Raises
    ------
    Exception
        A finding; the file of the last input has it.
    """
    count = Count()
    deadline = None if seconds is None else time.monotonic() + seconds
    limit = _peak() + GROWTH
    with _alarm():
        for data in inputs_of(target, seed):
            if count.inputs == inputs:
                break
            if last is not None:
                last.keep(data)
            if not count.inputs % _TIMED_TOGETHER:
                if deadline is not None and time.monotonic() > deadline:
                    break
                if _peak() > limit:
                    raise Growth(f"the process has grown by more than {GROWTH >> 20} MiB")
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            begin = time.perf_counter()
            count.accepted += target.take(data)
            count.slowest = max(count.slowest, time.perf_counter() - begin)
            count.inputs += 1
    return count


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_with_atheris(target: Target, folder: Path, seconds: float) -> None:
    """The same with coverage of the Python part, by atheris; it ends this process by itself.

    Raises
    ------
    ImportError
        atheris is not installed.
    """
    import sys

    import atheris

    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(target.corpus()):
        (corpus / f"{number:03}").write_bytes(data)
    # What numpy and the rest do in Python is of no interest, and takes a minute to instrument.
    for function in [found for found in gc.get_objects() if isinstance(found, FunctionType)]:
        if (function.__module__ or "").startswith("fastdist."):
            atheris.instrument_func(function)
    options = [f"-max_total_time={int(seconds)}", f"-max_len={MAX_BYTES}", "-timeout=5", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: target.take(bytes(data)) and None)
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")
    atheris.Fuzz()
