"""Snippets about tasks, futures and data. May import: the standard library."""

# ruff: noqa: E501
from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import operator
import time
from typing import Any

from basics import LIBRARY, PATIENCE, attempt, fail, inc, lib_event, snippet

# -- submitting ------------------------------------------------------------------------------------------------


@snippet
def submit_and_result(lib: Any, client: Any) -> Any:
    return client.submit(inc, 1).result(PATIENCE), client.submit(pow, 2, 10).result(), client.submit(int, "7").result()


@snippet
def keys_of_pure_calls(lib: Any, client: Any) -> Any:
    one, two, other = client.submit(inc, 10), client.submit(inc, 10), client.submit(inc, 10, pure=False)
    return one.key == two.key, one.key != other.key, one.key.split("-")[0], client.submit(sum, [1]).key.split("-")[0]


@snippet
def keys_of_ones_own(lib: Any, client: Any) -> Any:
    futures = [client.submit(inc, 1, key=key) for key in ("a-key", ("x", 1), 5, 2.5)]
    return [(future.key, future.result()) for future in futures]


@snippet
def submit_refuses(lib: Any, client: Any) -> Any:
    return [
        attempt(client.submit, 1),
        attempt(client.submit, inc, 1, allow_other_workers=True),
        attempt(client.submit, inc, 1, workers="x", allow_other_workers="maybe"),
        attempt(client.submit, inc, 1, key={}),
        attempt(client.map, inc, iter([1])),
        attempt(client.map, 5, [1]),
    ]


@snippet
def nested_futures(lib: Any, client: Any) -> Any:
    x, y = client.submit(inc, 1), client.submit(inc, 2)
    total = client.submit(lambda data: sum(data["list"]) + data["tuple"][0] + len(data["set"]), {"list": [x, y], "tuple": (x,), "set": {3}})
    return total.result(PATIENCE)


@snippet
def map_forms(lib: Any, client: Any) -> Any:
    return (
        client.gather(client.map(inc, range(5))),
        client.gather(client.map(operator.add, [1, 2, 3], [10, 20])),
        client.gather(client.map(lambda x, y=0: (x, y), [1, 2], y=5)),
        client.gather(client.map(inc, [1, 2, 3, 4, 5], batch_size=2)),
        [future.key for future in client.map(inc, [1, 2], key=["k1", "k2"])],
        client.map(inc, []),
        len({future.key for future in client.map(inc, [1, 1, 1])}),
        len({future.key for future in client.map(inc, [1, 1, 1], pure=False)}),
        client.map(inc, [5], key="start")[0].key.startswith("start-"),
    )


@snippet
def coroutine_functions(lib: Any, client: Any) -> Any:
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    return client.submit(double, 4).result(PATIENCE)


# -- futures ---------------------------------------------------------------------------------------------------


@snippet
def a_finished_future(lib: Any, client: Any) -> Any:
    future = client.submit(inc, 1)
    future.result(PATIENCE)
    same = client.submit(inc, 1)
    return future.status, future.done(), future.cancelled(), future.type, future == same, future.exception(), future.traceback()


@snippet
def texts_of_futures(lib: Any, client: Any) -> Any:
    event = lib.Event("texts")
    pending = client.submit(lambda name: lib_event(name), "texts", key="waits")
    before = repr(pending)
    event.set()
    pending.result(PATIENCE)
    text = client.submit(str, 1, key="text")
    text.result()
    bad = client.submit(fail, key="bad")
    bad.exception()
    return before, repr(pending), repr(text), repr(bad)


@snippet
def a_failed_future(lib: Any, client: Any) -> Any:
    future = client.submit(fail, 5)
    error = future.exception(PATIENCE)
    dependent = client.submit(inc, future)
    return (
        type(error).__name__, error.args, attempt(future.result), future.status, future.done(), future.cancelled(),
        type(future.traceback()).__name__, attempt(dependent.result), dependent.status, type(dependent.exception()).__name__,
    )  # fmt: skip


@snippet
def waiting_too_long(lib: Any, client: Any) -> Any:
    event = lib.Event("never")
    future = client.submit(lib_event, "never", pure=False)
    outcomes = [attempt(future.result, timeout=0.02), attempt(future.exception, timeout="20ms"), attempt(lib.wait, [future], timeout=0.02)]
    event.set()
    return [*outcomes, future.result(PATIENCE)]


@snippet
def cancelling(lib: Any, client: Any) -> Any:
    lib.Event("hold").clear()
    future = client.submit(lib_event, "hold", key="cancelled-one")
    future.cancel(reason="no-longer-wanted", msg="really")
    lib.Event("hold").set()
    try:
        future.result(PATIENCE)
    except concurrent.futures.CancelledError as error:
        text = str(error), type(error).__name__, error.key, error.reason
    return text, future.status, future.cancelled(), attempt(lib.wait, [future])


