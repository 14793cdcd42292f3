"""Tasks that wait for tasks: one worker with one thread is enough, in one process and in another.

May import: the public names of fastdist, the standard library, pytest.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import cloudpickle
import pytest

from fastdist import (
    Client,
    LocalCluster,
    as_completed,
    default_client,
    get_client,
    get_worker,
    local_client,
    rejoin,
    secede,
    wait,
    worker_client,
)
from fastdist.context import blocking, current_task

PATIENCE = 20


@pytest.fixture(scope="module", autouse=True)
def workers_get_the_functions_of_the_tests() -> Iterator[None]:
    """Worker processes cannot import a test module, so its functions travel by value."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module", params=["processes", "threads"])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=request.param == "processes", resources={"GPU": 1}
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        yield client


def n_execution_threads() -> int:
    return sum(thread.name.startswith("fastdist-execution") for thread in threading.enumerate())


def fib(n: int) -> int:
    if n < 2:
        return n
    client = get_client()
    futures = [client.submit(fib, n - 1, pure=False), client.submit(fib, n - 2, pure=False)]
    return sum(future.result(PATIENCE) for future in futures)


def fib_watched(n: int) -> tuple[int, int]:
    """The number, and the most threads that were seen (there are few moments when many are there, but many looks)."""
    peak = 0
    ended = threading.Event()

    def look() -> None:
        nonlocal peak
        while not ended.wait(0.001):
            peak = max(peak, n_execution_threads())

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        return fib(n), peak
    finally:
        ended.set()
        watcher.join()


def test_a_deep_tree_of_waiting_tasks_completes_with_few_threads(client: Client) -> None:
    number, peak = client.submit(fib_watched, 15, pure=False).result(3 * PATIENCE)
    assert number == 610
    assert peak <= 64


def inc(x: int) -> int:
    return x + 1


def gathers() -> list[int]:
    client = get_client()
    return client.gather(client.map(inc, range(5), pure=False))


def waits() -> list[int]:
    futures = get_client().map(inc, range(5), pure=False)
    done, not_done = wait(futures)
    assert not not_done
    return sorted(future.result() for future in done)


def iterates() -> list[int]:
    futures = get_client().map(inc, range(5), pure=False)
    return sorted(future.result() for future in as_completed(futures, timeout=PATIENCE))


def asks_for_the_error() -> list[int]:
    futures = get_client().map(inc, range(5), pure=False)
    assert [future.exception(PATIENCE) for future in futures] == [None] * 5
    return [future.result() for future in futures]


def computes_a_graph() -> list[int]:
    graph = {("x", i): (inc, i) for i in range(5)}
    return get_client().get(graph, list(graph))


def uses_worker_client() -> list[int]:
    with worker_client() as client:
        assert default_client() is client
        return client.gather(client.map(inc, range(5), pure=False))


def uses_worker_client_in_the_same_slot() -> list[int]:
    with worker_client(separate_thread=False) as client:
        return client.gather(client.map(inc, range(5), pure=False))


def seceded() -> list[int]:
    secede()
    futures = get_client().map(inc, range(5), pure=False)
    results = [future.result(PATIENCE) for future in futures]
    rejoin()
    return results


async def awaits() -> list[int]:
    client = get_client()
    futures = client.map(inc, range(4), pure=False)
    first = [await future for future in futures]
    return first + await client.gather(client.map(inc, [4], pure=False))


async def iterates_asynchronously() -> list[int]:
    futures = get_client().map(inc, range(5), pure=False)
    return sorted([await future async for future in as_completed(futures)])


@pytest.mark.parametrize(
    "task",
    [
        gathers,
        waits,
        iterates,
        asks_for_the_error,
        computes_a_graph,
        uses_worker_client,
        uses_worker_client_in_the_same_slot,
        seceded,
        awaits,
        iterates_asynchronously,
    ],
    ids=lambda task: task.__name__,
)
def test_waiting_inside_of_a_task_lets_what_it_waits_for_execute(client: Client, task: Callable[[], Any]) -> None:
    assert client.submit(task, pure=False).result(PATIENCE) == [1, 2, 3, 4, 5]


def test_many_tasks_may_wait_at_once(client: Client) -> None:
    futures = client.map(lambda i: sum(gathers()), range(12), pure=False)
    assert client.gather(futures) == [15] * 12


def test_a_task_may_wait_for_one_that_goes_after_it(client: Client) -> None:
    class Box:
        def __init__(self, future: Any) -> None:
            self.future = future

    busy = client.submit(time.sleep, 0.05, pure=False)
    later = client.submit(inc, 1, pure=False, priority=-10)
    first = client.submit(lambda box: box.future.result(PATIENCE) + 1, Box(later), pure=False)
    assert first.result(PATIENCE) == 3
    assert busy.done()


