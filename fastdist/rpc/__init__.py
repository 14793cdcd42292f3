"""Requests and replies over comms, and a pool of connections.

May import: fastdist.errors, fastdist.comm.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from fastdist.rpc.peer import Handler, Peer, Reply
from fastdist.rpc.pool import ConnectionPool

__all__ = ["ConnectionPool", "Handler", "Peer", "Reply"]

#: What makes calls of operations by name; it lives above this layer.
CALLS = "fastdist.compat.rpc"


class _CallableModule(ModuleType):
    """`fastdist.rpc` is this package and, as in dask.distributed, what `rpc(address)` calls."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return import_module(CALLS).rpc(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
