"""Tell the scheduler why a worker's process ended, and what it was executing.

May import: `fastdist.comm`, `fastdist.system`, `fastdist.worker.executing`.
"""

from __future__ import annotations

import logging

from fastdist.comm import Role, Token, connect
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
    worker_address: str,
    status: ExitStatus,
    executing: list[ExecutingTask],
    reason: str,
) -> None:
    """Send `worker-exited` to the scheduler over a connection of its own.

    Raises
    ------
    OSError
        The scheduler cannot be reached, or refuses.
    """
    comm = await connect(
        scheduler_address, role=Role.NANNY, token=token, insecure=insecure, timeout=CONNECT_TIMEOUT
    )
    try:
        comm.start(lambda kind, body: None, lambda message, buffers: None, lambda error: None)
        comm.send_control(
            {
                "op": "worker-exited",
                "address": worker_address,
                "exit_code": status.code,
                "signal": status.signal,
                "executing": [list(task) for task in executing],
                "reason": reason,
            }
        )
    finally:
        await comm.close()


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
