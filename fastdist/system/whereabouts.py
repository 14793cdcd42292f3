"""Which process this is, for others to compare with their own. May import: the standard library."""

from __future__ import annotations

import os
import socket


def this_process() -> list[str | int]:
    """Host, number and parent of this process.

    Another process tells by them whether both write to the same terminal: it is this one, or its parent.
    """
    return [socket.gethostname(), os.getpid(), os.getppid()]
