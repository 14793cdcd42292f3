"""What `dask.annotate` and the arguments of compute say about tasks; the warning about large graphs."""

from __future__ import annotations

import operator
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import dask
import pytest
from dask.delayed import delayed

from fastdist import Client, LocalCluster, get_worker
from fastdist.client.annotations import TaskOptions, task_options
from fastdist.client.options import pack_options
from fastdist.errors import SerializationError

np = pytest.importorskip("numpy")
da = pytest.importorskip("dask.array")


@pytest.fixture(scope="module")
def local() -> Iterator[LocalCluster]:
    """Two workers inside of this process, each with a resource of its own."""
    with LocalCluster(processes=False, n_workers=2, threads_per_worker=1, resources={"GPU": 1}) as cluster:
        yield cluster


@pytest.fixture
def client(local: LocalCluster) -> Iterator[Client]:
    with Client(local) as client:
        yield client


def worker_name(*ignored: Any) -> Any:
    return get_worker().name


def thread_name() -> str:
    return threading.current_thread().name


def block_worker(block: Any) -> Any:
    return np.full(block.shape, int(get_worker().name))


# What reaches the scheduler


def no_keys() -> list[Any]:
    raise AssertionError("the keys are asked for without need")


def test_arguments_come_before_annotations_around_the_call():
    with dask.annotate(retries=2, priority=1):
        options = task_options({"priority": 5}, {}, no_keys)
    assert options == TaskOptions(pack_options(priority=5, retries=2))


def test_annotations_of_layers_come_before_all_else():
    with dask.annotate(retries=2):
        options = task_options(
            {"priority": 5}, {"priority": {"x": 7}, "resources": {"y": {"GPU": 1}}}, no_keys
        )
    assert options.default == pack_options(priority=5, retries=2)
    assert options.by_key == {
        "x": pack_options(priority=7, retries=2),
        "y": pack_options(priority=5, retries=2, resources={"GPU": 1}),
    }


def test_functions_are_asked_for_each_key():
    with dask.annotate(priority=lambda key: key[1]):
        options = task_options({}, {"retries": {("x", 1): lambda key: 3}}, lambda: [("x", 1), ("x", 2)])
    assert options.by_key == {
        ("x", 1): pack_options(priority=1, retries=3),
        ("x", 2): pack_options(priority=2),
    }


def test_other_names_and_restrictions_without_workers():
    with dask.annotate(loose_restrictions=True, colour="red"):
        assert task_options({}, {"restrictions": {"x": ["a"]}}, no_keys) == TaskOptions(
            None, {"x": pack_options(workers=["a"], allow_other_workers=True)}
        )


def test_wrong_annotations_are_refused():
    with pytest.raises(TypeError, match="resources"):
        task_options({}, {"resources": {"x": 5}}, no_keys)


# What it does


@pytest.mark.parametrize("name", [0, 1])
def test_annotations_of_layers_place_tasks(client: Client, name: int) -> None:
    x = da.ones(8, chunks=2)
    with dask.annotate(workers=[str(name)]):
        y = x.map_blocks(block_worker, dtype=int)
    with dask.config.set({"optimization.fuse.active": False}):
        assert y.compute(optimize_graph=False).tolist() == [name] * 8
        assert y.persist(optimize_graph=False).compute().tolist() == [name] * 8


def test_annotations_may_depend_on_the_key(client: Client) -> None:
    with dask.annotate(workers=lambda key: [str(key[1] % 2)] if type(key) is tuple else None):
        y = da.ones(4, chunks=1).map_blocks(block_worker, dtype=int)
        assert y.compute(optimize_graph=False).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("name", ["0", "1"])
def test_arguments_of_compute_place_tasks(client: Client, name: str) -> None:
    lazy = delayed(worker_name, pure=False)
    assert str(lazy().compute(workers=[name])) == name
    assert str(client.compute(lazy(), workers=name).result()) == name
    assert str(lazy().persist(workers=[name]).compute()) == name
    assert str(client.persist(lazy(), workers=[name], allow_other_workers=True).compute()) == name
    with dask.annotate(workers=[name]):
        assert str(lazy().compute()) == name
    with pytest.raises(ValueError, match="only together with workers"):
        lazy().compute(allow_other_workers=True)


