"""The states of servers and clusters.

May import: nothing of fastdist.
"""

from __future__ import annotations

import enum


class Status(enum.Enum):
    """What a server or a cluster does at the moment."""

    undefined = "undefined"
    created = "created"
    init = "init"
    starting = "starting"
    running = "running"
    paused = "paused"
    stopping = "stopping"
    stopped = "stopped"
    closing = "closing"
    closing_gracefully = "closing_gracefully"
    closed = "closed"
    failed = "failed"
    dont_reply = "dont_reply"
