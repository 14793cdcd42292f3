"""Actors: state on one worker, used from clients, tasks and other actors.

May import: the public names of fastdist, the standard library, pytest.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest

from fastdist import (
    Actor,
    ActorFuture,
    BaseActorFuture,
    Client,
    LocalCluster,
    as_completed,
    get_client,
    get_worker,
    wait,
)

PATIENCE = 20


@pytest.fixture(scope="module", autouse=True)
def workers_get_the_classes_of_the_tests() -> Iterator[None]:
    """Worker processes cannot import a test module, so its classes travel by value."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(scope="module", params=["processes", "threads"])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=request.param == "processes") as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        yield client


class Counter:
    """Counts."""

    unit = "apples"

    def __init__(self, start: int = 0) -> None:
        self.n = start
        self.log: list[int] = []

    def increment(self, by: int = 1) -> int:
        """Count."""
        self.n += by
        return self.n

    def note(self, number: int) -> None:
        """Remember the order of calls."""
        self.log.append(number)

    async def increment_later(self) -> int:
        """Count on the event loop."""
        await asyncio.sleep(0)
        self.n += 1
        return self.n

    def fail(self) -> None:
        """Raise."""
        raise ValueError("no more apples")

    def thread(self) -> str:
        """The name of the thread that runs this."""
        return threading.current_thread().name

    def worker(self) -> Any:
        """The name of the worker."""
        return get_worker().name

    def sleep(self, seconds: float) -> None:
        """Take a while."""
        time.sleep(seconds)

    def unpicklable(self) -> Any:
        """What cannot travel."""
        return threading.Lock()

    def ask(self, other: Actor) -> tuple[bool, int]:
        """Use another actor; whether the answer was there at once."""
        future = other.increment()
        done = future.done()
        return done, future.result()

    def ping_pong(self, other: Actor, me: Actor) -> int:
        """Call an actor that calls this one."""
        return other.pong(me).result()

    def pong(self, other: Actor) -> int:
        """Call back."""
        return other.increment(100).result()

    def run_a_task(self) -> int:
        """Wait for a task."""
        return get_client().submit(lambda x: x + 1, 41, pure=False).result(PATIENCE)

    def run_a_task_that_calls(self, other: Actor) -> int:
        """Wait for a task that uses another actor, perhaps of the same worker."""
        return get_client().submit(lambda actor: actor.increment(7).result(PATIENCE), other, pure=False).result(
            PATIENCE
        )

    @property
    def broken(self) -> int:
        """Raise when it is looked at."""
        raise KeyError("broken")


@pytest.fixture
def counter(client: Client) -> Actor:
    actor = client.submit(Counter, actor=True).result(PATIENCE)
    assert isinstance(actor, Actor)
    return actor


# -- making ----------------------------------------------------------------------------------------------------


def test_the_result_of_a_future_of_an_actor_is_a_handle(client: Client) -> None:
    future = client.submit(Counter, 5, actor=True)
    actor = future.result(PATIENCE)
    assert repr(actor) == f"<Actor: Counter, key={future.key}>"
    assert actor.key == future.key
    assert future.key.startswith("Counter-")
    assert actor.n == 5


def test_every_actor_is_a_new_object_even_with_the_same_arguments(client: Client) -> None:
    first, second = client.gather([client.submit(Counter, 5, actors=True) for _ in range(2)])
    first.increment().result(PATIENCE)
    assert (first.n, second.n) == (6, 5)


def test_map_makes_actors_and_spreads_them(client: Client) -> None:
    actors = client.gather(client.map(Counter, range(6), actor=True))
    assert [actor.n for actor in actors] == list(range(6))
    names = [actor.worker().result(PATIENCE) for actor in actors]
    assert sorted(names.count(name) for name in set(names)) == [3, 3]


def test_actors_that_are_made_one_after_the_other_are_spread_too(client: Client) -> None:
    actors = [client.submit(Counter, actor=True).result(PATIENCE) for _ in range(4)]
    names = [actor.worker().result(PATIENCE) for actor in actors]
    assert sorted(names.count(name) for name in set(names)) == [2, 2]


def test_an_actor_is_made_where_it_is_asked_for(client: Client, cluster: LocalCluster) -> None:
    for name in (0, 1, 1):
        actor = client.submit(Counter, actor=True, workers=[name]).result(PATIENCE)
        assert actor.worker().result(PATIENCE) == name


def test_a_class_that_raises_fails_the_future(client: Client) -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        client.submit(Counter, actor=True, nonsense=1).result(PATIENCE)


# -- methods and attributes ------------------------------------------------------------------------------------


def test_methods_give_futures(counter: Actor) -> None:
    future = counter.increment()
    assert type(future) is ActorFuture
    assert isinstance(future, BaseActorFuture)
    assert repr(future) == "<ActorFuture>"
    assert future.result(PATIENCE) == 1
    assert future.done()
    assert future.status == "finished"
    assert future.exception() is None
    assert counter.increment(by=10).result(PATIENCE) == 11


