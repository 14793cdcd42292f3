"""Ask a process to end in good order: SIGINT and SIGTERM become a callback.

May import: nothing of fastdist.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

#: The signals that are callbacks in this process.
_taken: set[int] = set()
_forking = threading.local()


def on_termination(
    callback: Callable[[int], None],
    loop: asyncio.AbstractEventLoop,
    numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM),
) -> Callable[[], None]:
    """Call `callback(signal number)` in `loop` when one of the signals arrives; call the result to undo.

    asyncio's own signal handlers are not used: they report through a socket that children of `os.fork`
    share, so that a signal to a forked child (as multiprocessing sends to its pools) would end this process.
    In a forked child the signals have their default effect, from its first moment on.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(callback, number)

    _taken.update(numbers)
    previous = {number: signal.signal(number, handle) for number in numbers}

    def undo() -> None:
        _taken.difference_update(numbers)
        for number, handler in previous.items():
            signal.signal(number, handler)

    return undo


# The interpreter drops signals that reach a forked child before its first step, and a handler in Python misses
# one that comes just before a blocking call: whoever then waits for the end of the child waits for ever, as
# multiprocessing does for its pools. So signals wait until the child has the default handlers, which need no
# interpreter.


def _hold_signals() -> None:
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _taken) if _taken else None


def _let_signals_through() -> None:
    mask, _forking.mask = getattr(_forking, "mask", None), None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _reset_in_child() -> None:
    for number in _taken:
        signal.signal(number, signal.SIG_DFL)
    _taken.clear()
    _let_signals_through()


os.register_at_fork(
    before=_hold_signals, after_in_parent=_let_signals_through, after_in_child=_reset_in_child
)
