"""Snippets about details: errors and texts, options, states, what servers show. May import: the standard library."""

# ruff: noqa: E501
from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import operator
import queue
import threading
import time
import warnings
from collections import namedtuple
from typing import Any

from basics import LIBRARY, PATIENCE, Counter, attempt, fail, inc, lib_event, snippet

Pair = namedtuple("Pair", "x y")


# -- submit, map -----------------------------------------------------------------------------------------------


@snippet
def map_refuses(lib: Any, client: Any) -> Any:
    return (
        attempt(client.map, inc, queue.Queue()), attempt(client.map, inc, [1], workers=object()), attempt(client.map, inc),
        attempt(client.map, inc, [1], retries=-1) != 5, attempt(client.map, inc, 5),
    )  # fmt: skip


@snippet
def map_details(lib: Any, client: Any) -> Any:
    return (
        client.gather(client.map(operator.add, range(5), [1, 2, 3])),
        client.gather(client.map(str, {"a": 1, "b": 2})),
        client.gather(client.map(inc, client.map(inc, [1, 2]))),
        client.gather(client.map(inc, (1, 2))), client.gather(client.map(inc, range(3), priority=5, retries=2, resources=None)),
        sorted(client.gather(client.map(inc, {1, 2}))), client.gather(client.map(inc, [1, 2], workers=list(client.nthreads()))),
    )  # fmt: skip


@snippet
def kwargs_and_futures(lib: Any, client: Any) -> Any:
    x = client.submit(inc, 1)
    return (
        client.submit(lambda a, b=0, **more: (a, b, more), x, b=x, c=[x]).result(PATIENCE),
        client.submit(lambda pair: pair, Pair(1, 2)).result(PATIENCE), client.submit(dict, a=x).result(PATIENCE),
        client.submit(lambda *args: args, x, [x, (x, {"k": x})]).result(PATIENCE), client.submit(inc, x=5).result(PATIENCE),
    )  # fmt: skip


@snippet
def priorities_in_order(lib: Any, client: Any) -> Any:
    address = sorted(client.nthreads())[0]
    lib.Event("gate").clear()
    held = [client.submit(lib_event, "gate", workers=[address], pure=False) for _ in range(2)]

    def note(name: str) -> None:
        importlib.import_module(LIBRARY).Queue("order").put(name)

    with lib.Lock("one-by-one"):
        futures = [
            client.submit(note, name, workers=[address], priority=priority, pure=False, key=f"prio-{name}", resources=None)
            for name, priority in (("low", -5), ("high", 10))
        ]
        time.sleep(0.3)
        lib.Event("gate").set()
        client.gather(held + futures)
    found = lib.Queue("order").get(batch=True)
    return sorted(found)


@snippet
def the_same_key_again(lib: Any, client: Any) -> Any:
    one = client.submit(inc, 1, key="again")
    two = client.submit(inc, 1, key="again")
    return one.result(PATIENCE), two.result(PATIENCE), one == two, len({one, two}), one.key == two.key


@snippet
def keys_are_checked(lib: Any, client: Any) -> Any:
    return [attempt(client.submit, inc, 1, key=key) for key in ([1], {"a"})]


@snippet
def functions_of_many_kinds(lib: Any, client: Any) -> Any:
    import functools

    class Callable:
        def __call__(self, x: int) -> int:
            return x * 3

        def method(self, x: int) -> int:
            return x * 4

        @classmethod
        def of_class(cls, x: int) -> str:
            return cls.__name__ * x

    return (
        client.submit(Callable(), 1).result(PATIENCE), client.submit(Callable().method, 1).result(PATIENCE), client.submit(Callable.of_class, 2).result(PATIENCE),
        client.submit(functools.partial(pow, 2), 5).result(PATIENCE), client.submit(operator.attrgetter("real"), 5).result(PATIENCE),
        client.submit(functools.partial(inc), 1).key.split("-")[0], client.submit(lambda: 5).key.split("-")[0], client.submit("a".upper).result(PATIENCE),
    )  # fmt: skip