def test_coroutine_methods_run_on_the_event_loop(counter: Actor) -> None:
    assert [counter.increment_later().result(PATIENCE) for _ in range(3)] == [1, 2, 3]


def test_attributes_are_fetched(counter: Actor) -> None:
    assert (counter.n, counter.unit) == (0, "apples")
    counter.increment(3).result(PATIENCE)
    assert counter.n == 3
    assert "increment" in dir(counter)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = counter.nothing_like_it
    with pytest.raises(KeyError, match="broken"):
        _ = counter.broken


def test_an_attribute_can_be_read_while_a_method_runs(counter: Actor) -> None:
    sleeping = counter.sleep(0.1)
    assert counter.n == 0
    assert not sleeping.done()
    sleeping.result(PATIENCE)


def test_what_a_method_raises_reaches_the_caller_with_its_traceback(counter: Actor) -> None:
    future = counter.fail()
    with pytest.raises(ValueError, match="no more apples") as caught:
        future.result(PATIENCE)
    assert any("fail" in entry.name for entry in caught.traceback)
    assert isinstance(future.exception(), ValueError)
    assert future.status == "error"
    assert counter.increment().result(PATIENCE) == 1


def test_a_result_that_cannot_travel_is_an_error_and_not_the_end(counter: Actor) -> None:
    with pytest.raises(TypeError, match="lock"):
        counter.unpicklable().result(PATIENCE)
    assert counter.increment().result(PATIENCE) == 1


def test_a_timeout_ends_the_wait_and_not_the_call(counter: Actor) -> None:
    future = counter.sleep(0.05)
    with pytest.raises(TimeoutError, match=r"0\.001 s"):
        future.result("1 ms")
    assert future.result(PATIENCE) is None


def test_calls_of_one_caller_keep_their_order(counter: Actor) -> None:
    futures = [counter.note(i) for i in range(500)]
    for future in futures:
        future.result(PATIENCE)
    assert counter.log == list(range(500))