def test_retries_of_annotations_are_spent(client: Client) -> None:
    calls: list[int] = []

    def fail_twice() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise OSError(f"attempt {len(calls)}")
        return len(calls)

    with dask.annotate(retries=2):
        task = delayed(fail_twice, pure=False)()
    assert task.compute(optimize_graph=False) == 3


def test_resources_are_asked_for(client: Client) -> None:
    with dask.annotate(resources={"GPU": 1}):
        tasks = [delayed(operator.add)(i, 1) for i in range(4)]
    assert sum(dask.compute(*tasks)) == 10


def test_a_named_executor_is_looked_for(client: Client) -> None:
    with dask.annotate(executor="elsewhere"), pytest.raises(ValueError, match="no executor 'elsewhere'"):
        delayed(abs)(-1).compute()
    with dask.annotate(executor="offload"):
        threads = dask.compute(*[delayed(thread_name, pure=False)() for _ in range(3)])
    assert not {name for name in threads if "offload" not in name}
    with dask.annotate(executor="offload"):
        task = delayed(thread_name, pure=False)()
    assert "offload" in task.compute(optimize_graph=False)
    with dask.annotate(executor="default"):
        assert delayed(abs)(-1).compute() == 1


# Large graphs


def test_a_large_graph_names_its_largest_objects(client: Client) -> None:
    arrays = [np.ones(size) for size in (300_000, 600_000, 500_000, 400_000)]
    graph = {f"key-{i}": (np.sum, array) for i, array in enumerate(arrays)}
    with pytest.warns(UserWarning) as caught:
        client.get(graph, list(graph))
    (warning,) = caught
    lines = str(warning.message).splitlines()
    assert "13.7 MiB" in lines[0]
    assert [line.split("'")[1] for line in lines[1:4]] == ["key-1", "key-2", "key-3"]
    assert "4.6 MiB: a numpy.ndarray in the arguments of 'key-1'" in lines[1]
    assert warning.filename == __file__


def test_a_large_constant_that_tasks_share_is_sent_once(client: Client) -> None:
    table = np.arange(1_500_000.0)
    graph = {f"item-{i}": (pick, table, [i, slice(None)]) for i in range(20)}
    with pytest.warns(UserWarning, match="11.4 MiB.*\n.*11.4 MiB: a numpy.ndarray in the function of"):
        assert client.get(graph, list(graph)) == list(range(20))


def pick(table: Any, where: list[Any]) -> float:
    return float(table[where[0]])


def test_many_small_tasks_warn_of_nothing(client: Client) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            sum(client.get({("n", i): (abs, -i) for i in range(100)}, [("n", i) for i in range(100)])) == 4950
        )


# Single calls


def test_annotations_hold_for_submit_and_map(client: Client) -> None:
    with dask.annotate(workers=["1"]):
        assert str(client.submit(worker_name, pure=False).result()) == "1"
        assert {str(name) for name in client.gather(client.map(worker_name, range(5), pure=False))} == {"1"}
        assert str(client.submit(worker_name, pure=False, workers=["0"]).result()) == "0"
    with dask.annotate(priority=lambda key: 1), pytest.raises(NotImplementedError, match="priority"):
        client.submit(worker_name)


# What cannot be sent


@pytest.mark.parametrize(
    ("graph", "path"),
    [
        ({"one": (dict, {"x": [threading.Lock()]})}, r"'one' cannot be sent: cannot pickle args\[0\]\['x'\]\[0\]"),
        (dict.fromkeys([("n", i) for i in range(4)], (id, threading.Lock())), r"\('n', 0\).*_thread.lock"),
    ],
)
def test_what_cannot_be_pickled_is_named_with_its_task(client: Client, graph: Any, path: str) -> None:
    with pytest.raises(SerializationError, match=path):
        client.get(graph, list(graph))
