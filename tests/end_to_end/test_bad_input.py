"""What a user gets for what cannot work: a clear error at the call, and a cluster that goes on."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import queue
import sys
import threading
import traceback
from typing import Any

import pytest

from fastdist import Client, Future, LocalCluster, wait
from fastdist.comm.token import Token
from fastdist.errors import (
    AuthenticationError,
    ClosedClientError,
    CycleError,
    MissingKeyError,
    SerializationError,
    TaskLostError,
)


def inc(x: int) -> int:
    return x + 1


class Locked:
    """Cannot be pickled, because of what it holds."""

    def __init__(self) -> None:
        self.inner = {"lock": threading.Lock()}

    def method(self) -> int:
        return 1


def make_lock() -> Any:
    import _thread

    return _thread.allocate_lock()


@pytest.fixture(autouse=True)
def the_cluster_goes_on(client: Client) -> Any:
    """Whatever happened, this client and its cluster still work."""
    yield
    assert client.status == "running"
    assert client.submit(inc, 1, pure=False).result(timeout=10) == 2


@pytest.mark.parametrize("call", ["submit", "map"])
def test_what_is_not_callable(client: Client, call: str) -> None:
    with pytest.raises(TypeError, match=f"First input to {call} must be a callable function"):
        getattr(client, call)(5, [1])


def test_map_needs_collections(client: Client) -> None:
    bad: Any
    for bad in (iter([1]), (i for i in "ab"), queue.Queue()):
        with pytest.raises(TypeError, match="collections with a length"):
            client.map(inc, bad)
    with pytest.raises(TypeError, match="has none"):
        client.map(inc, 5)
    with pytest.raises(TypeError, match="at least one"):
        client.map(inc)


def test_an_argument_that_cannot_be_pickled(client: Client) -> None:
    with pytest.raises(SerializationError, match=r"args\[1\]\['k'\]\[0\]\.inner\['lock'\]") as caught:
        client.submit(max, 1, {"k": [Locked()]})
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(SerializationError, match=r"kwargs\['default'\]"):
        client.submit(max, [1], default=threading.Lock())
    with pytest.raises(SerializationError, match=r"args\[0\]"):
        client.map(inc, [1, 2, threading.Lock()])
    with pytest.raises(SerializationError, match=r"args"):
        client.get({"x": (inc, threading.Lock())}, "x")


def test_a_function_that_cannot_be_pickled(client: Client) -> None:
    lock = threading.Lock()
    with pytest.raises(SerializationError, match="function closure lock"):
        client.submit(lambda: lock)
    with pytest.raises(SerializationError, match=r"__self__.*inner"):
        client.submit(Locked().method)


def test_the_rows_before_a_bad_one_are_not_lost_and_can_be_submitted_again(client: Client) -> None:
    rows: list[Any] = [10, 11, threading.Lock()]
    with pytest.raises(SerializationError):
        client.map(inc, rows)
    assert client.gather(client.map(inc, [10, 11, 12])) == [11, 12, 13]


def test_a_result_that_cannot_be_pickled_is_legal_until_it_travels(cluster: LocalCluster, client: Client) -> None:
    if not cluster.processes:
        pytest.skip("inside one process results travel by reference")
    address = sorted(client.scheduler_info()["workers"])[0]
    lock = client.submit(make_lock, pure=False, workers=address)
    wait(lock)
    assert lock.status == "finished"
    assert client.submit(lambda lock: lock.locked(), lock, workers=address).result() is False
    with pytest.raises(SerializationError, match="lock"):
        lock.result()
    with pytest.raises(SerializationError):
        client.gather([lock])
    assert client.gather([lock], errors="skip") == []
    assert lock.status == "finished"
    other = sorted(client.scheduler_info()["workers"])[1]
    elsewhere = client.submit(lambda lock: lock.locked(), lock, workers=other, pure=False)
    with pytest.raises(SerializationError):
        elsewhere.result(timeout=10)
    assert lock.status == "finished"


def test_results_that_cannot_be_pickled_inside_one_process(cluster: LocalCluster, client: Client) -> None:
    if cluster.processes:
        pytest.skip("only inside one process")
    lock = client.submit(make_lock, pure=False)
    assert not lock.result().locked()


def test_one_key_for_different_work(client: Client) -> None:
    future = client.submit(inc, 1, key="taken")
    with pytest.raises(ValueError, match="'taken' names another task"):
        client.submit(inc, 2, key="taken")
    with pytest.raises(ValueError, match="'taken' names another task"):
        client.submit(operator.neg, 1, key="taken")
    with pytest.raises(ValueError, match="'taken' names another task"):
        client.map(inc, [1, 5], key=["free", "taken"])
    same = client.submit(inc, 1, key="taken")
    assert (future.result(), same.result()) == (2, 2)
    del same
    future.release()
    assert client.submit(inc, 20, key="taken").result() == 21
    assert client.submit(inc, 30, key="taken").result() == 31


def test_keys_of_a_map_that_do_not_fit(client: Client) -> None:
    with pytest.raises(ValueError, match="the same key twice"):
        client.map(inc, [1, 2], key=["double", "double"])
    with pytest.raises(ValueError, match="1 keys for 2 tasks"):
        client.map(inc, [1, 2], key=["only"])


@pytest.mark.parametrize("key", [object(), {"a": 1}, None.__class__, ("a", object()), "k" * 70_000])
def test_what_is_no_key(client: Client, key: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="key"):
        client.submit(inc, 1, key=key)


def test_a_cycle_in_a_graph(client: Client) -> None:
    with pytest.raises(CycleError, match=r"'a' -> 'b' -> 'a'|'b' -> 'a' -> 'b'"):
        client.get({"a": (inc, "b"), "b": (inc, "a")}, "a")
    with pytest.raises(CycleError):
        client.get({"a": (inc, "a")}, "a")


def test_a_missing_key(client: Client) -> None:
    with pytest.raises(MissingKeyError, match="'nowhere'"):
        client.get({"a": 1}, "nowhere")
    with pytest.raises(KeyError):
        client.get({"a": 1}, ["a", ["nowhere"]])


def test_a_future_of_a_key_that_does_not_exist(client: Client) -> None:
    future = Future("never-submitted", client)
    with pytest.raises(TaskLostError, match="'never-submitted'"):
        future.result(timeout=5)
    assert (future.status, future.done()) == ("lost", True)
    after = client.submit(inc, 1, key="never-submitted")
    assert after.result(timeout=5) == 2


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"workers": 1.5}, TypeError, "workers="),
        ({"workers": [None]}, TypeError, "workers="),
        ({"workers": []}, ValueError, "workers="),
        ({"workers": {"a": 1}}, TypeError, "workers="),
        ({"allow_other_workers": True}, ValueError, "workers="),
        ({"allow_other_workers": "yes", "workers": "x"}, TypeError, "allow_other_workers="),
        ({"resources": ["GPU"]}, TypeError, "resources="),
        ({"resources": {"GPU": "1"}}, TypeError, "resources="),
        ({"resources": {"GPU": -1}}, ValueError, "resources="),
        ({"resources": {"GPU": float("nan")}}, ValueError, "resources="),
        ({"resources": {"GPU": float("inf")}}, ValueError, "resources="),
        ({"resources": {1: 1}}, TypeError, "resources="),
        ({"retries": -1}, ValueError, "retries="),
        ({"retries": 1.0}, TypeError, "retries="),
        ({"retries": 100_000}, ValueError, "retries="),
        ({"priority": "high"}, TypeError, "priority="),
        ({"priority": float("nan")}, ValueError, "priority="),
        ({"fifo_timeout": "soon"}, ValueError, "fifo_timeout="),
    ],
)
def test_options_that_make_no_sense(client: Client, options: dict[str, Any], error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        client.submit(inc, 1, **options)
    with pytest.raises(error, match=text):
        client.map(inc, [1], **options)


def test_futures_of_other_clients(client: Client, cluster: LocalCluster) -> None:
    with Client(cluster) as second:
        theirs = second.submit(inc, 1)
        for call in (
            lambda: client.submit(inc, theirs),
            lambda: client.gather([theirs]),
            lambda: client.cancel(theirs),
        ):
            with pytest.raises(ValueError, match="another client"):
                call()


def test_released_futures_as_arguments(client: Client) -> None:
    future = client.submit(inc, 1)
    future.release()
    with pytest.raises(ValueError, match="released"):
        client.submit(inc, future)


def test_a_closed_client(client: Client, cluster: LocalCluster) -> None:
    second = Client(cluster)
    future = second.submit(inc, 1)
    second.close()
    for call in (
        lambda: second.submit(inc, 1),
        lambda: second.map(inc, [1]),
        lambda: second.get({"x": 1}, "x"),
        lambda: second.scatter([1]),
        lambda: second.who_has(),
        lambda: second.scheduler_info(),
        lambda: second.run(inc, 1),
        lambda: second.cancel(future),
        lambda: second.retry(future),
        lambda: second.wait_for_workers(1),
    ):
        with pytest.raises(ClosedClientError, match="closed"):
            call()


def test_a_client_after_a_fork(client: Client) -> None:
    future = client.submit(inc, 1)
    assert future.result() == 2
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        texts = []
        for call in (
            lambda: client.submit(inc, 2),
            lambda: client.map(inc, [2]),
            lambda: client.gather([future]),
            lambda: future.result(),
            lambda: client.scheduler_info(),
        ):
            try:
                call()
                texts.append("nothing")
            except RuntimeError as error:
                texts.append(str(error))
            except BaseException as error:
                texts.append(repr(error))
        os.write(write, "\n".join(texts).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        texts = pipe.read().splitlines()
    assert os.waitpid(pid, 0)[1] == 0
    assert len(texts) == 5
    assert all("of which this is a fork" in text for text in texts), texts


def test_a_wrong_token(cluster: LocalCluster, client: Client, tmp_path: Any) -> None:
    if not cluster.processes:
        pytest.skip("there is no token inside one process")
    path = tmp_path / "token"
    path.write_text(Token.generate().to_hex())
    path.chmod(0o600)
    with pytest.raises(AuthenticationError):
        Client(cluster.scheduler_address, token_file=str(path), timeout=5)


def test_a_foreign_protocol_on_the_port(cluster: LocalCluster, client: Client) -> None:
    if not cluster.processes:
        pytest.skip("there is no port inside one process")

    async def knock() -> None:
        host, port = cluster.scheduler_address.removeprefix("tcp://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 4096)
        with contextlib.suppress(ConnectionError):
            # Ends only when the scheduler closes the connection.
            await reader.read()
        writer.close()

    asyncio.run(asyncio.wait_for(knock(), 10))


def test_no_scheduler_there() -> None:
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9"):
        Client("tcp://127.0.0.1:9", timeout=0.2, insecure=True)


def test_queues_and_odd_values(client: Client) -> None:
    with pytest.raises(TypeError):
        client.gather(queue.Queue())
    with pytest.raises(TypeError):
        client.scatter(iter([1]))
    with pytest.raises(TypeError):
        client.scatter(queue.Queue())
    with pytest.raises(SerializationError) if client.cluster.processes else contextlib.nullcontext():
        client.scatter([threading.Lock()])


def test_the_traceback_shows_the_users_code_first(client: Client) -> None:
    def outer(x: int) -> float:
        return inner(x)

    def inner(x: int) -> float:
        return 1 / x

    future = client.submit(outer, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        future.result()
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [frame.name for frame in frames][-2:] == ["outer", "inner"]
    remote = traceback.extract_tb(future.traceback())
    assert [frame.name for frame in remote] == ["outer", "inner"]
    assert remote[-1].filename == __file__
    assert remote[-1].line == "return 1 / x"
    chained = client.submit(inc, future)
    assert [frame.name for frame in traceback.extract_tb(chained.traceback())] == ["outer", "inner"]


def test_an_error_that_cannot_travel(client: Client) -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("odd")
            self.lock = threading.Lock()

    def fail() -> None:
        raise Odd(1, 2)

    with pytest.raises(Exception, match="odd"):
        client.submit(fail).result(timeout=5)


def test_exits_inside_of_tasks(client: Client) -> None:
    with pytest.raises(SystemExit):
        client.submit(sys.exit, 3).result(timeout=5)

    def interrupt() -> None:
        raise KeyboardInterrupt("in a task")

    with pytest.raises(KeyboardInterrupt):
        client.submit(interrupt).result(timeout=5)
