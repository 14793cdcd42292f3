"""A plugin of pytest: whatever the tests compute runs on a cluster inside of this process.

`DASK_SUITES_ON` chooses it: `fastdist` (default), `distributed` or `none`. May import: fastdist or distributed.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

_open: list[Any] = []


def pytest_configure(config: pytest.Config) -> None:
    """Start the cluster; its client becomes the default scheduler of dask."""
    chosen = os.environ.get("DASK_SUITES_ON", "fastdist")
    if chosen == "fastdist":
        from fastdist import Client

        _open.append(Client(processes=False, n_workers=1, threads_per_worker=4))
    elif chosen == "distributed":
        from distributed import Client as PeerClient

        client = PeerClient(
            processes=False, n_workers=1, threads_per_worker=4, dashboard_address=None, protocol="inproc"
        )
        _open.append(client)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close it."""
    while _open:
        _open.pop().close()
