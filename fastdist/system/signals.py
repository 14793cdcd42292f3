"""Ask a process to end in good order: SIGINT and SIGTERM become a callback.

May import: nothing of fastdist.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import FrameType


def on_termination(
    callback: Callable[[int], None],
    loop: asyncio.AbstractEventLoop,
    numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM),
) -> Callable[[], None]:
    """Call `callback(signal number)` in `loop` when one of the signals arrives; call the result to undo.

    asyncio's own signal handlers are not used: they report through a socket that children of `os.fork`
    share, so that a signal to a forked child (as multiprocessing sends to its pools) would end this process.
    In a forked child the signals have their default effect.
    """
    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(callback, number)

    previous = {number: signal.signal(number, handle) for number in numbers}

    def undo() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    return undo
