"""Requests and replies over comms, and a pool of connections.

May import: fastdist.errors, fastdist.comm.
"""

from fastdist.rpc.peer import Handler, Peer, Reply
from fastdist.rpc.pool import ConnectionPool

__all__ = ["ConnectionPool", "Handler", "Peer", "Reply"]
