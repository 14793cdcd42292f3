"""Clusters for the time of a test: in the event loop of the test, or of processes.

May import: every layer below.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fastdist import config as settings
from fastdist.client import Client
from fastdist.comm.token import Token, find_token
from fastdist.deploy.local import LocalCluster
from fastdist.scheduler.scheduler import Scheduler
from fastdist.testing.cleaning import clean
from fastdist.worker.worker import Worker as DefaultWorker

#: Seconds that a test gets.
TEST_TIMEOUT = 30.0
#: Seconds that closing what a test used gets.
CLOSE_TIMEOUT = 10.0

Test = Callable[..., Any]


@contextlib.contextmanager
def config_for_cluster_tests(**extra_config: Any) -> Iterator[None]:
    """The defaults of all settings, whatever the user configured, and some others."""
    with settings.defaults(), settings.set(extra_config):
        yield


@contextlib.contextmanager
def new_config(new_config: Mapping[str, Any]) -> Iterator[None]:
    """The defaults of all settings, and these."""
    with config_for_cluster_tests(**_flat(new_config)):
        yield


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def gen_test(
    timeout: float = TEST_TIMEOUT,
    config: Mapping[str, Any] | None = None,
    clean_kwargs: Mapping[str, Any] | None = None,
) -> Callable[[Test], Test]:
    """Make a test of a coroutine function.

    Parameters
    ----------
    timeout : float
        Seconds that it gets.
    config : mapping, optional
        Settings for the time of the test; all others have their defaults.
    clean_kwargs : mapping, optional
        Arguments of `clean`: what is checked afterwards.

    Examples
    --------
    >>> @gen_test(timeout=5)
    ... async def test_one_more():
    ...     assert await asyncinc(1) == 2
    """
    if not timeout:
        raise ValueError("a test needs a timeout")

    def decorate(function: Test) -> Test:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"gen_test is for coroutine functions, and {function!r} is none")

        @functools.wraps(function)
        def test(*args: Any, **kwargs: Any) -> Any:
            async def run() -> Any:
                return await asyncio.wait_for(function(*args, **kwargs), timeout)

            with config_for_cluster_tests(**(config or {})), clean(**(clean_kwargs or {})):
                return asyncio.run(run())

        # Pytest looks here for the fixtures that the test wants.
        test.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return test

    return decorate


def gen_cluster(
    nthreads: Sequence[tuple[Any, ...]] | None = None,
    scheduler: str = "127.0.0.1",
    timeout: float = TEST_TIMEOUT,
    security: Any = None,
    Worker: type[Any] = DefaultWorker,
    client: bool = False,
    scheduler_kwargs: Mapping[str, Any] | None = None,
    worker_kwargs: Mapping[str, Any] | None = None,
    client_kwargs: Mapping[str, Any] | None = None,
    active_rpc_timeout: float = 1,
    config: Mapping[str, Any] | None = None,
    clean_kwargs: Mapping[str, Any] | None = None,
    allow_unclosed: bool = True,
) -> Callable[[Test], Test]:
    """Make a test of a coroutine function that is given a scheduler and workers in its own event loop.

    Parameters
    ----------
    nthreads : list of tuples
        Host and number of threads of each worker, perhaps with a dict of further arguments; by default two workers
        with one and two threads.
    scheduler : str
        Host of the scheduler.
    timeout : float
        Seconds that the test gets.
    security : Security or dict, optional
        Passed to all of them.
    Worker : type
        Class of the workers.
    client : bool
        Whether the first argument is an asynchronous client.
    scheduler_kwargs, worker_kwargs, client_kwargs : mapping, optional
        Further arguments.
    allow_unclosed, active_rpc_timeout : bool, float
        Whether the test may leave connections open, and the seconds that they get to end if not.
    config, clean_kwargs : mapping, optional
        As of `gen_test`.

    Examples
    --------
    >>> @gen_cluster(client=True)
    ... async def test_sum(c, s, a, b):
    ...     assert await c.submit(sum, [1, 2]) == 3
    ...     assert len(s.workers) == 2
    """
    places = list(nthreads) if nthreads is not None else [("127.0.0.1", 1), ("127.0.0.1", 2)]

    def decorate(function: Test) -> Test:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"gen_cluster is for coroutine functions, and {function!r} is none")

        @functools.wraps(function)
        def test(*outer: Any, **fixtures: Any) -> Any:
            async def run() -> Any:
                server, workers = await start_cluster(
                    places, scheduler, security, Worker, scheduler_kwargs, worker_kwargs
                )
                given: list[Any] = [server, *workers]
                try:
                    if client:
                        options = {"security": security} if security is not None else {}
                        options.update(client_kwargs or {})
                        given.insert(0, await Client(server.address, asynchronous=True, **options))
                    return await asyncio.wait_for(function(*outer, *given, **fixtures), timeout)
                finally:
                    if client and len(given) > 1 + len(workers):
                        await given[0].close()
                    await asyncio.wait_for(end_cluster(server, workers), CLOSE_TIMEOUT)
                    if not allow_unclosed:
                        await _check_connections(server, active_rpc_timeout)

            with config_for_cluster_tests(**(config or {})), clean(**(clean_kwargs or {})):
                return asyncio.run(run())

        test.__signature__ = _without(function, int(client) + 1 + len(places))  # type: ignore[attr-defined]
        return test

    return decorate


def _without(function: Test, count: int) -> inspect.Signature:
    """The signature without the arguments that the cluster fills: the others are fixtures; `self` stays."""
    signature = inspect.signature(function)
    names = list(signature.parameters)
    first = 1 if names[:1] == ["self"] else 0
    kept = [value for name, value in signature.parameters.items() if name not in names[first : first + count]]
    return signature.replace(parameters=kept)


async def _check_connections(server: Scheduler, timeout: float) -> None:
    deadline = asyncio.get_running_loop().time() + timeout
    while server._peers:
        if asyncio.get_running_loop().time() > deadline:
            names = ", ".join(peer.name for peer in server._peers)
            raise AssertionError(f"connections are left open: {names}")
        await asyncio.sleep(0.01)


async def start_cluster(
    nthreads: Sequence[tuple[Any, ...]],
    scheduler_addr: str = "127.0.0.1",
    security: Any = None,
    Worker: type[Any] = DefaultWorker,
    scheduler_kwargs: Mapping[str, Any] | None = None,
    worker_kwargs: Mapping[str, Any] | None = None,
    timeout: float = TEST_TIMEOUT / 4,
) -> tuple[Scheduler, list[Any]]:
    """Start a scheduler and workers in the running event loop; see `gen_cluster`.

    Raises
    ------
    TimeoutError
        If they do not start in time; nothing is left of them then.
    """
    shared = {} if security is None else {"security": security}
    options = {"host": scheduler_addr, "port": 0, "validate": True, **shared, **(scheduler_kwargs or {})}
    server = await Scheduler(**options)
    workers: list[Any] = []
    try:
        for number, (host, threads, *further) in enumerate(nthreads):
            options = {**(worker_kwargs or {}), **(further[0] if further else {})}
            workers.append(
                Worker(server.address, **{"nthreads": threads, "name": number, "host": host, **shared, **options})
            )
        await asyncio.wait_for(asyncio.gather(*(_start(worker) for worker in workers)), timeout)
    except BaseException:
        await end_cluster(server, workers)
        raise
    return server, workers


async def _start(worker: Any) -> None:
    await worker


async def end_cluster(s: Scheduler, workers: Sequence[Any]) -> None:
    """Close workers and scheduler, and check that the core of the scheduler is sound."""
    outcomes = await asyncio.gather(*(worker.close() for worker in workers), return_exceptions=True)
    await s.close()
    s.core.validate()
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, (OSError, asyncio.TimeoutError)):
            raise outcome


class _ClusterOfUser(LocalCluster):
    """A cluster with the user's own token: who knows the address may connect."""

    def _make_token(self) -> Token:
        return find_token()


