"""Whose scheduler dask uses: clients that come and go, settings of the user, either order of imports."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from dask._task_spec import Task, TaskRef
from dask.delayed import delayed

from fastdist import Client, Future, LocalCluster

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def local() -> Iterator[LocalCluster]:
    """A cluster inside of this process."""
    with LocalCluster(processes=False, n_workers=1, threads_per_worker=2) as cluster:
        yield cluster


def without_distributed(settings: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if name != "distributed"}


def scheduler() -> object:
    return getattr(dask.base.get_scheduler(), "__self__", None)


def test_the_newest_open_client_is_the_scheduler(local):
    # If dask.distributed is installed, dask imports it now and then, which adds a section.
    before = without_distributed(dask.config.config)
    with Client(local) as first:
        assert scheduler() is first
        with Client(local) as second:
            assert scheduler() is second
        assert scheduler() is first
        assert dask.config.get("dataframe.shuffle.method") == "tasks"
    assert dask.base.get_scheduler() is None
    assert without_distributed(dask.config.config) == before


def test_clients_may_be_closed_in_any_order(local):
    first, second = Client(local), Client(local)
    first.close()
    assert scheduler() is second
    second.close()
    assert dask.config.get("scheduler", None) is None


def test_a_client_that_is_no_default_serves_only_where_it_is_current(local):
    client = Client(local, set_as_default=False)
    assert dask.base.get_scheduler() is None
    with client.as_current():
        assert scheduler() is client
        assert delayed(abs)(-1).compute() == 1
    assert dask.base.get_scheduler() is None
    with client:
        assert dask.base.get_scheduler() is None


def test_what_the_user_chose_stays(local):
    with dask.config.set({"scheduler": "sync", "array.rechunk.method": "p2p"}):
        client = Client(local)
        assert scheduler() is client
        assert dask.config.get("array.rechunk.method") == "p2p"
        client.close()
        assert dask.base.get_scheduler() is dask.get
        assert dask.config.get("array.rechunk.method") == "p2p"
    with Client(local), dask.config.set(scheduler="sync"):
        assert dask.base.get_scheduler() is dask.get


def test_a_choice_made_while_the_client_is_open_outlives_it(local):
    client = Client(local)
    with dask.config.set(scheduler="threads"):
        client.close()
        assert dask.base.get_scheduler() is dask.threaded.get


def test_a_client_may_be_named_as_the_scheduler(local):
    with Client(local, set_as_default=False) as client:
        assert delayed(abs)(-2).compute(scheduler=client) == 2
        assert delayed(abs)(-2).compute(scheduler=client.get) == 2


def test_without_a_client_of_its_own_a_context_computes_in_threads(local):
    from concurrent.futures import ThreadPoolExecutor

    client = Client(local, set_as_default=False)
    threads = ThreadPoolExecutor(1)
    with client.as_current(), ThreadPoolExecutor(1) as pool, threads, dask.config.set(pool=threads):
        assert pool.submit(lambda: delayed(abs)(-3).compute()).result() == 3
    client.close()


def test_an_asynchronous_client_is_refused_or_replaced() -> None:
    asyncio.run(asyncio.wait_for(use_asynchronous_client(), 20))


async def use_asynchronous_client() -> None:
    async with Client(processes=False, n_workers=1, asynchronous=True) as client:
        with pytest.raises(RuntimeError, match="synchronous context"):
            delayed(abs)(-1).compute()
        with (
            dask.config.set({"admin.async-client-fallback": "sync"}),
            pytest.warns(UserWarning, match="Falling back"),
        ):
            assert delayed(abs)(-1).compute() == 1
        assert await client.compute(delayed(abs)(-4)) == 4
        (kept,) = dict(client.persist(delayed(abs)(-5)).dask).values()
        assert await kept == 5


# Futures as references of dask


def test_a_future_is_a_reference_to_its_task():
    future = Future("x")
    assert isinstance(future, TaskRef)
    assert isinstance(future, Future)
    assert Task("t", abs, future).dependencies == {"x"}
    assert delayed(abs)(future).__dask_graph__()
    assert future.substitute({}) is future
    assert future.substitute({"x": "y"}) == TaskRef("y")


PRELUDE = """
import sys
from fastdist import Client, Future
client = Client(processes=False, n_workers=1, threads_per_worker=1)
future = client.submit(abs, -1)
assert isinstance(future, Future)
assert not [name for name in sys.modules if name.split(".")[0] == "dask"]
import dask
"""
AFTERWARDS = {
    "scheduler": "assert dask.base.get_scheduler().__self__ is client",
    "shuffle": "assert dask.config.get('dataframe.shuffle.method') == 'tasks'",
    "compute": "assert dask.delayed(abs)(future).compute() == 1",
    "reference": """
from dask._task_spec import Task, TaskRef
assert isinstance(future, TaskRef)
assert Task("t", abs, future).dependencies == {future.key}
assert dask.delayed(sum)([future, 1]).compute() == 2
""",
    "loader": """
import dask.config
assert type(dask.config.__loader__).__name__ == "SourceFileLoader"
assert dask.config.__spec__.loader is dask.config.__loader__
""",
    "close": """
assert "distributed" not in sys.modules
client.close()
assert dask.base.get_scheduler() is None
assert dask.config.get("dataframe.shuffle.method") is None
""",
}


def test_dask_may_be_imported_after_the_client():
    run_program(PRELUDE + "\n".join(AFTERWARDS.values()))


def test_dask_works_where_dask_distributed_is_not_installed():
    absent = "import sys\nsys.modules['distributed'] = None\n"
    last = AFTERWARDS["close"].replace('assert "distributed" not in sys.modules\n', "")
    run_program(absent + PRELUDE + AFTERWARDS["compute"] + "\n" + last)


def test_a_client_that_closed_before_dask_came_leaves_no_trace():
    run_program(
        "from fastdist import Client\n"
        "Client(processes=False, n_workers=1, threads_per_worker=1).close()\n"
        "import dask\n"
        "assert dask.base.get_scheduler() is None\n"
        "assert dask.delayed(abs)(-1).compute() == 1\n"
    )


def run_program(source: str) -> None:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    program = [sys.executable, "-W", "error", "-c", source]
    done = subprocess.run(program, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
