"""How fast the disk, the memory and the network of workers are: functions that `Client.benchmark_hardware` runs there.

May import: layers L0 to L3.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

DISK_SIZES = ("1 kiB", "100 kiB", "1 MiB", "10 MiB", "100 MiB")
MEMORY_SIZES = ("2 kiB", "10 kiB", "100 kiB", "1 MiB", "10 MiB")
NETWORK_SIZES = ("1 kiB", "10 kiB", "100 kiB", "1 MiB", "10 MiB", "50 MiB")
_UNITS = {"kiB": 1 << 10, "MiB": 1 << 20}


def bytes_of(size: str) -> int:
    """The number of bytes that a text such as "1 kiB" names.

    Examples
    --------
    >>> bytes_of("2 kiB")
    2048
    """
    amount, unit = size.split()
    return int(amount) * _UNITS[unit]


def measure_disk(dask_worker: Any, seconds: float = 1.0) -> dict[str, float]:
    """Bytes a second written, and flushed to the disk of the worker's folder, by size of a write."""
    speeds = {}
    with tempfile.TemporaryDirectory(dir=dask_worker.local_directory) as folder:
        for size in DISK_SIZES:
            data = os.urandom(bytes_of(size))
            start, total = time.perf_counter(), 0
            while time.perf_counter() < start + seconds:
                # One file at a time, which does not grow: the disk need not be large.
                with open(os.path.join(folder, "data"), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                total += len(data)
            speeds[size] = total / (time.perf_counter() - start)
    return speeds


def measure_memory(seconds: float = 0.2) -> dict[str, float]:
    """Bytes a second copied in memory, by size of a copy."""
    speeds = {}
    for size in MEMORY_SIZES:
        data = bytearray(bytes_of(size))
        start, total = time.perf_counter(), 0
        while time.perf_counter() < start + seconds:
            bytes(data)
            total += len(data)
        speeds[size] = total / (time.perf_counter() - start)
    return speeds


async def measure_network(partners: dict[str, str], dask_worker: Any, seconds: float = 1.0) -> dict[str, float]:
    """Bytes a second sent to a partner and back, by size of a message; nothing for a worker without a partner."""
    speeds: dict[str, float] = {}
    address = partners.get(dask_worker.address)
    if address is None:
        return speeds
    peer = await dask_worker.peers.get(address)
    for size in NETWORK_SIZES:
        data = os.urandom(bytes_of(size))
        start, total = time.perf_counter(), 0
        while time.perf_counter() < start + seconds:
            await peer.call("echo", buffers=[data])
            total += 2 * len(data)
        speeds[size] = total / (time.perf_counter() - start)
    return speeds
