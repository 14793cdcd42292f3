"""Snippets about what a cluster offers beside tasks. May import: the standard library."""

# ruff: noqa: E501
from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import time
from typing import Any

from basics import LIBRARY, PATIENCE, Counter, attempt, fail, inc, snippet

# -- datasets, metadata, events --------------------------------------------------------------------------------


@snippet
def datasets(lib: Any, client: Any) -> Any:
    future = client.submit(inc, 1)
    client.publish_dataset(published=future, other=[1, 2])
    client.publish_dataset([3], name=("tuple", 1))
    outcome = (
        sorted(map(str, client.list_datasets())), client.get_dataset("published").result(PATIENCE), client.get_dataset("other"),
        attempt(client.get_dataset, "none"), client.get_dataset("none", default=5), attempt(client.publish_dataset, other=1),
        client.datasets["other"], sorted(map(str, client.datasets)), "other" in client.datasets, attempt(client.publish_dataset, 1),
    )  # fmt: skip
    client.publish_dataset(other=7, override=True)
    outcome += (client.get_dataset("other"),)
    for name in ("published", "other", ("tuple", 1)):
        client.unpublish_dataset(name)
    return (*outcome, list(client.list_datasets()), attempt(client.unpublish_dataset, "none"))


@snippet
def metadata(lib: Any, client: Any) -> Any:
    client.set_metadata("m", 1)
    client.set_metadata(["n", "inner"], [1, 2])
    return (
        client.get_metadata("m"), client.get_metadata(["n"]), client.get_metadata(["n", "inner"]), attempt(client.get_metadata, "zzz"),
        client.get_metadata("zzz", None), client.get_metadata(["n", "none"], default="d"),
    )  # fmt: skip


@snippet
def events(lib: Any, client: Any) -> Any:
    client.log_event("topic", {"x": 1})
    client.log_event(["topic", "second"], "text")
    found = client.get_events("topic")
    return type(found).__name__, [message for _, message in found], client.get_events("second")[0][1], "topic" in client.get_events()


@snippet
def subscriptions(lib: Any, client: Any) -> Any:
    got: concurrent.futures.Future[Any] = concurrent.futures.Future()
    client.subscribe_topic("news", lambda event: got.done() or got.set_result(event[1]))
    deadline = time.monotonic() + PATIENCE
    while not got.done() and time.monotonic() < deadline:
        # The subscription may still be on its way.
        client.log_event("news", {"a": {"b": 1}})
        time.sleep(0.01)
    outcome = got.result(0)
    client.unsubscribe_topic("news")
    return outcome, attempt(client.unsubscribe_topic, "never heard of")


# -- coordination ----------------------------------------------------------------------------------------------


@snippet
def locks(lib: Any, client: Any) -> Any:
    lock, other = lib.Lock("l"), lib.Lock("l")
    got = lock.acquire(timeout=1), other.acquire(timeout=0.02), lock.locked(), other.acquire(blocking=False)
    lock.release()
    with other:
        inside = lock.locked()
    return got, inside, lock.locked(), attempt(lock.release), attempt(lock.acquire, blocking=False, timeout=1), other.name


@snippet
def semaphores(lib: Any, client: Any) -> Any:
    sem = lib.Semaphore(max_leases=2, name="s")
    got = [sem.acquire(timeout=0.05) for _ in range(3)], sem.get_value(), sem.release(), sem.get_value()
    return got, sem.release(), attempt(sem.release)


@snippet
def multi_locks(lib: Any, client: Any) -> Any:
    lock = lib.MultiLock(names=["m1", "m2"])
    first = lock.acquire(timeout=1), lib.MultiLock(names=["m2", "m3"]).acquire(timeout=0.02), lock.locked()
    lock.release()
    return first, lock.locked(), attempt(lock.release)


@snippet
def cluster_events(lib: Any, client: Any) -> Any:
    event = lib.Event("e")
    return event.is_set(), event.wait(timeout=0.02), event.set(), event.is_set(), event.wait(1), event.clear(), event.is_set(), event.name


@snippet
def queues(lib: Any, client: Any) -> Any:
    queue = lib.Queue("q", maxsize=3)
    for item in (1, "two", [3]):
        queue.put(item)
    full = attempt(queue.put, 4, timeout=0.02)
    rest = queue.qsize(), queue.get(), queue.get(batch=True), queue.qsize(), attempt(queue.get, timeout=0.02)
    queue.put(client.submit(inc, 1))
    return full, rest, queue.get().result(PATIENCE)


@snippet
def variables(lib: Any, client: Any) -> Any:
    variable = lib.Variable("v")
    empty = attempt(variable.get, timeout=0.02)
    variable.set({"a": [1]})
    plain = variable.get()
    variable.set(client.submit(inc, 1))
    future = variable.get().result(PATIENCE)
    variable.delete()
    return empty, plain, future


# -- actors ----------------------------------------------------------------------------------------------------


@snippet
def actors(lib: Any, client: Any) -> Any:
    counter = client.submit(Counter, 5, actor=True).result(PATIENCE)
    calls = [counter.add(), counter.add(10)]
    return (
        [call.result(PATIENCE) for call in calls], counter.n, counter.kind, type(counter).__name__, type(calls[0]).__name__,
        attempt(lambda: counter.fail().result(PATIENCE)), attempt(lambda: counter.no_such), calls[0].done(), isinstance(counter, lib.Actor),
    )  # fmt: skip


