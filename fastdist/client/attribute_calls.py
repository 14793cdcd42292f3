"""Attributes and small calls that dask.distributed's Client has. May import: what the client may."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastdist.client.lifecycle import Lifecycle
from fastdist.security import Security

#: What makes calls of operations by name; it lives above this layer.
CALLS = "fastdist.compat.rpc"


class AttributeCalls(Lifecycle):
    """The part of Client that is there for those who look."""

    @property
    def dashboard_link(self) -> str | None:
        """Where the dashboard of the cluster is; None without one."""
        link: str | None = getattr(self.cluster, "dashboard_link", None)
        return link

    @property
    def direct_to_workers(self) -> bool:
        """Whether results are fetched straight from workers."""
        return self._direct

    @property
    def security(self) -> Security:
        """What the client knows about TLS."""
        return Security()

    def rpc(self, addr: str) -> Any:
        """Operations of the scheduler at an address: `await client.rpc(address).identity()`."""
        return import_module(CALLS).rpc(addr)

    def start(self, **kwargs: Any) -> Any:
        """Connect to the scheduler. A client does so by itself when it is made: this only waits for it.

        Raises
        ------
        TypeError
            If there are arguments: they belong to the constructor.
        """
        if kwargs:
            raise TypeError(f"start() takes no arguments: give {sorted(kwargs)} to Client")
        return self._starting if self._asynchronous else None
