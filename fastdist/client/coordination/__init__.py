"""What code anywhere in a cluster coordinates with: locks, semaphores, events, queues and variables by name.

May import: what the client may.
"""

from __future__ import annotations

from fastdist.client.coordination.event import Event
from fastdist.client.coordination.lock import Lock
from fastdist.client.coordination.multi_lock import MultiLock
from fastdist.client.coordination.queue import Queue
from fastdist.client.coordination.semaphore import Semaphore
from fastdist.client.coordination.variable import Variable

__all__ = ["Event", "Lock", "MultiLock", "Queue", "Semaphore", "Variable"]
