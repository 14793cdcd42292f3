"""One client used by many threads at once. May import: fastdist, pytest."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator

import pytest

from fastdist import Client, as_completed, wait

THREADS = 32


@pytest.fixture
def hostile_interpreter() -> Iterator[None]:
    """Threads change all the time, and the collector runs at each allocation."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(1)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("hostile_interpreter")
def test_threads_share_a_client(client: Client) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            futures = client.map(pow, range(5), [number] * 5)
            assert [future.result(30) for future in futures] == [n**number for n in range(5)]
            same = client.submit(abs, -7)
            assert {each.key for each in as_completed([same, *futures])} == {each.key for each in [same, *futures]}
            wait(client.submit(sum, futures), timeout=30)
            assert client.gather({"a": futures, "b": same})["b"] == 7
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
