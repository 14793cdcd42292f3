"""The same questions asked of dask.distributed and of fastdist. May import: fastdist; dask.distributed; pytest."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from operator import neg
from typing import Any

import pytest


def answers(library: Any) -> dict[str, str]:
    """What a small session with one worker sees, without what is different each time."""
    seen: dict[str, Any] = {}

    def attempt(name: str, call: Callable[[], Any]) -> None:
        try:
            seen[name] = call()
        except Exception as error:
            seen[name] = type(error).__name__

    with library.Client(
        n_workers=1, threads_per_worker=1, processes=False, **({} if library.__name__ == "fastdist" else NO_PAGES)
    ) as client:
        futures = client.map(neg, range(3), key=["a", "b", "c"])
        library.wait(futures)
        attempt("wait", lambda: library.wait([]))
        attempt("who has", lambda: sorted((key, len(holders)) for key, holders in client.who_has().items()))
        attempt("kinds", lambda: [type(each).__name__ for each in (client.who_has(), client.has_what())])
        attempt("has what", lambda: [sorted(keys) for keys in client.has_what().values()])
        attempt("processing", lambda: list(client.processing().values()))
        attempt("threads", lambda: list(client.ncores().values()))
        attempt("call stack", client.call_stack)
        attempt("no story", lambda: client.story("nobody"))
        attempt("futures", lambda: sorted(client.futures))
        attempt("refcount", lambda: sorted(client.refcount.items()))
        attempt("publish", lambda: client.publish_dataset(x=futures, y=1))
        attempt("publish again", lambda: client.publish_dataset(y=2))
        attempt("publish nothing", lambda: client.publish_dataset(1))
        attempt("list", lambda: client.list_datasets())
        attempt("get", lambda: client.gather(client.get_dataset("x")))
        attempt("get several", lambda: client.get_dataset(["y"]))
        attempt("get missing", lambda: client.get_dataset("z"))
        attempt("mapping", lambda: (client.datasets["y"], len(client.datasets)))
        attempt("unpublish", lambda: client.unpublish_dataset("z"))
        client.set_metadata(["m", "n"], {"o": 1})
        attempt("metadata", lambda: client.get_metadata("m"))
        attempt("deeper metadata", lambda: client.get_metadata(["m", "n", "o"]))
        attempt("missing metadata", lambda: client.get_metadata("none"))
        attempt("futures of", lambda: len(library.futures_of([futures, {"a": futures[0]}])))
        with library.get_task_metadata() as tasks:
            library.wait(client.submit(neg, 5, key="inside"))
        attempt("task metadata", lambda: (tasks.metadata, tasks.state))
        attempt("executor", lambda: list(client.get_executor().map(neg, [1, 2])))
        attempt("executor options", lambda: client.get_executor(priority=1))
    return {name: repr(tuple(value) if isinstance(value, list) else value) for name, value in seen.items()}


NO_PAGES = {"dashboard_address": None}


def test_the_answers_are_those_of_dask_distributed() -> None:
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("dask.distributed is not installed")
    # In a process of its own: it leaves threads behind, and logs a lot.
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, timeout=60, check=True, stdin=subprocess.DEVNULL
    )
    assert answers(importlib.import_module("fastdist")) == json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps(answers(importlib.import_module("distributed"))))
