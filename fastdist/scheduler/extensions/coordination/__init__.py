"""Locks, semaphores, events, queues and variables that a whole cluster shares, one module each.

May import: the layers below; `scheduler.extensions`.
"""

from __future__ import annotations

from fastdist.scheduler.extensions.coordination.events import Events
from fastdist.scheduler.extensions.coordination.multi_locks import MultiLocks
from fastdist.scheduler.extensions.coordination.queues import Queues
from fastdist.scheduler.extensions.coordination.semaphores import Semaphores
from fastdist.scheduler.extensions.coordination.variables import Variables

#: What `BUILT_IN` takes from here.
COORDINATION = (Events, MultiLocks, Queues, Semaphores, Variables)

__all__ = ["COORDINATION", "Events", "MultiLocks", "Queues", "Semaphores", "Variables"]
