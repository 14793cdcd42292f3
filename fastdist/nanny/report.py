"""Tell the scheduler why a worker's process ended, and what it was executing.

May import: `fastdist.comm`, `fastdist.rpc`, `fastdist.system`, `fastdist.worker.executing`.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from fastdist.comm import Role, Token, connect
from fastdist.errors import CommClosedError
from fastdist.rpc.peer import Peer
from fastdist.system.processes import ExitStatus

logger = logging.getLogger("fastdist.nanny")

#: A task id and the attempt that was executing.
ExecutingTask = tuple[int, int]

#: Seconds to reach the scheduler; it finds the loss by itself soon after.
CONNECT_TIMEOUT = 5.0


async def report_exit(
    scheduler_address: str,
    *,
    token: Token | None,
    insecure: bool,
    peer: Peer | None,
    worker_address: str,
    executing: list[ExecutingTask],
    reason: str,
    observed: dict[str, Any],
) -> None:
    """Send `worker-exited` to the scheduler, over `peer` or, without that, over a connection of its own.

    Parameters
    ----------
    observed : dict
        What `Observation.end` gave.

    Raises
    ------
    OSError
        The scheduler cannot be reached, or refuses.
    """
    tasks = [list(task) for task in executing]
    report = {"address": worker_address, "executing": tasks, "reason": reason, **observed}
    if peer is not None:
        with contextlib.suppress(CommClosedError):
            peer.notify("worker-exited", **report)
            return
    comm = await connect(
        scheduler_address, role=Role.NANNY, token=token, insecure=insecure, timeout=CONNECT_TIMEOUT
    )
    try:
        comm.start(lambda kind, body: None, lambda message, buffers: None, lambda error: None)
        comm.send_control({"op": "worker-exited", **report})
    finally:
        await comm.close()


def how_it_ended(status: ExitStatus, observed: dict[str, Any]) -> str:
    """A clause that says how a process ended.

    Examples
    --------
    >>> how_it_ended(ExitStatus(3, None), {"out_of_memory": None})
    'its process ended with exit code 3'
    """
    text = f"its process ended with {status}"
    if observed["out_of_memory"]:
        text += f": the system killed it because {observed['out_of_memory']} was out of memory"
    return text


def read_executing(page: str | None) -> list[ExecutingTask]:
    """The tasks that a dead process was executing, from the file it mapped; none if it had no such page."""
    if page is None:
        return []
    from fastdist.worker.executing import read_page

    try:
        return read_page(page)
    except (OSError, ValueError) as error:
        logger.warning("cannot read what the worker was executing: %s", error)
        return []
