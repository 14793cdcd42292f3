"""Pausing the cyclic garbage collector while many objects are made that all stay.

Flattening a graph makes a few tracked objects per row; none of them is garbage, and the collector would look at all of
them again and again. May import: nothing of fastdist.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_was_enabled = False


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection inside; several threads may be inside at once.

    Examples
    --------
    >>> with collector_paused():
    ...     rows = [[number] for number in range(100_000)]
    """
    global _depth, _was_enabled
    with _lock:
        if _depth == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _was_enabled:
                gc.enable()