@snippet
def retrying(lib: Any, client: Any) -> Any:
    lib.Variable("tries").set(0)

    def unsteady() -> str:
        tries = importlib.import_module(LIBRARY).Variable("tries")
        n = tries.get(timeout=PATIENCE)
        tries.set(n + 1)
        if n < 2:
            raise ValueError("not yet")
        return "at last"

    first = client.submit(unsteady, pure=False)
    error = type(first.exception(PATIENCE)).__name__
    first.retry()
    return error, attempt(first.result, PATIENCE), client.submit(unsteady, pure=False, retries=3).result(PATIENCE)


@snippet
def callbacks(lib: Any, client: Any) -> Any:
    done: concurrent.futures.Future[str] = concurrent.futures.Future()
    client.submit(inc, 100).add_done_callback(lambda future: done.set_result(future.status))
    return done.result(PATIENCE)


@snippet
def a_future_by_its_key(lib: Any, client: Any) -> Any:
    known = client.submit(inc, 41, key="known")
    known.result(PATIENCE)
    again = lib.Future("known", client)
    return again.result(PATIENCE), again.key, again.client is client, lib.Future[int] is not None


@snippet
def releasing(lib: Any, client: Any) -> Any:
    future = client.submit(inc, 1, key="released")
    future.result(PATIENCE)
    future.release()
    deadline = time.monotonic() + PATIENCE
    while "released" in client.futures and time.monotonic() < deadline:
        time.sleep(0.001)
    return "released" in client.futures


# -- gathering and scattering ----------------------------------------------------------------------------------


@snippet
def gather_keeps_shapes(lib: Any, client: Any) -> Any:
    x, y = client.submit(inc, 1), client.submit(inc, 2)
    return (
        client.gather(x), client.gather([x, [y]]), client.gather({"a": x, "b": (y, 5)}), client.gather((x, y)),
        client.gather({x, y}), client.gather([]), list(client.gather(iter([x, y]))), client.gather([1, x, "a"]),
    )  # fmt: skip


@snippet
def gather_and_failures(lib: Any, client: Any) -> Any:
    good, bad = client.submit(inc, 1), client.submit(fail)
    return (
        attempt(client.gather, [good, bad]), client.gather([good, bad], errors="skip"),
        client.gather([good], direct=False), client.gather([good], direct=True),
    )  # fmt: skip


@snippet
def scatter_keeps_shapes(lib: Any, client: Any) -> Any:
    def shape(value: Any) -> Any:
        return type(value).__name__, client.gather(value)

    data = [[11, 12], (13, "a"), {"x14": 14, "y15": 15}, 16, {17, 18}, frozenset([19]), range(20, 23), "text"]
    kept = [client.scatter(each) for each in data]
    return [shape(each) for each in kept]


@snippet
def scatter_and_keys(lib: Any, client: Any) -> Any:
    return (
        client.scatter(5).key == client.scatter(5).key, client.scatter(5, hash=False).key != client.scatter(5, hash=False).key,
        client.scatter(5).key.split("-")[0], client.scatter({"named": 1})["named"].key, attempt(client.scatter, iter([1])),
        client.submit(inc, client.scatter(1)).result(PATIENCE), client.scatter(1).status, client.scatter(1).type,
    )  # fmt: skip


@snippet
def scatter_to_all(lib: Any, client: Any) -> Any:
    future = client.scatter([1, 2, 3, "broadcast"], broadcast=True)[3]
    # dask.distributed hears of the copies one after the other.
    deadline = time.monotonic() + 10
    while len(holders := client.who_has(future)[future.key]) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(holders)


# -- waiting ---------------------------------------------------------------------------------------------------


@snippet
def wait_for_all(lib: Any, client: Any) -> Any:
    futures = client.map(inc, range(3))
    done, not_done = lib.wait(futures)
    both = lib.wait([client.submit(inc, 0), client.submit(fail)])
    return done == set(futures), not_done, type(both).__name__, len(both.done), both._fields


@snippet
def wait_refuses(lib: Any, client: Any) -> Any:
    future = client.submit(inc, 1)
    first = lib.wait([future], return_when="FIRST_COMPLETED")
    return len(first.done), attempt(lib.wait, [future], return_when="FIRST_EXCEPTION"), attempt(lib.wait, [future], timeout=object())


