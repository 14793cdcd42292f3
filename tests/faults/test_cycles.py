"""Clusters that come and go leave nothing. May import: fastdist, tests."""

from __future__ import annotations

import gc
import logging
import os
import threading
from operator import add

import pytest

from fastdist import Client, LocalCluster


def held() -> tuple[int, int]:
    """Open files and threads of this process."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def live(protocol: str) -> None:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, protocol=protocol, silence_logs=logging.CRITICAL
        ) as cluster,
        Client(cluster) as client,
    ):
        assert client.submit(add, 1, 2).result(timeout=20) == 3


@pytest.mark.parametrize("protocol", ["inproc", "tcp"])
def test_a_hundred_clusters_leave_no_files_and_no_threads(protocol: str) -> None:
    live(protocol)
    before = held()
    for _ in range(100):
        live(protocol)
    assert held() == before