@contextlib.contextmanager
def cluster(
    nworkers: int = 2,
    nanny: bool = False,
    worker_kwargs: Mapping[str, Any] | None = None,
    active_rpc_timeout: float = 10,
    scheduler_kwargs: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """A scheduler and worker processes, for tests from outside of an event loop.

    The scheduler lives on the background loop of this process. Each worker has a nanny, whatever `nanny` says.

    Parameters
    ----------
    nworkers : int
        How many workers.
    nanny : bool
        Whether `address` of a worker is for operations of nannies; there are none, so it is the worker's.
    worker_kwargs, scheduler_kwargs, config : mapping, optional
        Arguments of the workers and the scheduler; settings meanwhile.
    active_rpc_timeout : float
        Seconds that closing gets.

    Yields
    ------
    tuple
        `{"address": ...}` of the scheduler, and a list of `{"address": ..., "proc": ...}` of the workers.

    Examples
    --------
    >>> with cluster() as (s, [a, b]), Client(s["address"]) as client:
    ...     client.submit(inc, 1, workers=a["address"]).result()
    2
    """
    workers = {"threads_per_worker": 1, "nthreads": 1, **(worker_kwargs or {})}
    threads = workers.pop("nthreads")
    workers["threads_per_worker"] = threads
    with config_for_cluster_tests(**(config or {})):
        made = _ClusterOfUser(
            n_workers=nworkers, processes=True, scheduler_kwargs=scheduler_kwargs, dashboard_address=None, **workers
        )
        try:
            members = [
                {"address": worker.worker_address, "proc": worker.process} for worker in made.workers.values()
            ]
            yield {"address": made.scheduler_address}, members
        finally:
            made.close(timeout=active_rpc_timeout)