def test_calls_of_several_threads_each_keep_their_order(counter: Actor) -> None:
    def call(first: int) -> None:
        for future in [counter.note(first + i) for i in range(100)]:
            future.result(PATIENCE)

    threads = [threading.Thread(target=call, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = counter.log
    for number in range(4):
        assert [each for each in log if each // 1000 == number] == [1000 * number + i for i in range(100)]


def test_methods_run_in_the_thread_of_actors_or_on_the_loop(counter: Actor) -> None:
    assert counter.thread().result(PATIENCE).startswith("fastdist-actors-")
    assert not counter.thread(separate_thread=False).result(PATIENCE).startswith("fastdist-actors-")


# -- waiting ---------------------------------------------------------------------------------------------------


def test_as_completed_takes_calls_of_actors_and_futures(client: Client, counter: Actor) -> None:
    calls = [counter.increment() for _ in range(3)]
    task = client.submit(lambda: 10, pure=False)
    futures = as_completed([*calls, task], timeout=PATIENCE)
    assert futures.count() == 4
    assert sorted(future.result(PATIENCE) for future in futures) == [1, 2, 3, 10]


def test_as_completed_gives_the_results_of_calls(counter: Actor) -> None:
    calls = [counter.increment(), counter.fail()]
    pairs = dict(as_completed(calls, with_results=True, raise_errors=False, timeout=PATIENCE))
    assert pairs[calls[0]] == 1
    assert pairs[calls[1]][0] is ValueError


def test_wait_takes_calls_of_actors(counter: Actor) -> None:
    calls = [counter.increment() for _ in range(3)]
    done, not_done = wait(calls, timeout=PATIENCE)
    assert (done, not_done) == (set(calls), set())
    slow = counter.sleep(0.2)
    with pytest.raises(TimeoutError):
        wait([slow], timeout="1 ms")
    done, not_done = wait([calls[0], slow], timeout=PATIENCE, return_when="FIRST_COMPLETED")
    assert calls[0] in done
    slow.result(PATIENCE)


def test_callbacks_hear_of_the_end_of_a_call(counter: Actor) -> None:
    heard = threading.Event()
    counter.increment().add_done_callback(lambda future: heard.set())
    assert heard.wait(PATIENCE)


def test_an_asynchronous_client_awaits_calls_and_attributes(cluster: LocalCluster) -> None:
    async def use() -> None:
        async with Client(cluster, asynchronous=True) as client:
            counter = await client.submit(Counter, actor=True)
            assert await counter.increment() == 1
            assert await counter.increment_later() == 2
            assert await counter.n == 2
            pending = counter.sleep(0.05)
            with pytest.raises(RuntimeError, match="must be awaited"):
                pending.result()
            await pending
            with pytest.raises(ValueError, match="no more apples"):
                await counter.fail()
            done, _ = await wait([counter.increment() for _ in range(2)])
            assert sorted([await future for future in done]) == [3, 4]
            assert [await future async for future in as_completed([counter.increment()])] == [5]

    asyncio.run(use())


# -- from tasks and actors -------------------------------------------------------------------------------------


def use(actor: Actor) -> int:
    return actor.increment(10).result(PATIENCE)


def test_tasks_use_actors_that_are_passed_to_them(client: Client, counter: Actor) -> None:
    results = client.gather([client.submit(use, counter, pure=False, workers=[name]) for name in (0, 1, 0, 1)])
    assert sorted(results) == [10, 20, 30, 40]
    assert counter.n == 40


def test_tasks_use_actors_of_which_they_depend_on_the_future(client: Client) -> None:
    future = client.submit(Counter, actor=True)
    results = client.gather([client.submit(use, future, pure=False, workers=[name]) for name in (0, 1)])
    assert sorted(results) == [10, 20]
    assert future.result(PATIENCE).n == 20


def test_a_coroutine_task_awaits_an_actor(client: Client, counter: Actor) -> None:
    async def use_it(actor: Actor) -> int:
        return await actor.increment() + await actor.n

    assert client.submit(use_it, counter, pure=False).result(PATIENCE) == 2


def test_a_task_may_make_an_actor_and_return_it(client: Client) -> None:
    def make() -> Actor:
        return get_client().submit(Counter, 3, actor=True).result(PATIENCE)

    future = client.submit(make, pure=False)
    actor = future.result(PATIENCE)
    assert actor.increment().result(PATIENCE) == 4


def test_an_actor_calls_one_of_the_same_worker_at_once(client: Client) -> None:
    first, second = (client.submit(Counter, actor=True, workers=[0]).result(PATIENCE) for _ in range(2))
    assert first.ask(second).result(PATIENCE) == (True, 1)
    assert first.ping_pong(second, first).result(PATIENCE) == 100


def test_an_actor_calls_one_of_another_worker(client: Client) -> None:
    first, second = (client.submit(Counter, actor=True, workers=[name]).result(PATIENCE) for name in (0, 1))
    assert first.ask(second).result(PATIENCE)[1] == 1


def test_a_method_that_waits_lets_other_actors_work(client: Client) -> None:
    first, second = (client.submit(Counter, actor=True, workers=[0]).result(PATIENCE) for _ in range(2))
    assert first.run_a_task().result(PATIENCE) == 42
    assert first.run_a_task_that_calls(second).result(PATIENCE) == 7


# -- the end ---------------------------------------------------------------------------------------------------


def eventually(condition: Callable[[], Any]) -> Any:
    """Look until the condition holds; what it gave last."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.002)
    return found


def test_an_actor_ends_with_its_last_handle(client: Client) -> None:
    def n_actors() -> int:
        return sum(client.run(lambda dask_worker: len(dask_worker.actor_host)).values())

    gc.collect()
    assert eventually(lambda: n_actors() == 0)
    actor = client.submit(Counter, actor=True).result(PATIENCE)
    assert n_actors() == 1
    assert actor.increment().result(PATIENCE) == 1
    del actor
    gc.collect()
    assert eventually(lambda: n_actors() == 0)


def test_a_handle_of_a_released_actor_says_so(client: Client) -> None:
    actor = client.submit(Counter, actor=True).result(PATIENCE)
    client.cancel(actor._future)
    with pytest.raises(RuntimeError, match=r"Worker holding Actor was lost\.  Status: cancelled"):
        actor.increment()
    with pytest.raises(RuntimeError, match="lost"):
        _ = actor.n


@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
def test_the_loss_of_the_worker_is_said_clearly_and_the_actor_is_not_made_again(processes: bool) -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=processes) as cluster, Client(cluster) as client:
        future = client.submit(Counter, actor=True, workers=[0], allow_other_workers=True)
        counter = future.result(PATIENCE)
        dependent = client.submit(use, future, pure=False, workers=[1])
        assert dependent.result(PATIENCE) == 10
        sleeping = counter.sleep(PATIENCE if processes else 0.1)
        if processes:
            (pid,) = client.run(os.getpid, workers=[0]).values()
            os.kill(pid, signal.SIGKILL)
        else:
            worker = cluster.workers[0]
            asyncio.run_coroutine_threadsafe(worker.close(), worker.event_loop).result(PATIENCE)
        with pytest.raises(RuntimeError, match=r"Worker holding Actor was lost\.  Status: lost"):
            sleeping.result(PATIENCE)
        with pytest.raises(RuntimeError, match="lost"):
            counter.increment()
        assert future.status == "lost"
        assert "cannot be computed again" in str(future.exception(PATIENCE))
        assert client.submit(Counter, actor=True).result(PATIENCE).increment().result(PATIENCE) == 1
