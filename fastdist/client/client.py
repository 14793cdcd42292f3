"""Client: the entry of users to a cluster. May import: the other modules of this folder."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar, overload

from fastdist.client.actor_calls import ActorCalls, make_actor
from fastdist.client.annotations import pack_call_options
from fastdist.client.attribute_calls import AttributeCalls
from fastdist.client.cluster_calls import ClusterCalls
from fastdist.client.collection_calls import CollectionCalls
from fastdist.client.containers import SKIPPED, find_futures, replace_futures
from fastdist.client.control_calls import ControlCalls
from fastdist.client.current import enter_current, find_client, leave_current
from fastdist.client.dataset_calls import DatasetCalls
from fastdist.client.future import Future
from fastdist.client.future_calls import FutureCalls
from fastdist.client.information_calls import InformationCalls
from fastdist.client.lifecycle import no_default
from fastdist.client.metadata_calls import MetadataCalls
from fastdist.client.options import parse_seconds
from fastdist.client.output_calls import OutputCalls
from fastdist.client.plugin_calls import PluginCalls
from fastdist.client.replay_calls import ReplayCalls
from fastdist.client.retry_calls import RetryCalls
from fastdist.client.scheduler_calls import SchedulerCalls
from fastdist.client.stopping import check_way, take_timeout, tell_unkillable
from fastdist.client.why_calls import WhyCalls
from fastdist.context import current_worker
from fastdist.errors import Reason
from fastdist.retries import Retry
from fastdist.status import Status

T = TypeVar("T")


class Client(
    ActorCalls,
    AttributeCalls,
    FutureCalls,
    CollectionCalls,
    ClusterCalls,
    ControlCalls,
    DatasetCalls,
    InformationCalls,
    MetadataCalls,
    OutputCalls,
    PluginCalls,
    ReplayCalls,
    RetryCalls,
    SchedulerCalls,
    WhyCalls,
):
    """Submit work to a cluster and collect the results.

    Parameters
    ----------
    address : str or cluster, optional
        `tcp://host:port` of a scheduler, or a cluster object. Without it a LocalCluster is started with the
        `**kwargs`.
    loop : asyncio event loop or tornado IOLoop, optional
        A running loop to live on, in place of a background thread of its own.
    timeout : number or str, optional
        For connecting; the setting `comm.timeouts.connect` by default.
    set_as_default : bool
        Whether this is the client of code that names none.
    scheduler_file : str, optional
        A JSON file with the key `address`; it is waited for.
    asynchronous : bool
        Whether to live on the running event loop, so that methods are awaited.
    name : str, optional
        A part of the id of the client.
    heartbeat_interval : number or str, optional
        How often to tell the scheduler that this client lives.
    direct_to_workers : bool, optional
        Whether results are fetched straight from workers (default) or through the scheduler.
    connection_limit : int
        How many connections to workers are kept open.
    token_file : str, optional
        Where the shared secret of the cluster is; by default it is looked for (see the README).
    insecure : bool
        Connect without a secret to a scheduler that runs without one.
    forward_output : bool
        Whether to print here what tasks print and log in worker processes, with their warnings, as lines of the form
        `[worker | key] line`.
    **kwargs
        Of LocalCluster.

    Raises
    ------
    OSError, TimeoutError
        If the scheduler cannot be reached.
    ValueError, TypeError
        If the arguments contradict each other or have the wrong type.
    NotImplementedError
        If an argument asks for something that is not available yet; the text names it.

    Examples
    --------
    >>> with Client(n_workers=2) as client:
    ...     client.submit(sum, [1, 2, 3]).result()
    6
    """

    # -- tasks -----------------------------------------------------------------------------------------------

    @overload
    def submit(
        self, func: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
    ) -> Future[T]: ...

    @overload
    def submit(
        self,
        func: Callable[..., T],
        *args: Any,
        key: Any = None,
        workers: Any = None,
        resources: Mapping[str, float] | None = None,
        retries: int | Retry | None = None,
        priority: float = 0,
        fifo_timeout: Any = "100 ms",
        allow_other_workers: bool = False,
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        **kwargs: Any,
    ) -> Future[T]: ...

    def submit(
        self,
        func: Callable[..., Any],
        *args: Any,
        key: Any = None,
        workers: Any = None,
        resources: Mapping[str, float] | None = None,
        retries: int | Retry | None = None,
        priority: float = 0,
        fifo_timeout: Any = "100 ms",
        allow_other_workers: bool = False,
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        **kwargs: Any,
    ) -> Future[Any]:
        """Have a function called somewhere in the cluster.

        Parameters
        ----------
        func : callable
            The function; a coroutine function runs on the event loop of its worker.
        *args, **kwargs
            Its arguments; futures in them, also inside lists, tuples, dicts and sets, arrive as results.
        key : str, bytes, int, float or tuple, optional
            The name of the task: the same key is the same task.
        workers, allow_other_workers : str, number or collection; bool
            Workers, by address, name or host, that may run it; whether others may if none of them is there.
        resources : dict, optional
            Amounts of resources that it takes while it runs, such as ``{"GPU": 1}``. While no worker fits, it waits.
        retries : int or Retry, optional
            How often it is tried again when it raised; a `Retry` says also after which errors, when and where.
        priority, fifo_timeout : number; number or str
            Higher priorities run sooner; submissions within `fifo_timeout` count as one.
        actor, actors : bool
            Whether what the function makes, mostly an object of a class, stays on its worker; the result is a
            handle of it then, see `Actor`.
        pure : bool
            Whether the same call gives the same result, so that it need not run twice.
        timeout : number or str, optional
            How long it may execute until it fails with `TaskTimeout`; a function with such an argument gets it itself.

        Raises
        ------
        TypeError, ValueError, NotImplementedError
            If an argument has the wrong type, contradicts another one, or is not available yet.
        SerializationError
            If an argument or the function cannot be pickled; the text gives the path to the culprit.
        ClosedClientError
            If the client is closed.

        Examples
        --------
        >>> client.submit(pow, 2, 10).result()
        1024
        """
        if not callable(func):
            raise TypeError("First input to submit must be a callable function")
        if actor or actors:
            func, key, pure = make_actor(func, key)
        self._check_usable()
        return self._submitter.submit(
            func,
            args,
            kwargs,
            key=key,
            pure=pure,
            options=pack_call_options(
                workers=workers,
                allow_other_workers=allow_other_workers,
                resources=resources,
                retries=retries,
                priority=priority,
                actor=actor or actors,
                timeout=take_timeout(func, kwargs),
            ),
            fifo_timeout=parse_seconds(fifo_timeout, "fifo_timeout") or 0.0,
        )

    @overload
    def map(
        self, func: Callable[..., Coroutine[Any, Any, T]], *iterables: Any, **kwargs: Any
    ) -> list[Future[T]]: ...

    @overload
    def map(
        self,
        func: Callable[..., T],
        *iterables: Any,
        key: Any = None,
        workers: Any = None,
        retries: int | Retry | None = None,
        resources: Mapping[str, float] | None = None,
        priority: float = 0,
        allow_other_workers: bool = False,
        fifo_timeout: Any = "100 ms",
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[Future[T]]: ...

    def map(
        self,
        func: Callable[..., Any],
        *iterables: Any,
        key: Any = None,
        workers: Any = None,
        retries: int | Retry | None = None,
        resources: Mapping[str, float] | None = None,
        priority: float = 0,
        allow_other_workers: bool = False,
        fifo_timeout: Any = "100 ms",
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[Future[Any]]:
        """Have a function called once for each row of some collections, like the builtin `map`.

        Parameters
        ----------
        func : callable
            The function.
        *iterables : sized collections
            The arguments; the shortest one counts.
        key : str or list, optional
            The start of all keys, or one key for each task.
        batch_size : int, optional
            Submit so many at a time.
        workers, retries, resources, priority, allow_other_workers, fifo_timeout, actor, actors, pure, **kwargs
            As of `submit`, for all tasks.

        Returns
        -------
        list of Future

        Raises
        ------
        TypeError, ValueError, SerializationError, ClosedClientError
            As of `submit`; TypeError also for iterators.

        Examples
        --------
        >>> client.gather(client.map(abs, [-1, 2, -3]))
        [1, 2, 3]
        """
        if not callable(func):
            raise TypeError("First input to map must be a callable function")
        if actor or actors:
            func, key, pure = make_actor(func, key, one=False)
        timeout = take_timeout(func, kwargs) if "timeout" in kwargs else None
        self._check_usable()
        return self._submitter.map(
            func,
            iterables,
            kwargs,
            key=key,
            pure=pure,
            options=pack_call_options(
                workers=workers,
                allow_other_workers=allow_other_workers,
                resources=resources,
                retries=retries,
                priority=priority,
                actor=actor or actors,
                timeout=timeout,
            ),
            fifo_timeout=parse_seconds(fifo_timeout, "fifo_timeout") or 0.0,
            batch_size=batch_size,
        )

    def __reduce__(self) -> Any:
        raise TypeError("a client stays in its process; inside of a task, get_client() gives the one of the worker")

    def cancel(
        self,
        futures: Any,
        asynchronous: bool | None = None,
        force: bool = False,
        reason: str | None = None,
        msg: str | None = None,
        stop: str | None = None,
    ) -> Any:
        """Cancel tasks, and all that depend on them.

        Parameters
        ----------
        futures : Future or collection
            What to cancel.
        force : bool
            Whether to cancel also what other clients want.
        reason, msg : str, optional
            For those who ask for the results.
        stop : str, optional
            What becomes of tasks that execute already. By default they go on and their results are dropped.
            "interrupt" raises `TaskInterrupted` in their threads at the next bytecode, and cancels coroutines;
            "kill" ends the process of a worker whose task did not end within `scheduler.kill-grace` after that,
            and what else was executing there starts over elsewhere. Tasks that another client wants go on.

        Raises
        ------
        ValueError
            If `stop` is something else.

        Examples
        --------
        >>> client.cancel(future, stop="interrupt")  # doctest: +SKIP
        """
        check_way(stop)
        why = reason or Reason.CANCELLED.value
        return self.sync(self._cancel, futures, force, why, msg, stop, asynchronous=asynchronous)

    async def _cancel(
        self, futures: Any, force: bool, reason: str, msg: str | None, stop: str | None = None
    ) -> None:
        self._check_usable()
        mine = self._mine(find_futures(futures))
        for future in mine:
            self._outcomes.set_reason(future, reason, msg)
        done = self._table.cancel(mine)
        self._notifier.dispatch(done)
        keys = [future.key_bytes for future in mine]
        if stop is not None:
            # What this client wants no more, and the scheduler has not heard of, must not look wanted.
            self._submitter.make_keys_free()
        how: dict[str, Any] = {} if stop is None else {"stop": stop}
        reply = await self._connection.call("cancel", keys=keys, force=force, reason=reason, message=msg, **how)
        tell_unkillable(reply.get("unkillable") or [])

    def retry(self, futures: Any, asynchronous: bool | None = None) -> Any:
        """Run failed tasks again.

        Parameters
        ----------
        futures : Future or collection
            Futures of tasks that failed; those of others are left alone.
        """
        return self.sync(self._retry, futures, asynchronous=asynchronous)

    async def _retry(self, futures: Any) -> None:
        self._check_usable()
        failed = [future for future in self._mine(find_futures(futures)) if future.status == "error"]
        keys = [future.key_bytes for future in failed]
        self._table.reset(failed)
        await self._connection.call("retry", keys=keys, ids=[future.id for future in failed])

    def _reference(self, key: bytes) -> Future:
        self._check_usable()
        return self._submitter.reference(key)

    # -- results ---------------------------------------------------------------------------------------------

    def gather(
        self,
        futures: Any,
        errors: str = "raise",
        direct: bool | None = None,
        asynchronous: bool | None = None,
    ) -> Any:
        """Collect results.

        Parameters
        ----------
        futures : Future or nest of containers
            Lists, tuples, sets and dicts with futures at any depth. An iterator gives an iterator of results.
        errors : str
            `raise` the error of a failed task, or `skip` (leave out) what failed.
        direct : bool, optional
            Whether to ask the workers, or go through the scheduler.

        Returns
        -------
        The same containers with results instead of futures.

        Raises
        ------
        Exception
            What a task raised.
        FutureCancelledError
            If a task is cancelled.
        ValueError
            If a future belongs to another client, or `errors` is something else.
        """
        if isinstance(futures, queue.Queue):
            raise TypeError("gather takes futures and containers of futures, not queues")
        if errors not in ("raise", "skip"):
            raise ValueError(f"errors= can be 'raise' or 'skip', not {errors!r}")
        if isinstance(futures, Iterator):
            return (self.gather(future, errors, direct, asynchronous) for future in futures)
        self._check_fork()
        is_flat = type(futures) is list and set(map(type, futures)) == {Future}
        flat = futures if is_flat else self._mine(find_futures(futures))
        skip = errors == "skip"
        if asynchronous or (asynchronous is None and self.asynchronous):
            return self._on_my_loop(self._gather_async(futures, flat, is_flat, skip, direct))
        self._check_may_block()
        if not flat:
            return futures
        values = self._gatherer.gather_blocking(flat, self._run, skip, None, direct)
        return _place(futures, flat, values, is_flat, skip)

    async def _gather_async(
        self, futures: Any, flat: list[Future], is_flat: bool, skip: bool, direct: bool | None
    ) -> Any:
        if not flat:
            return futures
        await self._started()
        return _place(futures, flat, await self._gatherer.gather(flat, skip, None, direct), is_flat, skip)

    def _mine(self, futures: list[Future]) -> list[Future]:
        for future in futures:
            if future.table is not self._table:
                raise ValueError(f"{future!r} belongs to another client")
        return futures

    def scatter(
        self,
        data: Any,
        workers: Any = None,
        broadcast: bool | int = False,
        direct: bool | None = None,
        hash: bool = True,
        timeout: Any = no_default,
        asynchronous: bool | None = None,
    ) -> Any:
        """Place local data on workers.

        Parameters
        ----------
        data : object
            A list, tuple, set, frozenset or dict of values, or one value.
        workers : str, number or collection, optional
            Workers that may hold it.
        broadcast : bool or int
            Whether each worker gets it all, or how many do.
        direct : bool, optional
            Whether data goes straight to the workers, or through the scheduler; the client's own
            `direct_to_workers` by default. What no worker can be reached for goes through the scheduler anyway.
        hash : bool
            Whether equal values get the same key.
        timeout : number or str, optional
            How long to wait for a worker.

        Returns
        -------
        Futures in the same container.

        Raises
        ------
        TimeoutError
            If no worker came.
        SerializationError
            If a value cannot be pickled.
        """
        seconds = self._timeout if timeout is no_default else parse_seconds(timeout)
        straight = self._direct if direct is None else bool(direct)
        if workers is None and not broadcast:
            workers = self._worker_here()
        return self.sync(
            self._scatter, data, workers, broadcast, straight, hash, seconds, asynchronous=asynchronous
        )

    def _worker_here(self) -> str | None:
        """The address of the worker whose task calls, if it belongs to the same cluster."""
        worker = current_worker.get()
        same = worker is not None and worker.scheduler_address == self._connection.address
        return str(worker.address) if same and worker.status is Status.running else None

    async def _scatter(self, *args: Any) -> Any:
        self._check_usable()
        await self._started()
        return await self._scatterer.scatter(*args)

    # -- which client ----------------------------------------------------------------------------------------

    @classmethod
    def current(cls, allow_global: bool = True) -> Client:
        """The client of the current context, else (if allowed) the default one.

        Raises
        ------
        ValueError
            If there is none.
        """
        client = find_client(allow_global)
        if client is None:
            raise ValueError("there is no current client: make one with fastdist.Client()")
        return client

    @contextlib.contextmanager
    def as_current(self) -> Iterator[Client]:
        """Make this the current client within a `with` block."""
        token = enter_current(self)
        try:
            yield self
        finally:
            leave_current(token)


def _place(futures: Any, flat: list[Future], values: list[Any], is_flat: bool, skip: bool) -> Any:
    if is_flat:
        return [value for value in values if value is not SKIPPED] if skip else values
    by_id = {id(future): value for future, value in zip(flat, values, strict=True)}
    return replace_futures(futures, lambda future: by_id[id(future)])
