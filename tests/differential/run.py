"""Runs the snippets on one library: `python run.py distributed` prints their outcomes as JSON.

Each snippet is a function of the library and a client; its outcome is what it returns, or the class of what it
raises. Only what does not depend on time, addresses and random numbers may be in it. May import: the standard library.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import logging
import re
import sys
from collections.abc import Callable
from typing import Any

import about_clusters
import about_details
import about_tasks
from basics import LIBRARY, SNIPPETS

_CHANGING = [
    (re.compile(r"(inproc|tcp)://[^\s'\",)]+"), "<address>"),
    (re.compile(r"[0-9a-f]{32}"), "<hash>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r" at 0x[0-9a-f]+"), ""),
]


def outcome_of(function: Callable[[Any, Any], Any], lib: Any, client: Any) -> str:
    try:
        text = repr(function(lib, client))
    except Exception as error:
        text = f"raises {type(error).__name__}"
        print(f"{function.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
    for pattern, stand_in in _CHANGING:
        text = pattern.sub(stand_in, text)
    return text


def main() -> None:
    """Run the snippets named on the command line, or all of both modules."""
    logging.disable(logging.CRITICAL)
    faulthandler.dump_traceback_later(60, exit=True)
    assert about_clusters and about_details and about_tasks
    lib = importlib.import_module(LIBRARY)
    wanted = sys.argv[2:] or list(SNIPPETS)
    with (
        lib.LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        lib.Client(cluster) as client,
    ):
        outcomes = {name: outcome_of(SNIPPETS[name], lib, client) for name in wanted}
    # A snippet may have printed without an end of the line.
    print("\n" + json.dumps(outcomes))


if __name__ == "__main__":
    main()