def test_the_client_of_all_tasks_of_a_worker_is_one_and_is_named(client: Client) -> None:
    def who() -> tuple[str, str | None, bool]:
        own = get_client()
        return own.id, own.name, own is get_worker().client_of_tasks

    first, second = (client.submit(who, pure=False).result(PATIENCE) for _ in range(2))
    assert first == second
    assert first[0].startswith("Client-worker-")
    assert first[1:] == ("worker", True)
    assert first[0] != client.id


def test_get_client_knows_the_address_of_its_scheduler(client: Client) -> None:
    def same() -> bool:
        return get_client(get_worker().scheduler_address) is get_client()

    assert client.submit(same, pure=False).result(PATIENCE)


def test_a_future_among_the_arguments_belongs_to_the_client_of_the_task(client: Client) -> None:
    class Box:
        def __init__(self, future: Any) -> None:
            self.future = future

    def opens(box: Any) -> tuple[bool, int]:
        return box.future.client is get_client(), box.future.result(PATIENCE)

    inner = client.submit(inc, 41, pure=False)
    assert client.submit(opens, Box(inner), pure=False).result(PATIENCE) == (True, 42)


def test_resources_stay_taken_while_a_task_waits(client: Client) -> None:
    def holds() -> list[tuple[float, float]]:
        from fastdist._core.worker.inspect import resources

        own = get_client()
        seen = own.submit(lambda: resources(get_worker().core)["GPU"], pure=False).result(PATIENCE)
        return [seen, resources(get_worker().core)["GPU"]]

    assert client.submit(holds, resources={"GPU": 1}, pure=False).result(PATIENCE) == [(1, 0), (1, 0)]


def test_a_seceded_task_leaves_its_slot_to_others(client: Client) -> None:
    started, release = "started", "release"

    def outside(event: str) -> str:
        secede()
        secede()
        own = get_client()
        # Its slot is free: this runs while the seceded task goes on, without waiting anywhere.
        other = own.submit(lambda: "ran", pure=False)
        deadline = time.monotonic() + PATIENCE
        while not other.done() and time.monotonic() < deadline:
            time.sleep(0.001)
        return other.result(0)

    assert client.submit(outside, started + release, pure=False).result(PATIENCE) == "ran"


def test_errors_and_cancellation_reach_the_task_that_waits(client: Client) -> None:
    def fails() -> str:
        own = get_client()
        failed = own.submit(lambda: 1 / 0, pure=False)
        cancelled = own.submit(time.sleep, 0.05, pure=False)
        cancelled.cancel()
        try:
            cancelled.result(PATIENCE)
        except CancelledError:
            return type(failed.exception(PATIENCE)).__name__
        return "not cancelled"

    assert client.submit(fails, pure=False).result(PATIENCE) == "ZeroDivisionError"


def test_a_timeout_inside_of_a_task_ends_the_wait(client: Client) -> None:
    def gives_up() -> str:
        try:
            get_client().submit(time.sleep, 0.2, pure=False).result(timeout="20 ms")
        except TimeoutError:
            return "gave up"
        return "got it"

    assert client.submit(gives_up, pure=False).result(PATIENCE) == "gave up"


def test_the_old_name_of_worker_client_warns(client: Client) -> None:
    def old() -> list[int]:
        with pytest.warns(DeprecationWarning, match="worker_client"), local_client() as own:
            return own.gather(own.map(inc, range(2), pure=False))

    assert client.submit(old, pure=False).result(PATIENCE) == [1, 2]


@pytest.mark.parametrize("call", [secede, rejoin], ids=["secede", "rejoin"])
def test_secede_and_rejoin_say_that_they_are_for_tasks(call: Callable[[], None]) -> None:
    with pytest.raises(ValueError, match="inside of a task only"):
        call()


def test_worker_client_is_for_tasks_only(client: Client) -> None:
    with pytest.raises(ValueError, match="No worker found"), worker_client():
        pass


def test_blocking_does_nothing_outside_of_tasks() -> None:
    assert current_task.get() is None
    with blocking(), blocking():
        pass


def test_tasks_that_wait_are_not_mistaken_for_free_workers(client: Client) -> None:
    """Coroutines too: a hundred of them wait on a worker with one thread, and all come through."""

    async def child(x: int) -> int:
        await asyncio.sleep(0)
        return x

    async def parent(x: int) -> int:
        return await get_client().submit(child, x, pure=False) + 1

    assert client.gather(client.map(parent, range(100), pure=False)) == list(range(1, 101))