# -- futures ---------------------------------------------------------------------------------------------------


@snippet
def the_chain_of_an_error(lib: Any, client: Any) -> Any:
    class Own(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")
            self.a = a

        def __reduce__(self) -> Any:
            return type(self), (self.a, 2)

    def chained() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise Own(1, 2) from error

    future = client.submit(chained, pure=False)
    error = future.exception(PATIENCE)
    frames = []
    tb = future.traceback()
    while tb is not None:
        frames.append(tb.tb_frame.f_code.co_name)
        tb = tb.tb_next
    return type(error).__name__, str(error), error.a, type(error.__cause__).__name__, "chained" in frames


@snippet
def futures_and_threads(lib: Any, client: Any) -> Any:
    results: list[Any] = [None] * 8

    def use(number: int) -> None:
        results[number] = client.submit(inc, 1000 + number).result(PATIENCE)

    threads = [threading.Thread(target=use, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@snippet
def states_of_futures(lib: Any, client: Any) -> Any:
    good, bad = client.submit(inc, 1), client.submit(fail, "state")
    lib.wait([good, bad])
    waiting = client.submit(lib_event, "states", pure=False)
    outcome = [(f.status, f.done(), f.cancelled()) for f in (good, bad, waiting)]
    waiting.cancel()
    outcome.append((waiting.status, waiting.done(), waiting.cancelled()))
    lib.Event("states").set()
    return outcome


@snippet
def cancelling_many(lib: Any, client: Any) -> Any:
    lib.Event("many").clear()
    root = client.submit(lib_event, "many", pure=False)
    children = client.map(lambda x, y: y, [root] * 3, range(3))
    client.cancel([root])
    lib.Event("many").set()
    lib_errors = {attempt(child.result, PATIENCE) for child in children}
    return root.status, sorted({child.status for child in children}), sorted(lib_errors), attempt(client.cancel, []), attempt(client.gather, children)


@snippet
def gathering_what_was_cancelled(lib: Any, client: Any) -> Any:
    good, bad = client.submit(inc, 1), client.submit(inc, 2, key="to-cancel")
    lib.wait([good, bad])
    bad.cancel()
    return attempt(client.gather, [good, bad]), client.gather([good, bad], errors="skip")


@snippet
def callbacks_in_order(lib: Any, client: Any) -> Any:
    done: queue.Queue[Any] = queue.Queue()
    bad = client.submit(fail, "callback")
    lib.wait([bad])
    bad.add_done_callback(lambda future: done.put((future.status, threading.current_thread() is threading.main_thread())))
    return done.get(timeout=PATIENCE)


# -- scatter, gather -------------------------------------------------------------------------------------------


@snippet
def scatter_details(lib: Any, client: Any) -> Any:
    address = sorted(client.nthreads())[0]
    there = client.scatter(b"there", workers=[address])
    named = client.scatter(Pair(1, 2))
    other = client.scatter({"a": 1}, hash=False)
    return (
        client.who_has(there)[there.key] == (address,) or list(client.who_has(there)[there.key]) == [address], type(named).__name__, client.gather(named),
        sorted(other), attempt(client.scatter, queue.Queue()), len(client.who_has(client.scatter(77, broadcast=2)).popitem()[1]),
    )  # fmt: skip


@snippet
def gather_details(lib: Any, client: Any) -> Any:
    x = client.submit(inc, 1)
    return (
        client.gather({1: [x, {2: x}]}), client.gather(frozenset([x])), attempt(client.gather, queue.Queue()), client.gather([x, x]), client.gather({"x": 5}),
        client.gather([[x], []]), client.gather(5), client.gather("text"), client.gather(None), client.gather([None, x]),
    )  # fmt: skip


# -- wait and as_completed -------------------------------------------------------------------------------------


@snippet
def waiting_details(lib: Any, client: Any) -> Any:
    x, y = client.submit(inc, 1), client.submit(inc, 2)
    return (
        lib.wait(x).not_done, len(lib.wait([x, [y]]).done), len(lib.wait({x, y}).done), len(lib.wait([]).done), len(lib.wait({"a": x}).done),
        len(lib.wait([x, y], timeout="10 s").done),
    )  # fmt: skip


@snippet
def as_completed_details(lib: Any, client: Any) -> Any:
    x, y = client.submit(inc, 1), client.submit(inc, 2)
    lib.wait([x, y])
    twice = [future.key == x.key for future in lib.as_completed([x, x])]
    ac = lib.as_completed([x, y])
    deadline = time.monotonic() + PATIENCE
    while not ac.has_ready() and time.monotonic() < deadline:
        time.sleep(0.001)
    ready = ac.has_ready()
    first = ac.next_batch()
    ac.clear()
    empty = lib.as_completed([])
    return (
        twice, ready, len(first) >= 1, ac.count(), list(empty), empty.is_empty(), attempt(next, empty), attempt(empty.add, 5), attempt(empty.update, [5]),
        [type(f).__name__ for f in lib.as_completed(iter([x]))], attempt(lib.as_completed, 5),
    )  # fmt: skip


# -- datasets, metadata, events --------------------------------------------------------------------------------


@snippet
def datasets_details(lib: Any, client: Any) -> Any:
    client.datasets["one"] = [1]
    client.publish_dataset({"mapped": {"x": 1}})
    outcome = (
        "one" in client.datasets, client.datasets["one"], sorted(client.datasets), len(client.datasets), client.get_dataset("mapped"), attempt(client.publish_dataset, 1, 2),
        attempt(client.publish_dataset, 5, name="n", other=6), attempt(lambda: client.datasets["nope"]),
    )  # fmt: skip
    del client.datasets["one"]
    client.unpublish_dataset("mapped")
    return outcome, sorted(client.datasets), attempt(client.datasets.__delitem__, "one")


@snippet
def events_from_tasks(lib: Any, client: Any) -> Any:
    def tell(x: int) -> int:
        importlib.import_module(LIBRARY).get_worker().log_event("from-task", {"x": x})
        return x

    client.gather(client.map(tell, range(2)))
    deadline = time.monotonic() + PATIENCE
    while len(client.get_events("from-task")) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return sorted(event["x"] for _, event in client.get_events("from-task")), attempt(client.log_event, "t", object()), client.get_events("never-used")


@snippet
def metadata_details(lib: Any, client: Any) -> Any:
    client.set_metadata(["deep", 1, ("t", 2)], None)
    client.set_metadata("list", [1, {"x": (1, 2)}])
    return client.get_metadata(["deep"]), client.get_metadata(["deep", 1]), client.get_metadata("list")[0], attempt(client.get_metadata, ["deep", 2])


# -- coordination ----------------------------------------------------------------------------------------------


@snippet
def coordination_in_tasks(lib: Any, client: Any) -> Any:
    def count(_: int) -> None:
        inner = importlib.import_module(LIBRARY)
        with inner.Lock("counting"):
            value = inner.Variable("count").get(timeout=PATIENCE)
            inner.Variable("count").set(value + 1)

    lib.Variable("count").set(0)
    client.gather(client.map(count, range(6)))
    semaphore = lib.Semaphore(2, "shared")

    def use(sem: Any) -> bool:
        with sem:
            return bool(sem.get_value() <= 2)

    return lib.Variable("count").get(), client.gather(client.map(use, [semaphore] * 4, pure=False)), semaphore.get_value()


@snippet
def pickled_coordination(lib: Any, client: Any) -> Any:
    import pickle

    made = [lib.Lock("p-lock"), lib.Event("p-event"), lib.Queue("p-queue"), lib.Variable("p-variable"), lib.Semaphore(1, "p-semaphore"), lib.MultiLock(["p-multi"])]
    names = []
    for each in made[:5]:
        copy = pickle.loads(pickle.dumps(each))
        names.append((type(copy).__name__, copy.name))
    return names, made[5].names


@snippet
def coordination_refuses(lib: Any, client: Any) -> Any:
    queue_ = lib.Queue("refusing", maxsize=1)
    semaphore = lib.Semaphore(max_leases=1, name="strict")
    semaphore.acquire(timeout=1)
    other = attempt(lambda: lib.Semaphore(max_leases=2, name="strict").get_value())
    semaphore.release()
    return (
        attempt(queue_.get, timeout=0.01), attempt(queue_.get, batch=2, timeout=1), other, attempt(lib.Event("e2").wait, timeout="10ms"),
        attempt(lib.Lock("free").release), lib.Lock("free").acquire(blocking=False),
    )  # fmt: skip


@snippet
def queue_order_and_batches(lib: Any, client: Any) -> Any:
    queue_ = lib.Queue("batches")
    for i in range(5):
        queue_.put(i)
    return queue_.get(batch=2), queue_.qsize(), queue_.get(), queue_.get(batch=True), queue_.get(batch=True)


# -- actors ----------------------------------------------------------------------------------------------------


@snippet
def actor_details(lib: Any, client: Any) -> Any:
    class Notes:
        calls: Any = None

        def __init__(self) -> None:
            self.calls: list[int] = []

        def note(self, x: int) -> None:
            self.calls.append(x)

        async def later(self, x: int) -> int:
            await asyncio.sleep(0)
            return x + 1

        def noted(self) -> list[int]:
            return self.calls

    actor = client.submit(Notes, actor=True).result(PATIENCE)
    pending = [actor.note(i) for i in range(20)]
    for call in pending:
        call.result(PATIENCE)
    done = [call.result() for call in lib.as_completed([actor.later(1), actor.later(2)])]
    return actor.noted().result(PATIENCE) == list(range(20)), actor.later(5).result(PATIENCE), sorted(done), actor.calls == list(range(20)), "note" in dir(actor)


@snippet
def actors_of_graphs(lib: Any, client: Any) -> Any:
    import dask

    counter = dask.delayed(Counter)(5, dask_key_name="the-counter")
    made = client.compute(counter, actors=True).result(PATIENCE)
    return type(made).__name__, made.add(1).result(PATIENCE), made.n


# -- the client ------------------------------------------------------------------------------------------------


@snippet
def what_the_client_says(lib: Any, client: Any) -> Any:
    class NoPlugin:
        pass

    return (
        attempt(client.retire_workers, ["tcp://127.0.0.1:1"]) != 5, attempt(client.rebalance), attempt(client.replicate, []), attempt(client.upload_file, "/no/such/file.py"),
        attempt(client.unregister_scheduler_plugin, "none"), attempt(client.get_versions, check=True) is not None, attempt(client.write_scheduler_file, "/no/such/folder/x"),
        attempt(client.get_executor().map, inc, [1]) is not None, attempt(client.subscribe_topic, "x", lambda event: None), attempt(client.register_plugin, NoPlugin()),
        client.id.startswith("Client-"), client.generation, type(client.scheduler.address).__name__, client.amm.running(), attempt(client.submit, fail).status in ("pending", "error"),
    )  # fmt: skip


@snippet
def constructors_refuse(lib: Any, client: Any) -> Any:
    address = client.cluster.scheduler_address
    return (
        attempt(lib.Client, 5), attempt(lib.Client, address, timeout=None), attempt(lib.Client, address, n_workers=2), attempt(lib.Client, address, nonsense=2),
        attempt(lib.Client, client.cluster.scheduler_address, security=5), attempt(lib.LocalCluster, nonsense=1, processes=False, n_workers=1, dashboard_address=":0"),
    )  # fmt: skip


@snippet
def task_metadata_and_streams(lib: Any, client: Any) -> Any:
    with lib.get_task_metadata() as tasks:
        future = client.submit(inc, 1, key="with-metadata", pure=False)
        future.result(PATIENCE)
    with lib.get_task_stream(client) as stream:
        client.submit(inc, 5, key="streamed").result(PATIENCE)
    return tasks.state.get("with-metadata"), sorted(tasks.metadata), any(each["key"] == "streamed" for each in stream.data)


@snippet
def clients_within_clients(lib: Any, client: Any) -> Any:
    with lib.Client(client.cluster.scheduler_address, set_as_default=False) as other:
        mine, theirs = client.submit(inc, 1), other.submit(inc, 1)
        mixed = attempt(other.gather, [mine])
        with other.as_current():
            inside = lib.Client.current() is other
        return mine.result(PATIENCE), theirs.result(PATIENCE), inside, lib.Client.current() is client, mixed, mine == theirs, other.cluster is None


@snippet
def warnings_and_prints(lib: Any, client: Any) -> Any:
    def tell() -> str:
        inner = importlib.import_module(LIBRARY)
        inner.print("hello", 5, sep="-", end="")
        return str(attempt(inner.print, "x", file=5))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return client.submit(tell, pure=False).result(PATIENCE)


@snippet
def executor_details(lib: Any, client: Any) -> Any:
    executor = client.get_executor()
    lib.Event("held-by-executor").clear()
    held = executor.submit(lib_event, "held-by-executor")
    states = [held.running() or not held.done()]
    lib.Event("held-by-executor").set()
    done, not_done = concurrent.futures.wait([held], timeout=PATIENCE)
    mapped = list(executor.map(operator.add, [1, 2], [10, 20], timeout=PATIENCE, chunksize=2))
    bad = executor.map(fail, [1])
    outcome = states, len(done), len(not_done), mapped, attempt(next, bad), repr(executor).startswith("<ClientExecutor")
    executor.shutdown(wait=True)
    return outcome


# -- what servers show -----------------------------------------------------------------------------------------


@snippet
def servers_in_this_process(lib: Any, client: Any) -> Any:
    scheduler = client.cluster.scheduler
    future = client.submit(inc, 5, key="shown")
    future.result(PATIENCE)
    task = scheduler.tasks["shown"]
    worker = next(iter(client.cluster.workers.values()))
    return (
        task.state, task.key, len(task.who_has), task.retries, task.suspicious, task.type, task.prefix.name, task.group.name, task.actor,
        len(scheduler.workers), scheduler.total_nthreads, len(scheduler.clients) >= 1, scheduler.allowed_failures, scheduler.get_task_status(["shown", "no"]),
        list(scheduler.get_who_has(["shown"])), sorted(scheduler.get_ncores().values()), scheduler.id.startswith("Scheduler-"), scheduler.status.name,
        type(worker.name).__name__, worker.state.nthreads, worker.status.name, worker.nanny, scheduler.coerce_hostname("x"), scheduler.workers_list(None) == list(scheduler.workers),
        attempt(scheduler.remove_plugin, "none"), repr(task), task.run_spec is not None, scheduler.tasks["shown"].loose_restrictions, len(task.dependents or ()),
    )  # fmt: skip


@snippet
def plugins_of_the_scheduler(lib: Any, client: Any) -> Any:
    class Recorder(lib.SchedulerPlugin):  # type: ignore[misc, name-defined]
        name = "recorder"

        def __init__(self) -> None:
            self.seen: list[Any] = []

        def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
            if str(key).startswith("watched"):
                self.seen.append((key, start, finish))

    recorder = Recorder()
    client.cluster.scheduler.add_plugin(recorder)
    client.submit(inc, 1, key="watched").result(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while "forgotten" not in {finish for _, _, finish in recorder.seen} and time.monotonic() < deadline:
        time.sleep(0.01)
    client.cluster.scheduler.remove_plugin("recorder")
    ends = [finish for _, _, finish in recorder.seen]
    return ends[-1] if ends else None, "processing" in ends, "memory" in ends