@snippet
def actors_in_tasks(lib: Any, client: Any) -> Any:
    counter = client.submit(Counter, actor=True).result(PATIENCE)
    return client.submit(lambda actor: actor.add(3).result(), counter).result(PATIENCE), counter.n


# -- about the cluster -----------------------------------------------------------------------------------------


@snippet
def the_cluster(lib: Any, client: Any) -> Any:
    future = client.submit(inc, 1, key="held")
    future.result(PATIENCE)
    info = client.scheduler_info()
    address = next(iter(client.nthreads()))
    return (
        sorted(client.nthreads().values()), sorted(client.ncores()) == sorted(client.nthreads()), len(info["workers"]), info["type"],
        type(client.who_has()).__name__, type(client.has_what()).__name__, len(client.who_has(future)["held"]), list(client.who_has([future])),
        any("held" in keys for keys in client.has_what().values()), client.processing(workers=[address]) == {address: []} or "other",
        type(client.nbytes()).__name__, "held" in client.nbytes(summary=False), client.status, client.asynchronous,
    )  # fmt: skip


@snippet
def functions_on_workers(lib: Any, client: Any) -> Any:
    def name(dask_worker: Any) -> str:
        return type(dask_worker).__name__

    async def later() -> int:
        return 5

    def scheduler(dask_scheduler: Any) -> str:
        return type(dask_scheduler).__name__

    return (
        sorted(client.run(name).values()), sorted(client.run(later).values()), client.run_on_scheduler(scheduler), attempt(client.run, fail),
        sorted(type(error).__name__ for error in client.run(fail, on_error="return").values()), client.run(fail, on_error="ignore"),
        attempt(client.run, fail, on_error="what"), sorted(client.run(inc, 1).values()),
    )  # fmt: skip


@snippet
def executors(lib: Any, client: Any) -> Any:
    with client.get_executor(pure=False) as executor:
        future = executor.submit(pow, 2, 5)
        mapped = list(executor.map(inc, [1, 2, 3]))
        bad = executor.submit(fail)
        outcome = future.result(PATIENCE), mapped, attempt(bad.result, PATIENCE), isinstance(future, concurrent.futures.Future)
    return outcome, attempt(executor.submit, inc, 1), attempt(client.get_executor, nonsense=1)


@snippet
def waiting_for_workers(lib: Any, client: Any) -> Any:
    return client.wait_for_workers(1), attempt(client.wait_for_workers, 50, timeout=0.05), attempt(client.wait_for_workers, 0)


@snippet
def versions(lib: Any, client: Any) -> Any:
    found = client.get_versions()
    return sorted(found), sorted(found["client"]), len(found["workers"])


@snippet
def current_clients(lib: Any, client: Any) -> Any:
    with client.as_current():
        inside = lib.Client.current() is client
    return inside, lib.default_client() is client, attempt(lib.default_client, 5), lib.Client.current(allow_global=True) is client


@snippet
def plugins(lib: Any, client: Any) -> Any:
    class Mark(lib.WorkerPlugin):  # type: ignore[misc, name-defined]
        name = "mark"

        def setup(self, worker: Any) -> None:
            worker.mark = 5

    class Not:
        pass

    client.register_plugin(Mark())
    marked = sorted(client.run(lambda dask_worker: dask_worker.mark).values())
    client.unregister_worker_plugin("mark")
    return marked, attempt(client.register_plugin, Not()), attempt(client.register_plugin, Mark), attempt(client.unregister_worker_plugin, "mark")


@snippet
def resources_and_places(lib: Any, client: Any) -> Any:
    address = sorted(client.nthreads())[0]
    here = client.submit(lambda: importlib.import_module(LIBRARY).get_worker().address, workers=[address], pure=False)
    loose = client.submit(inc, 1, workers=["nowhere"], allow_other_workers=True, pure=False)
    return here.result(PATIENCE) == address, loose.result(PATIENCE), client.submit(inc, 1, priority=5, retries=2).result(PATIENCE)


# -- asynchronous ----------------------------------------------------------------------------------------------


@snippet
def an_asynchronous_client(lib: Any, client: Any) -> Any:
    async def main() -> Any:
        async with lib.Client(client.cluster.scheduler_address, asynchronous=True, set_as_default=False) as other:
            future = other.submit(inc, 1)
            bad = other.submit(fail)
            results = [await future, await other.gather(other.map(inc, range(3))), future.status, other.asynchronous]
            data = await other.scatter([1, 2])
            results.append(await other.gather(data))
            try:
                await bad
            except ZeroDivisionError as error:
                results.append(error.args[0])
            ac = lib.as_completed(other.map(inc, range(2)))
            results.append(sorted([await each async for each in ac]))
            results.append(sorted((await other.run(inc, 1)).values()))
            results.append(await other.get_metadata("zzz", default=None))
            return results

    return asyncio.run(main())


# -- closing ---------------------------------------------------------------------------------------------------


@snippet
def zz_after_close(lib: Any, client: Any) -> Any:
    other = lib.Client(client.cluster.scheduler_address, set_as_default=False)
    future = other.submit(inc, 5)
    future.result(PATIENCE)
    other.close()
    other.close()
    return other.status, future.status, attempt(other.submit, inc, 1) != 2


@snippet
def zz_restart(lib: Any, client: Any) -> Any:
    future = client.submit(inc, 77)
    future.result(PATIENCE)
    other = attempt(client.restart_workers, ["no-such-worker"])
    return other.startswith("raises"), future.status