@snippet
def as_they_complete(lib: Any, client: Any) -> Any:
    ac = lib.as_completed(client.map(inc, range(3)))
    counted = ac.count(), ac.is_empty()
    ac.add(client.submit(inc, 10))
    results = sorted(future.result() for future in ac)
    ac.update([client.submit(inc, 20)])
    with_results = lib.as_completed(client.map(inc, [5]), with_results=True)
    return counted, results, next(ac).result(), ac.is_empty(), [result for _, result in with_results], attempt(lib.as_completed, [5])


@snippet
def as_they_fail(lib: Any, client: Any) -> Any:
    bad = [client.submit(fail)]
    raised = attempt(list, lib.as_completed(bad, with_results=True))
    ((_, result),) = lib.as_completed(bad, with_results=True, raise_errors=False)
    return raised, len(result), result[0].__name__, [len(batch) for batch in lib.as_completed(bad).batches()]


@snippet
def as_completed_with_a_timeout(lib: Any, client: Any) -> Any:
    lib.Event("slow").clear()
    future = client.submit(lib_event, "slow", pure=False)
    outcome = attempt(list, lib.as_completed([future], timeout=0.05))
    lib.Event("slow").set()
    return outcome, future.result(PATIENCE)


# -- inside of tasks -------------------------------------------------------------------------------------------


@snippet
def tasks_that_submit(lib: Any, client: Any) -> Any:
    def fib(n: int) -> int:
        if n < 2:
            return n
        here = importlib.import_module(LIBRARY).get_client()
        a, b = here.submit(fib, n - 1, pure=False), here.submit(fib, n - 2, pure=False)
        importlib.import_module(LIBRARY).secede()
        x, y = here.gather([a, b])
        importlib.import_module(LIBRARY).rejoin()
        return int(x + y)

    def with_worker_client() -> list[int]:
        with importlib.import_module(LIBRARY).worker_client() as here:
            return list(here.gather(here.map(inc, range(3))))

    return client.submit(fib, 5).result(PATIENCE), client.submit(with_worker_client).result(PATIENCE)


@snippet
def what_a_task_knows(lib: Any, client: Any) -> Any:
    def look() -> Any:
        inner = importlib.import_module(LIBRARY)
        worker = inner.get_worker()
        return type(worker).__name__, worker.get_current_task(), isinstance(inner.get_client(), inner.Client)

    return client.submit(look, key="looks").result(PATIENCE), attempt(lib.get_worker), lib.get_client() is client


@snippet
def rescheduling(lib: Any, client: Any) -> Any:
    lib.Variable("places").set(0)

    def elsewhere() -> str:
        inner = importlib.import_module(LIBRARY)
        places = inner.Variable("places")
        n = places.get(timeout=PATIENCE)
        places.set(n + 1)
        if n < 1:
            raise inner.Reschedule
        return "done"

    return client.submit(elsewhere, pure=False).result(PATIENCE)


@snippet
def forgotten_futures(lib: Any, client: Any) -> Any:
    lib.Event("fired").clear()
    lib.fire_and_forget(client.submit(lambda: importlib.import_module(LIBRARY).Event("fired").set(), pure=False))
    return lib.Event("fired").wait(PATIENCE)


# -- graphs ----------------------------------------------------------------------------------------------------


@snippet
def graphs(lib: Any, client: Any) -> Any:
    dsk = {"x": 1, "y": (inc, "x"), "z": (sum, ["x", "y", "y"]), ("t", 0): (inc, "z")}
    futures = client.get(dsk, ["y", ("t", 0)], sync=False)
    try:
        circle = client.get({"a": (inc, "b"), "b": (inc, "a")}, "a")
    except RuntimeError:
        circle = "a circle"
    return (
        client.get(dsk, "z"), client.get(dsk, ["x", ["y", "z"]]), client.gather(futures), futures[1].key,
        attempt(client.get, {"bad": (fail,)}, "bad"), circle,
    )  # fmt: skip


@snippet
def delayed_values(lib: Any, client: Any) -> Any:
    import dask

    total = dask.delayed(sum)([dask.delayed(inc)(i) for i in range(4)])
    future = client.compute(total)
    kept = client.persist(total)
    return (
        total.compute(), future.result(PATIENCE), type(future).__name__, kept.key == total.key, kept.compute(), client.compute(total, sync=True),
        client.compute([total, 5])[1], dask.compute(total, 1), len(lib.futures_of(kept)), attempt(dask.delayed(fail)().compute),
    )  # fmt: skip


@snippet
def futures_in_collections(lib: Any, client: Any) -> Any:
    import dask

    future = client.submit(inc, 1)
    return dask.delayed(inc)(future).compute(), len(lib.futures_of({"a": [future, (future,)]})), lib.futures_of([1, "x"])
