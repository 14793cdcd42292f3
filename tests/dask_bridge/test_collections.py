"""Collections of dask on fastdist, against dask's synchronous scheduler."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import pytest
from dask.delayed import delayed

from fastdist import Client, Future

np = pytest.importorskip("numpy")
da = pytest.importorskip("dask.array")


def inc(x: Any) -> Any:
    return x + 1


def where() -> str:
    import os

    return f"process {os.getpid()}"


def array_reduction() -> Any:
    x = da.arange(600, chunks=60).reshape((20, 30)).rechunk((5, 6))
    return ((x + x.mean(axis=0))[::2, 15:] @ x.T[:15]).sum(axis=1)


def array_overlap() -> Any:
    return da.arange(100, chunks=9).map_overlap(lambda block: block * 2, depth=1, boundary=0).cumsum(axis=0)


def array_random() -> Any:
    return da.random.default_rng(7).normal(size=(40, 40), chunks=10).std()


def bag_words() -> Any:
    bag = pytest.importorskip("dask.bag")
    return bag.from_sequence(["a b", "b c c", "a"] * 20, npartitions=7).map(str.split).flatten().frequencies()


def bag_groups() -> Any:
    bag = pytest.importorskip("dask.bag")
    return bag.from_sequence(range(50), npartitions=5).foldby(lambda x: x % 3, operator.add, 0)


def frame() -> Any:
    pytest.importorskip("dask.dataframe")
    return dask.datasets.timeseries("2000-01-01", "2000-01-06", freq="1h", partition_freq="1D", seed=3)


def frame_groupby() -> Any:
    return frame().groupby("name").agg({"x": ["sum", "std"], "y": "max"})


def frame_merge() -> Any:
    df = frame()
    return df.merge(df.groupby("name").x.max().reset_index(), on="name").x_x.sum()


def frame_shuffle() -> Any:
    return frame().set_index("id").y.sum()


def frame_quantile() -> Any:
    return frame().x.quantile([0.25, 0.5])


def delayed_tree() -> Any:
    level = [delayed(inc)(i) for i in range(16)]
    while len(level) > 1:
        level = [delayed(operator.add)(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
    return level[0]


def delayed_nest() -> Any:
    one = delayed(inc)(0)
    return delayed(dict)(a=one, b=[one, {"c": (one, 2)}], s=slice(one, None))


CASES: list[Callable[[], Any]] = [
    array_reduction,
    array_overlap,
    array_random,
    bag_words,
    bag_groups,
    frame_groupby,
    frame_merge,
    frame_shuffle,
    frame_quantile,
    delayed_tree,
    delayed_nest,
]


def alike(found: Any, expected: Any) -> bool:
    if hasattr(expected, "equals"):
        return bool(found.sort_index().round(9).equals(expected.sort_index().round(9)))
    if isinstance(expected, np.ndarray | float):
        return bool(np.allclose(found, expected))
    return bool(found == expected)


@pytest.mark.parametrize("make", CASES, ids=lambda case: case.__name__)
def test_collections_compute_what_dask_computes(client: Client, make: Callable[[], Any]) -> None:
    expected = make().compute(scheduler="sync")
    assert alike(make().compute(), expected)
    assert alike(make().compute(optimize_graph=False), expected)


def test_tasks_run_in_the_workers_and_not_here(client: Client) -> None:
    assert delayed(where)().compute() != where()


def test_several_collections_at_once(client: Client) -> None:
    x, y = da.ones(10, chunks=5).sum(), delayed(inc)(1)
    assert dask.compute(x, [y, {"z": x}], 7) == (10, [2, {"z": 10}], 7)


@pytest.mark.parametrize("make", [array_reduction, frame, bag_words, delayed_tree], ids=lambda m: m.__name__)
def test_persist_keeps_type_and_keys(client: Client, make: Callable[[], Any]) -> None:
    lazy = make()
    kept = lazy.persist()
    assert type(kept) is type(lazy)
    if make is not frame:
        assert kept.__dask_keys__() == lazy.__dask_keys__()
    values = list(dict(kept.__dask_graph__()).values())
    assert all(isinstance(value, Future) for value in values if not hasattr(value, "target"))
    assert alike(kept.compute(), make().compute(scheduler="sync"))


def test_persist_of_several(client: Client) -> None:
    x, y = client.persist([da.ones(4, chunks=2), delayed(inc)(1)])
    assert float(x.sum().compute()) == 4
    assert y.compute() == 2
    assert client.persist([]) == []


def test_a_persisted_collection_is_not_computed_again(client: Client) -> None:
    parts = [delayed(where, pure=False)() for _ in range(3)]
    first = [part.persist() for part in parts]
    pids = dask.compute(*first)
    assert dask.compute(*first) == pids
    stamp = delayed(np.random.random, pure=False)().persist()
    assert stamp.compute() == stamp.compute()


def test_results_that_a_client_holds_are_used_again(client: Client) -> None:
    source = delayed(np.random.random, pure=False)()
    twice = delayed(operator.add)(source, source)
    held = client.compute(source)
    assert client.compute(twice).result() == 2 * held.result()


def test_client_compute_gives_futures_of_whole_values(client: Client) -> None:
    x = da.arange(10, chunks=3)
    future = client.compute(x)
    assert isinstance(future, Future)
    assert list(future.result()) == list(range(10))
    futures = client.compute([x.sum(), 5, {"a": delayed(inc)(2)}])
    assert client.gather(futures) == [45, 5, {"a": 3}]
    assert client.compute(x.sum(), sync=True) == 45
    assert client.compute((x.max(), x.min()), sync=True) == [9, 0]


def test_client_compute_may_leave_containers_alone(client: Client) -> None:
    nest = {"a": delayed(inc)(2)}
    assert client.compute([nest], traverse=False) == [nest]


def test_what_compute_and_persist_do_not_know_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="colour"):
        client.compute(delayed(inc)(1), colour="red")
    with pytest.raises(TypeError, match="not int"):
        client.persist(5)


def test_futures_inside_of_collections(client: Client) -> None:
    future = client.submit(inc, 1)
    assert delayed(inc)(future).compute() == 3
    assert delayed(sum)([future, 1]).compute() == 3
    assert delayed(dict)({"a": future}).compute() == {"a": 2}
    assert client.get({"a": (sum, [future, 1])}, "a") == 3


def test_frames_from_futures_and_from_delayed(client: Client) -> None:
    dd = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    make = partial(pd.DataFrame, columns=["a"])
    futures = client.map(make, [[1, 2], [3, 4]])
    assert dd.from_delayed(futures).a.sum().compute() == 10
    assert dd.from_delayed([delayed(make)([i]) for i in range(4)]).a.sum().compute() == 6


def test_collections_of_one_client_serve_another(cluster: Any, client: Client) -> None:
    kept = da.arange(6, chunks=2).persist()
    with Client(cluster) as other:
        assert dask.base.get_scheduler() == other.get
        assert int(kept.sum().compute()) == 15


def test_futures_of_another_cluster_are_refused(client: Client) -> None:
    with Client(processes=False, n_workers=1, threads_per_worker=1, set_as_default=False) as other:
        future = other.submit(inc, 1)
        with pytest.raises(ValueError, match="another cluster"):
            client.get({"a": (inc, future)}, "a")


def test_known_results_replace_tasks(client: Client) -> None:
    x = da.arange(6, chunks=2)
    total = (x + 1).sum()
    assert client.normalize_collection(total) is total
    kept = client.persist(x)
    normal = client.normalize_collection(total)
    futures = [value for value in normal.__dask_graph__().values() if isinstance(value, Future)]
    assert len(futures) == 3
    assert int(normal.compute()) == 21
    assert kept.name == x.name


def test_the_graph_of_collections_as_a_dict(client: Client) -> None:
    x = da.arange(6, chunks=2)
    graph = client.collections_to_dsk([x])
    assert dask.get(graph, [(x.name, 1)])[0].tolist() == [2, 3]


class Numbers:
    """A collection of somebody's own."""

    def __init__(self, graph: dict[Any, Any], keys: list[Any]):
        self.graph = graph
        self.keys = keys

    def __dask_graph__(self) -> dict[Any, Any]:
        return self.graph

    def __dask_keys__(self) -> list[Any]:
        return self.keys

    def __dask_postcompute__(self) -> Any:
        return sum, ()

    def __dask_postpersist__(self) -> Any:
        return Numbers, (self.keys,)

    __dask_optimize__ = None
    __dask_scheduler__ = staticmethod(dask.threaded.get)


def test_custom_collections(client: Client) -> None:
    numbers = Numbers({("n", i): (inc, i) for i in range(4)}, [("n", i) for i in range(4)])
    assert dask.compute(numbers) == (10,)
    (kept,) = dask.persist(numbers)
    assert type(kept) is Numbers
    assert all(isinstance(value, Future) for value in kept.graph.values())
    assert client.compute(kept, sync=True) == 10


def test_errors_of_tasks_arrive(client: Client) -> None:
    with pytest.raises(ZeroDivisionError):
        delayed(operator.truediv)(1, 0).compute()
    with pytest.raises(ZeroDivisionError):
        client.compute(delayed(inc)(delayed(operator.truediv)(1, 0)), sync=True)


def compute_inside() -> tuple[float, bool]:
    import dask.array

    client = dask.base.get_scheduler().__self__
    return float(dask.array.ones(20, chunks=5).sum().compute()), type(client).__module__.startswith("fastdist.")


def test_tasks_may_compute_collections_on_the_cluster(client: Client) -> None:
    # As many at once as there are execution slots: each gives its own back while it waits.
    assert client.gather([client.submit(compute_inside, pure=False) for _ in range(2)]) == [(20.0, True)] * 2
