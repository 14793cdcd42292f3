"""Signals while a client waits. May import: fastdist, the standard library, pytest."""

from __future__ import annotations

import signal
import time
from typing import Any

from fastdist import Client


def wait_for(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_a_signal_handler_may_wait_for_the_cluster_while_the_main_thread_does(client: Client) -> None:
    seen: list[Any] = []

    def handler(number: int, frame: Any) -> None:
        seen.append(client.submit(abs, -7, pure=False).result(timeout=30))
        seen.append(len(client.nthreads()))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert client.submit(wait_for, 0.4, pure=False).result(timeout=30) == 0.4
        assert seen == [7, 2]
    finally:
        signal.signal(signal.SIGALRM, before)
