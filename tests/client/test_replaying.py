"""Tasks that run again in the process of their client. May import: fastdist, pytest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from operator import add, floordiv
from typing import Any

import pytest

from fastdist import Client, LocalCluster


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        yield client


async def later(x: int) -> int:
    return -x


def test_a_task_runs_here_with_the_inputs_of_the_cluster(client: Client) -> None:
    assert client.submit(os.getpid).result() != os.getpid()
    assert client.recreate_task_locally(client.submit(os.getpid)) == os.getpid()
    x, y = client.submit(add, 1, 2), client.submit(add, 10, 20)
    total = client.submit(dict, a=[x, (y,)], b="text")
    assert client.recreate_task_locally(total) == {"a": [3, (30,)], "b": "text"}
    assert client.recreate_task_locally(total.key) == client.recreate_task_locally(total)
    (mapped,) = client.map(lambda n, k: (n, k), [x], k=5)
    assert client.recreate_task_locally(mapped) == (3, 5)
    assert client.recreate_task_locally(client.submit(later, 5)) == -5


def test_the_task_that_failed_runs_here(client: Client) -> None:
    zero = client.submit(add, 1, -1)
    failed = client.submit(floordiv, 1, zero, key="divides")
    after = client.submit(add, client.submit(add, failed, 1), 1)
    for future in (failed, after):
        with pytest.raises(ZeroDivisionError) as caught:
            client.recreate_error_locally(future)
        # It was raised here, and has no traceback of a worker.
        assert caught.traceback[-1].path.name == "replay_calls.py"
    with pytest.raises(ValueError, match="recreate_task_locally"):
        client.recreate_error_locally(zero)
    with pytest.raises(ZeroDivisionError):
        client.recreate_error_locally([zero, after])


def test_a_graph_s_tasks_run_here(client: Client) -> None:
    dask: Any = pytest.importorskip("dask")
    value = dask.delayed(sum)([dask.delayed(add)(1, 2), 4])
    future = client.compute(value)
    assert client.recreate_task_locally(future) == 7
    bad = dask.delayed(add)(dask.delayed(floordiv)(1, 0), 1).persist()
    with pytest.raises(ZeroDivisionError):
        client.recreate_error_locally(bad)


def test_inputs_that_were_released_are_computed_again(client: Client) -> None:
    x = client.submit(add, 5, 5, pure=False)
    y = client.submit(add, x, 1)
    y.result()
    del x
    assert client.recreate_task_locally(y) == 11


def test_what_cannot_run_is_named(client: Client) -> None:
    with pytest.raises(KeyError, match="'nothing'"):
        client.recreate_task_locally("nothing")
    with pytest.raises(ValueError, match="scattered"):
        client.recreate_task_locally(client.scatter(5))
