"""One sentence for each reason for which a task is not finished.

Functions of plain facts: nothing here asks anybody. May import: `scheduler.membership`, `scheduler.options`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from fastdist.scheduler.membership import WorkerEntry
from fastdist.scheduler.options import Placing

#: Workers that are named in one sentence.
SHOWN_WORKERS = 10


def moment(when: float) -> str:
    """A time of today."""
    return time.strftime("%H:%M:%S", time.localtime(when))


def plural(count: int, one: str) -> str:
    """A number with its noun."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def waiting(key: object, inputs: Sequence[object], count: int, root: object = None) -> str:
    """It waits for inputs; `root` is what the first of them needs in the end, if that is another task."""
    text = f"{key!r} waits for its input {inputs[0]!r}"
    if count > 1:
        text += f" and {plural(count - 1, 'other')}"
    return text if root is None else f"{text}, which needs {root!r}"


def queued(key: object, before: int, workers: Iterable[WorkerEntry]) -> str:
    """It is ready, and the workers have enough to do."""
    threads = sum(entry.nthreads for entry in workers)
    place = f"behind {plural(before, 'other task')}" if before else "as the next one"
    return f"{key!r} is ready and queued {place}: the {plural(threads, 'thread')} of the workers have enough to do"


def without_workers(key: object) -> str:
    """There is nobody."""
    return f"{key!r} is ready, but there is no worker"


def held_back(key: object, able: Sequence[WorkerEntry]) -> str:
    """All workers that could run it are there, and do not take work."""
    names = ", ".join(f"{entry.address} {why_no_work(entry)}" for entry in able[:SHOWN_WORKERS])
    if all(entry.status == "paused" for entry in able):
        text = f"{key!r} is held back by memory: each worker that could run it is paused until it has freed some"
        return f"{text}: {names}"
    return f"{key!r} is ready, but no worker that could run it takes work now: {names}"


def why_no_work(entry: WorkerEntry) -> str:
    """What a worker does instead of taking work, in brackets."""
    if entry.closing:
        return "(closing)"
    if entry.retiring:
        return "(retiring)"
    used = entry.metrics.get("memory")
    if entry.status == "paused" and isinstance(used, int | float) and entry.memory_limit:
        return f"({used / entry.memory_limit:.0%} of its memory limit in use)"
    return f"({entry.status})"


def nobody_fits(key: object, placing: Placing, workers: Sequence[WorkerEntry]) -> str:
    """No worker is, or has, what the task asks for."""
    wishes = []
    if placing.workers:
        wishes.append(f"a worker called {' or '.join(map(repr, placing.workers))}")
    if placing.resources:
        wishes.append(amounts(placing.resources))
    offers = [f"{entry.address} (name {entry.name!r}, {amounts(entry.resources)})" for entry in workers[:SHOWN_WORKERS]]
    if len(workers) > SHOWN_WORKERS:
        offers.append(f"and {len(workers) - SHOWN_WORKERS} more")
    there = f"the workers are: {', '.join(offers)}" if offers else "there is no worker"
    return f"{key!r} needs {' with '.join(wishes)}, and there is none: {there}"


def amounts(resources: Mapping[str, float]) -> str:
    """Resources, as they are written."""
    return ", ".join(f"{name}={amount:g}" for name, amount in sorted(resources.items())) or "no resources"


def tried_again(key: object, failures: int, when: float) -> str:
    """Its policy wants a pause."""
    return f"{key!r} failed {'once' if failures == 1 else f'{failures} times'} and is tried again at {moment(when)}"


def after_death(key: object, address: str) -> str:
    """The nanny has not told yet."""
    return f"{key!r} was on the worker at {address}, which died; it goes elsewhere as soon as its nanny has told why"


def executing(key: object, address: str, since: float | None, waits: bool) -> str:
    """It runs."""
    text = f"{key!r} is executing on the worker at {address}"
    if since is not None:
        text += f" since {moment(since)}"
    return f"{text}, without a thread, because it waits for something else or has seceded" if waits else text


def given(key: object, address: str, before: int | None, resources: Mapping[str, float], *, free: bool = True) -> str:
    """A worker has it and has not started it; `free` tells whether one of its threads has nothing to do."""
    text = f"{key!r} was given to the worker at {address}, where it "
    if before:
        return text + f"waits behind {plural(before, 'other task')}"
    wishes = ([] if free else ["a free thread"]) + ([amounts(resources)] if resources else [])
    return text + (f"waits for {' and for '.join(wishes)}" if wishes else "is about to start")


def fetching(key: object, address: str) -> str:
    """A worker has it and gets the inputs from others."""
    return f"{key!r} was given to the worker at {address}, which is fetching its inputs from other workers"


def taken_back(key: object, address: str) -> str:
    """Another worker shall have it."""
    return f"{key!r} is being taken back from the worker at {address}, because others have less to do"


def sent_ahead(key: object, address: str, inputs: Sequence[object], count: int) -> str:
    """A worker has it, before its inputs are there."""
    others = f" and {plural(count - 1, 'other')}" if count > 1 else ""
    text = f"{key!r} was sent ahead to the worker at {address}, which starts it when its input"
    return f"{text} {inputs[0]!r}{others} is there"


def ended(key: object, state: str) -> str:
    """It does not wait at all."""
    if state == "memory":
        return f"{key!r} is finished"
    if state == "erred":
        return f"{key!r} has failed"
    if state == "scattering":
        return f"the data of {key!r} is on its way to the workers"
    if state == "released":
        return f"{key!r} is not computed, because nobody wants its result now"
    return f"the scheduler knows no task {key!r}"
