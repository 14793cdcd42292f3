"""The signs of life of a worker. May import: comm, errors, system."""

from __future__ import annotations

import asyncio
import logging

from fastdist.comm.core import connect
from fastdist.comm.handshake import Role
from fastdist.comm.token import Token
from fastdist.errors import FastdistError
from fastdist.system.beat import Beat

logger = logging.getLogger("fastdist.worker")

#: Seconds after each attempt to connect that failed.
PAUSES = (0.1, 1.0, 5.0)


async def start_beat(
    address: str, token: Token | None, insecure: bool, *, epoch: int, number: int, seconds: float
) -> Beat | None:
    """Send signs of life to the scheduler over a connection of their own.

    Parameters
    ----------
    address : str
        Of the scheduler.
    token, insecure
        As of `fastdist.comm.connect`.
    epoch, number : int
        Who this worker is.
    seconds : float
        Between two signs; 0 for none.

    Returns
    -------
    Beat or None
        Close it in the end.
    """
    if not seconds:
        return None
    for pause in PAUSES:
        try:
            comm = await connect(address, role=Role.BEAT, token=token, insecure=insecure)
            return Beat(comm.detach(), epoch, number, seconds)
        except (OSError, TimeoutError, FastdistError) as error:
            # Most often the scheduler is about to close, and this worker hears of it in a moment.
            logger.debug("the connection for signs of life failed: %s", error)
        await asyncio.sleep(pause)
    logger.warning("the scheduler at %s will not notice if this worker freezes", address)
    return None
