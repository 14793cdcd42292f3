"""The public API on a fake cluster: tasks, results, errors, life. May import: fastdist, tests."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import threading
from collections import namedtuple
from collections.abc import Iterator
from operator import add, neg
from typing import Any

import pytest

from fastdist import Client, Future, default_client, get_client, wait
from fastdist.errors import (
    ClosedClientError,
    FutureCancelledError,
    FuturesCancelledError,
    GraphError,
    SerializationError,
    TaskLostError,
    WorkerStartTimeoutError,
)
from tests.client.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    cluster = FakeCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        yield client


def fail(text: str = "no") -> None:
    raise ValueError(text)


# Submitting


def test_submit_gives_a_future_of_the_result(client: Client) -> None:
    future = client.submit(add, 1, 2)
    assert future.result() == 3
    assert (future.status, future.done(), future.cancelled(), future.type) == ("finished", True, False, int)
    assert future.client is client and future.executor is client
    assert repr(future) == f"<Future: finished, type: int, key: {future.key}>"
    assert future.key in future._repr_html_()


def test_the_same_pure_call_runs_once(client: Client, cluster: FakeCluster) -> None:
    first, second = client.submit(add, 1, 2), client.submit(add, 1, 2)
    assert first.key == second.key and first is not second
    assert client.gather([first, second]) == [3, 3]
    assert len(cluster.runs) == 1
    third, fourth = client.submit(add, 1, 2, pure=False), client.submit(add, 1, 2, pure=False)
    assert len({first.key, third.key, fourth.key}) == 3
    assert client.gather([third, fourth]) == [3, 3]


def test_keys_can_be_given(client: Client) -> None:
    assert client.submit(add, 1, 2, key="mine").key == "mine"
    assert client.submit(add, 1, 2, key=("x", 0)).key == ("x", 0)
    assert [future.key for future in client.map(neg, [1, 2], key=["a", "b"])] == ["a", "b"]
    assert all(future.key.startswith("part-") for future in client.map(neg, [3, 4], key="part"))


def test_map_takes_rows_of_several_collections(client: Client) -> None:
    assert client.gather(client.map(add, [1, 2, 3], (10, 20))) == [11, 22]
    assert client.gather(client.map(pow, range(4), [2] * 4, mod=5)) == [0, 1, 4, 4]
    assert client.map(neg, []) == []


def test_map_can_submit_in_batches(client: Client, cluster: FakeCluster) -> None:
    assert client.gather(client.map(neg, range(10), batch_size=4)) == [-i for i in range(10)]
    assert [len(frame.rows) for frame in cluster.frames] == [4, 4, 2]
    assert len({frame.submission for frame in cluster.frames}) == 3


def test_impure_maps_run_again(client: Client, cluster: FakeCluster) -> None:
    assert client.gather(client.map(neg, [1, 1, 1], pure=False)) == [-1, -1, -1]
    assert len(cluster.runs) == 3


def test_futures_are_arguments_at_any_depth(client: Client) -> None:
    x, y = client.map(neg, [1, 2])
    nested = client.submit(lambda *args, **kwargs: (args, kwargs), [x, {"y": y}], (x,), k={1: [y]})
    assert nested.result() == (([-1, {"y": -2}], (-1,)), {"k": {1: [-2]}})
    assert client.submit(sum, {x, y}).result() == -3


def test_options_reach_the_scheduler(client: Client, cluster: FakeCluster) -> None:
    client.submit(
        add, 1, 1, workers="alice", allow_other_workers=True, retries=2, priority=5, resources={"GPU": 1},
        fifo_timeout="1s",
    ).result()  # fmt: skip
    (row,) = cluster.frames[0].rows
    assert row.options == {
        "workers": ["alice"], "allow_other_workers": True, "retries": 2, "priority": 5,
        "resources": {"GPU": 1},
    }  # fmt: skip
    assert cluster.frames[0].fifo_timeout == 1_000_000
    client.map(neg, [5, 6], retries=1)[1].result()
    assert [row.options for row in cluster.frames[1].rows] == [{"retries": 1}] * 2


def test_a_function_is_sent_once(client: Client, cluster: FakeCluster) -> None:
    client.submit(neg, 1).result()
    client.submit(neg, 2).result()
    assert [bool(payload) for frame in cluster.frames for payload in frame.functions.values()] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("kwargs", "error", "text"),
    [
        ({"workers": object()}, TypeError, "workers="),
        ({"allow_other_workers": True}, ValueError, "together with workers"),
        ({"allow_other_workers": "yes", "workers": "a"}, TypeError, "True or False"),
        ({"resources": ["GPU"]}, TypeError, "resources="),
        ({"resources": {"GPU": -1}}, ValueError, "negative"),
        ({"retries": -1}, ValueError, "retries="),
        ({"retries": 1.5}, TypeError, "retries="),
        ({"priority": "high"}, TypeError, "priority="),
        ({"fifo_timeout": "soon"}, ValueError, "fifo_timeout="),
    ],
)
def test_wrong_options_are_named(client: Client, kwargs: dict[str, Any], error: Any, text: Any) -> None:
    with pytest.raises(error, match=text):
        client.submit(add, 1, 2, **kwargs)
    with pytest.raises(error, match=text):
        client.map(neg, [1], **kwargs)


def test_what_cannot_be_submitted_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="First input to submit must be a callable"):
        client.submit(1)
    with pytest.raises(TypeError, match="First input to map must be a callable"):
        client.map(1, [2])
    for collection in (iter([1]), queue.Queue()):
        with pytest.raises(TypeError, match="submit in a loop"):
            client.map(neg, collection)
    with pytest.raises(TypeError, match="at least one"):
        client.map(neg)
    with pytest.raises(ValueError, match="twice"):
        client.map(neg, [1, 2], key=["a", "a"])
    with pytest.raises(ValueError, match="1 keys for 2 tasks"):
        client.map(neg, [1, 2], key=["a"])


def test_an_argument_that_cannot_be_pickled_fails_at_the_call(client: Client, cluster: FakeCluster) -> None:
    with pytest.raises(SerializationError, match="args"):
        client.submit(id, {"a": threading.Lock()})
    with pytest.raises(SerializationError):
        client.map(id, [1, 2, threading.Lock()])
    assert client.submit(neg, 1).result() == -1
    assert sum(len(frame.rows) for frame in cluster.frames) == 1


# Results


def test_gather_keeps_the_containers(client: Client) -> None:
    x, y = client.map(neg, [1, 2])
    assert client.gather(x) == -1
    assert client.gather([x, [y, {"k": (x, 5)}]]) == [-1, [-2, {"k": (-1, 5)}]]
    assert client.gather({x, y}) == {-1, -2}
    assert client.gather([]) == [] and client.gather([1]) == [1]
    assert list(client.gather(iter([x, y]))) == [-1, -2]
    with pytest.raises(TypeError, match="queues"):
        client.gather(queue.Queue())
    with pytest.raises(ValueError, match="errors="):
        client.gather([x], errors="ignore")


def test_failed_tasks_can_be_skipped(client: Client) -> None:
    good, bad = client.submit(neg, 1), client.submit(fail)
    assert client.gather([good, bad], errors="skip") == [-1]
    assert client.gather({"good": good, "bad": [bad]}, errors="skip") == {"good": -1, "bad": []}


def test_results_that_are_not_inline_are_fetched(client: Client, cluster: FakeCluster) -> None:
    cluster.inline = False
    futures = client.map(list, [[1], [2], [3]])
    assert client.gather(futures) == [[1], [2], [3]]
    assert futures[0].result() is futures[0].result()
    assert client.gather(futures, direct=False) == [[1], [2], [3]]
    assert [name for name, _ in cluster.calls if name in ("get-data", "gather")] == ["get-data"] * 3 + [
        "gather"
    ]


def test_results_come_through_the_scheduler_when_workers_cannot_be_reached(
    client: Client, cluster: FakeCluster
) -> None:
    cluster.inline = False
    cluster.unreachable = True
    assert client.gather(client.map(list, [[1], [2]])) == [[1], [2]]


def test_a_result_that_cannot_travel_fails_at_the_gather(client: Client, cluster: FakeCluster) -> None:
    future = client.submit(threading.Lock)
    with pytest.raises(SerializationError):
        future.result()
    assert future.status == "finished"


def test_the_error_of_a_task_arrives_with_its_traceback(client: Client) -> None:
    future = client.submit(fail, "broken")
    for _ in range(2):
        with pytest.raises(ValueError, match="broken") as caught:
            future.result()
        names = [entry.name for entry in caught.traceback]
        assert names.count("fail") == 1
    assert future.status == "error"
    assert future.exception() is future.exception()
    assert future.traceback() is not None
    assert client.submit(neg, 1).exception() is None and client.submit(neg, 1).traceback() is None
    with pytest.raises(ValueError, match="broken"):
        client.submit(neg, future).result()


def test_a_failure_ends_the_gather_early(client: Client, cluster: FakeCluster) -> None:
    cluster.held = True
    slow, bad = client.submit(neg, 1), client.submit(fail)
    # An answer means that the tasks have arrived, too.
    client.scheduler_info()
    cluster.waiting.reverse()
    cluster.let_go(1)
    with pytest.raises(ValueError, match="no"):
        client.gather([slow, bad])
    assert slow.status == "pending"


def test_waiting_ends_at_the_timeout(client: Client, cluster: FakeCluster) -> None:
    cluster.held = True
    future = client.submit(neg, 1)
    with pytest.raises(TimeoutError, match=r"timed out after 0\.01 s: 1 of 1 tasks"):
        future.result(timeout="10 ms")
    with pytest.raises(TimeoutError):
        wait([future], timeout=0.01)
    with pytest.raises(TimeoutError):
        future.exception(0.01)
    assert future.status == "pending"


def test_ctrl_c_ends_a_wait(client: Client, cluster: FakeCluster) -> None:
    cluster.held = True
    future = client.submit(neg, 1)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        future.result()
    timer.join()


def test_a_future_of_a_known_key_can_be_made(client: Client) -> None:
    client.submit(neg, 1, key="known").result()
    future = Future("known", client)
    assert future.result() == -1
    assert Future("known").key == "known"
    with pytest.raises(TaskLostError, match="there is no task 'never'"):
        Future("never", client).result()


def test_futures_travel_as_their_keys(client: Client) -> None:
    future = client.submit(neg, 1)
    again = pickle.loads(pickle.dumps(future))
    assert again.key == future.key and again.result() == -1


def test_a_future_without_a_client_says_so() -> None:
    future = Future("alone")
    assert (future.status, future.key, future.client) == (None, "alone", None)
    with pytest.raises(RuntimeError, match="no client"):
        future.result()


def test_done_callbacks_get_the_future(client: Client, cluster: FakeCluster) -> None:
    cluster.held = True
    future = client.submit(neg, 1)
    client.scheduler_info()
    called: queue.Queue[Any] = queue.Queue()
    future.add_done_callback(called.put)
    assert called.empty()
    cluster.let_go()
    assert called.get(timeout=5) is future
    future.add_done_callback(called.put)
    assert called.get(timeout=5) is future


# Releasing and cancelling


def test_futures_that_go_are_released(client: Client, cluster: FakeCluster) -> None:
    futures = client.map(neg, range(5))
    wait(futures)
    kept = futures[2]
    futures[0].release()
    del futures
    deadline = threading.Event()
    for _ in range(500):
        if len(cluster.released) == 4:
            break
        deadline.wait(0.01)
    assert sorted(cluster.released) == [1, 2, 4, 5]
    assert kept.result() == -2


def test_cancelled_futures_say_why(client: Client, cluster: FakeCluster) -> None:
    cluster.held = True
    future, other = client.submit(neg, 1), client.submit(neg, 2)
    future.cancel(reason="tired", msg="of waiting")
    assert (future.status, future.cancelled(), future.done()) == ("cancelled", True, True)
    with pytest.raises(FutureCancelledError, match="cancelled for reason: tired") as caught:
        future.result()
    assert (caught.value.key, caught.value.reason, caught.value.msg) == (future.key, "tired", "of waiting")
    with pytest.raises(FuturesCancelledError, match="tired"):
        wait([future])
    client.cancel([other])
    with pytest.raises(FutureCancelledError, match=f"was cancelled by {client.id}"):
        client.gather([other])


def test_a_cancelled_key_can_be_submitted_again(client: Client, cluster: FakeCluster) -> None:
    cluster.held = True
    client.submit(neg, 1).cancel()
    cluster.held = False
    assert client.submit(neg, 1).result() == -1


def test_failed_tasks_can_be_retried(client: Client, cluster: FakeCluster) -> None:
    future = client.submit(fail)
    assert future.exception() is not None
    client.retry([future])
    assert future.exception() is not None
    assert len(cluster.runs) == 2


# Graphs and data


def test_get_computes_keys_of_a_graph(client: Client, cluster: FakeCluster) -> None:
    graph = {"x": 1, "y": (neg, "x"), "z": (add, (neg, "y"), 10), "unused": (fail,)}
    assert client.get(graph, "z") == 11
    assert client.get(graph, ["x", ["y", "z"]]) == [1, [-1, 11]]
    futures = client.get(graph, ["z"], sync=False)
    assert [type(future) for future in futures] == [Future]
    assert b"unused" not in b"".join(cluster.runs)


def test_graphs_may_hold_futures_and_known_keys(client: Client) -> None:
    x = client.submit(neg, 5, key="x")
    assert client.get({"y": (neg, x)}, "y") == 5
    assert client.get({"a": (neg, "b"), "b": (neg, 1)}, ["a", "x"]) == [1, -5]


def test_broken_graphs_are_refused_before_anything_is_sent(client: Client, cluster: FakeCluster) -> None:
    with pytest.raises(GraphError, match="circle"):
        client.get({"a": (neg, "b"), "b": (neg, "a")}, "a")
    with pytest.raises(GraphError, match="missing"):
        client.get({"a": 1}, "missing")
    assert cluster.frames == []


def test_scattered_data_keeps_its_container(client: Client) -> None:
    Pair = namedtuple("Pair", "left right")
    assert client.gather(client.scatter([1, 2])) == [1, 2]
    assert client.gather(client.scatter({"a": [1], "b": 2})) == {"a": [1], "b": 2}
    assert client.scatter({"c": 3})["c"].key == "c"
    assert type(client.scatter((1,))) is tuple and type(client.scatter({7})) is set
    assert client.gather(client.scatter(range(2))) == [0, 1]
    assert type(client.scatter(Pair(1, 2))) is Pair
    one = client.scatter(5)
    assert client.submit(neg, one).result() == -5
    assert client.scatter(5).key == one.key
    assert client.scatter(5, hash=False).key != one.key
    with pytest.raises(TypeError, match="list"):
        client.scatter(iter([1]))


# The cluster


def test_questions_about_the_cluster(client: Client, cluster: FakeCluster) -> None:
    future = client.submit(neg, 1)
    future.result()
    assert client.scheduler_info()["type"] == "Fake"
    assert client.nthreads() == client.ncores() == {cluster.scheduler_address: 3}
    assert client.who_has([future]) == {future.key: [cluster.scheduler_address]}
    assert client.has_what() == {cluster.scheduler_address: [future.key]}
    client.wait_for_workers(1)
    with pytest.raises(WorkerStartTimeoutError, match="Only 1 of 2"):
        client.wait_for_workers(2, timeout=0.01)
    with pytest.raises(ValueError, match="at least 1"):
        client.wait_for_workers(0)


def test_functions_run_outside_of_the_task_system(client: Client, cluster: FakeCluster) -> None:
    assert client.run(add, 1, 2) == {cluster.scheduler_address: 3}
    with pytest.raises(ValueError, match="oops"):
        client.run(fail, "oops")
    assert client.run(fail, on_error="ignore") == {}
    assert isinstance(client.run(fail, on_error="return")[cluster.scheduler_address], ValueError)
    with pytest.raises(ValueError, match="on_error="):
        client.run(fail, on_error="never")


# Life


def test_closing_says_goodbye_and_cancels(cluster: FakeCluster) -> None:
    client = Client(cluster)
    cluster.held = True
    future = client.submit(neg, 1)
    client.close()
    client.close()
    assert (client.status, future.status, cluster.goodbyes) == ("closed", "cancelled", 1)
    for call in (lambda: client.submit(neg, 1), lambda: client.map(neg, [1]), client.nthreads):
        with pytest.raises(ClosedClientError, match="client-closed"):
            call()
    with pytest.raises(FutureCancelledError, match="client-closed"):
        future.result()


def test_a_broken_connection_cancels_all_futures(cluster: FakeCluster) -> None:
    client = Client(cluster)
    cluster.held = True
    future = client.submit(neg, 1)
    cluster.break_connections()
    with pytest.raises(FutureCancelledError, match="scheduler-connection-lost"):
        future.result(5)
    client.close()
    with pytest.raises(ClosedClientError, match="closed the connection"):
        client.submit(neg, 2)


def test_the_newest_client_is_the_default(cluster: FakeCluster) -> None:
    with pytest.raises(ValueError, match="no client"):
        default_client()
    first, second = Client(cluster), Client(cluster)
    third = Client(cluster, set_as_default=False)
    assert default_client() is second and get_client() is second
    assert default_client(third) is third
    with third.as_current():
        assert Client.current() is third
    second.close()
    assert default_client() is first
    with pytest.raises(ValueError, match="no current client"):
        Client.current(allow_global=False)
    first.close()
    third.close()
    with pytest.raises(ValueError, match="no current client"):
        Client.current()


def test_arguments_of_the_constructor_are_checked(cluster: FakeCluster) -> None:
    with pytest.raises(TypeError, match="address or a cluster"):
        Client(5)
    with pytest.raises(ValueError, match="LocalCluster"):
        Client(cluster, n_workers=2)
    with pytest.raises(ValueError, match="timeout=None"):
        Client(cluster, timeout=None)
    for name in ("serializers", "deserializers"):
        with pytest.raises(NotImplementedError, match=f"{name}="):
            Client(cluster, **{name: {"x": 1}})
    with pytest.raises(NotImplementedError, match="security=True"):
        Client(cluster, security=True)
    with pytest.raises(TypeError, match="loop="):
        Client(cluster, loop={"x": 1})
    with pytest.raises(OSError):
        Client("inproc://nobody", timeout=0.05)


def test_futures_of_another_client_are_refused(client: Client, cluster: FakeCluster) -> None:
    with Client(cluster, set_as_default=False) as other:
        future = other.submit(neg, 1)
        with pytest.raises(ValueError, match="another client"):
            client.gather([future])
        with pytest.raises(ValueError, match="another client"):
            client.submit(neg, future)


def test_a_client_is_inert_in_a_forked_child(client: Client) -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            client.submit(neg, 1)
            text = "nothing was raised"
        except RuntimeError as error:
            text = str(error)
        client.close()
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert "is a fork" in stream.read()
    os.waitpid(pid, 0)
    assert client.submit(neg, 1).result() == -1


def test_an_address_may_come_from_a_file(cluster: FakeCluster, tmp_path: Any) -> None:
    path = tmp_path / "scheduler.json"
    timer = threading.Timer(0.03, path.write_text, (f'{{"address": "{cluster.scheduler_address}"}}',))
    timer.start()
    with Client(scheduler_file=str(path)) as client:
        assert client.submit(neg, 1).result() == -1
    timer.join()
    with pytest.raises(TimeoutError, match="no scheduler has written"):
        Client(scheduler_file=str(tmp_path / "none.json"), timeout=0.02)
