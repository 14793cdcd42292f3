"""`actors=` of get, compute and persist. May import: fastdist, pytest; dask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastdist import Actor, Client, LocalCluster

dask = pytest.importorskip("dask")


class Counter:
    def __init__(self, start: int = 0) -> None:
        self.n = start

    def add(self, by: int = 1) -> int:
        self.n += by
        return self.n


def count(counter: Counter, by: int) -> int:
    return counter.add(by).result()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_some_tasks_of_a_graph_make_actors(client: Client) -> None:
    graph = {"counter": (Counter, 5), "a": (count, "counter", 1), "b": (count, "other", 1), "other": (Counter, 9)}
    for actors in (["counter", "other"], {"counter": True, "other": True, "a": False}, {"counter", "other"}):
        assert client.get(graph, ["a", "b"], actors=actors) == [6, 10]
    assert client.get({"counter": (Counter, 1), "x": (count, "counter", 1)}, "x", actors="counter") == 2
    with pytest.raises(AttributeError, match="result"):
        client.get({"plain": (Counter, 5), "x": (count, "plain", 1)}, "x")


def test_all_tasks_of_a_graph_may_make_actors(client: Client) -> None:
    first, second = client.get({"one": (Counter, 1), ("two", 0): (Counter, 2)}, ["one", ("two", 0)], actors=True)
    assert isinstance(first, Actor) and isinstance(second, Actor)
    assert (first.add().result(), second.add().result()) == (2, 3)


def test_collections_make_actors(client: Client) -> None:
    counter = dask.delayed(Counter)(5)
    actor = client.compute(counter, actors=True).result()
    assert isinstance(actor, Actor) and actor.add(2).result() == 7
    value = dask.delayed(count)(dask.delayed(Counter, pure=False)(3), 1)
    made = [key for key in value.__dask_graph__() if str(key).startswith("Counter")]
    assert client.compute(value, actors=made).result() == 4
    kept = client.persist(dask.delayed(Counter)(1), actors=[counter])
    assert isinstance(client.compute(kept).result(), Counter)


def test_what_is_no_key_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="actors="):
        client.get({"x": (Counter,)}, "x", actors=[True])


def test_an_actor_of_a_graph_may_have_options(client: Client) -> None:
    address = sorted(client.nthreads())[1]
    options = {"workers": [address], "priority": 3}
    future = client.get({"placed": (Counter, 5)}, "placed", sync=False, actors=["placed"], **options)
    assert future.result().add().result() == 6
    assert [list(found) for found in client.who_has(future).values()] == [[address]]
