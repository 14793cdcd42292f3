"""Futures that come into tasks otherwise than as inputs: pickled, or made from a key. May import: fastdist, pytest."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest

from fastdist import Client, Future, LocalCluster, get_client, get_worker, worker_client


@pytest.fixture(scope="module", params=["processes", "threads"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    in_processes = request.param == "processes"
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    options: dict[str, Any] = {"processes": in_processes, "dashboard_address": None}
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster, Client(cluster) as client:
        yield client
    cloudpickle.unregister_pickle_by_value(module)


class Box:
    """Something that hides a future from the client."""

    def __init__(self, future: Future[int]) -> None:
        self.pickled = pickle.dumps(future)

    def open(self) -> Future[int]:
        future: Future[int] = pickle.loads(self.pickled)
        return future


def look(box: Box) -> Any:
    future = box.open()
    mine = future.client is get_client() is get_worker().client
    return mine, future.client.id.startswith("Client-worker"), future.result(), future.done(), future.key


def look_in_a_block(box: Box) -> Any:
    with worker_client() as client:
        return box.open().client is client


def submit_with(box: Box) -> int:
    return get_client().submit(sum, [box.open(), 1]).result()


def by_key(key: str) -> Any:
    future: Future[int] = Future(key)
    return future.client is get_client(), future.result()


def test_a_future_that_is_unpickled_in_a_task_belongs_to_the_client_of_the_task(client: Client) -> None:
    future = client.submit(abs, -5, key="boxed")
    future.result()
    assert client.submit(look, Box(future)).result() == (True, True, 5, True, "boxed")
    assert client.submit(look_in_a_block, Box(future)).result()
    assert client.submit(submit_with, Box(future)).result() == 6


def test_a_future_that_is_made_in_a_task_belongs_to_its_client(client: Client) -> None:
    future = client.submit(abs, -7, key="named")
    assert client.submit(by_key, "named").result() == (True, 7)
    assert future.client is client


def test_a_future_may_be_made_for_a_client_with_its_state(client: Client) -> None:
    future = client.submit(abs, -8, key="known")
    future.result()
    again: Future[int] = Future("known", client=client, state=None, _id=("any", 1))
    assert again.result() == 8 and again.status == "finished"
    with pytest.raises(TypeError, match="state="):
        Future("known", client=client, state=object())
