"""The calls of Client that ask what is where, what happens and what happened. May import: what the client may."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn

from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist.client.cluster import as_keys
from fastdist.client.cluster_dump import with_suffix, without, write_state
from fastdist.client.executor import ClientExecutor
from fastdist.client.future import Future
from fastdist.client.helpers import futures_of
from fastdist.client.information import FutureState, HasWhat, SchedulerInfo, TasksView, WhoHas, format_bytes
from fastdist.client.lifecycle import Lifecycle
from fastdist.client.options import parse_seconds, parse_workers
from fastdist.client.planned import refuse
from fastdist.rpc.peer import Peer
from fastdist.versions import differences, get_versions

Fields = dict[str, Any]


class InformationCalls(Lifecycle):
    """The part of Client that asks about the cluster."""

    _info: Fields
    #: How often the cluster was restarted under this client.
    generation: int = 0

    def _make_parts(self) -> None:
        super()._make_parts()
        self._info = {}
        self._connection.handlers["scheduler-info"] = self._on_scheduler_info

    def _on_scheduler_info(self, peer: Peer, fields: Fields, buffers: list[Any]) -> None:
        info = fields.get("info")
        if isinstance(info, dict):
            self._info = info

    @property
    def _scheduler_identity(self) -> SchedulerInfo:
        """The scheduler as it was when workers last came or went, without the workers."""
        return SchedulerInfo(self._info or self._connection.info.get("info") or {})

    def _ask_scheduler(self, question: Any, *args: Any, asynchronous: bool | None = None, **kwargs: Any) -> Any:
        self._check_usable()

        async def ask() -> Any:
            await self._started()
            return await question(*args, **kwargs)

        return self.sync(ask, asynchronous=asynchronous)

    # -- who is there ----------------------------------------------------------------------------------------

    def scheduler_info(self, n_workers: int = -1, **kwargs: Any) -> SchedulerInfo:
        """The scheduler and its workers, as a dict that shows itself as tables in notebooks.

        An asynchronous client gives at once what it was last told, without the workers.

        Parameters
        ----------
        n_workers : int
            How many workers to describe; -1 for all.
        """
        if self.asynchronous:
            self._check_usable()
            return SchedulerInfo({**self._scheduler_identity, "workers": {}})
        answer: Fields = self._ask_scheduler(self._view.identity, n_workers, **kwargs)
        return SchedulerInfo(answer)

    def nthreads(self, workers: Any = None, **kwargs: Any) -> Any:
        """The number of threads of each worker, by address.

        Parameters
        ----------
        workers : str, number or collection, optional
            Only these workers.
        """
        return self._ask_scheduler(self._view.nthreads, workers, **kwargs)

    ncores = nthreads

    def get_versions(self, check: bool = False, packages: Iterable[str] | None = None) -> Any:
        """The machine and the versions of packages of the scheduler, of the workers and of this process.

        Parameters
        ----------
        check : bool
            Whether to raise ValueError if they differ.
        packages : iterable of str, optional
            Packages to tell of besides the usual ones.

        Returns
        -------
        dict
            `scheduler`, `client`, and by address `workers`; each has `host` and `packages`.

        Raises
        ------
        ValueError
            If a package has different versions and `check` is true; the text lists them.
        """
        return self._ask_scheduler(self._get_versions, check, list(packages or ()))

    async def _get_versions(self, check: bool, packages: list[str]) -> Fields:
        reply = await self._connection.call("versions", packages=packages)
        versions = {**reply, "client": get_versions(packages)}
        mismatch = differences(versions) if check else ""
        if mismatch:
            raise ValueError(f"the processes of this cluster run different versions:\n{mismatch}")
        return versions

    # -- what is where ---------------------------------------------------------------------------------------

    def who_has(self, futures: Any = None, **kwargs: Any) -> Any:
        """The addresses of the workers that hold each result.

        Parameters
        ----------
        futures : Future or collection, optional
            Only these; by default all tasks of the cluster.

        Returns
        -------
        WhoHas
            Lists of addresses by key.
        """
        return self._ask_scheduler(self._who_has, futures, **kwargs)

    async def _who_has(self, futures: Any) -> WhoHas:
        found = await self._view.who_has(futures)
        return WhoHas({key: list(addresses) for key, addresses in found.items()})

    def has_what(self, workers: Any = None, **kwargs: Any) -> Any:
        """The keys whose results each worker holds.

        Parameters
        ----------
        workers : str, number or collection, optional
            Only these workers.

        Returns
        -------
        HasWhat
            Lists of keys by address.
        """
        return self._ask_scheduler(self._has_what, workers, **kwargs)

    async def _has_what(self, workers: Any) -> HasWhat:
        found = await self._view.has_what(workers)
        return HasWhat({address: list(keys) for address, keys in found.items()})

    def processing(self, workers: Any = None) -> Any:
        """The keys of the tasks that each worker was given and has not finished, as a dict of lists.

        Parameters
        ----------
        workers : str, number or collection, optional
            Only these workers.
        """
        return self._ask_scheduler(self._processing, workers)

    async def _processing(self, workers: Any) -> dict[str, list[Any]]:
        reply = await self._connection.call("processing", workers=parse_workers(workers))
        return {address: [decode_key(bytes(key)) for key in keys] for address, keys in reply["processing"].items()}

    def nbytes(self, keys: Any = None, summary: bool = True, **kwargs: Any) -> Any:
        """The bytes that results take on the workers; copies do not count.

        Parameters
        ----------
        keys : collection, optional
            Only these keys or futures.
        summary : bool
            Whether to add them up by the name of their functions.

        Returns
        -------
        dict
            Bytes by name, or by key.
        """
        return self._ask_scheduler(self._nbytes, keys, summary, **kwargs)

    async def _nbytes(self, keys: Any, summary: bool) -> dict[Any, int]:
        encoded = None if keys is None else [encode_key(key) for key in as_keys(keys)]
        reply = await self._connection.call("nbytes", keys=encoded, summary=bool(summary))
        return {name if summary else decode_key(bytes(name)): size for name, size in reply["nbytes"]}

    # -- what happens ----------------------------------------------------------------------------------------

    def call_stack(self, futures: Any = None, keys: Any = None) -> Any:
        """Where the functions are that execute now.

        Parameters
        ----------
        futures, keys : collection, optional
            Only these tasks, or what they wait for; by default all.

        Returns
        -------
        dict
            By address of the worker and key, the frames, outermost first.
        """
        asked = list(as_keys(futures) if futures is not None else [])
        asked += list(as_keys(keys) if keys is not None else [])
        everything = futures is None and keys is None
        return self._ask_scheduler(self._call_stack, None if everything else [encode_key(key) for key in asked])

    async def _call_stack(self, keys: list[bytes] | None) -> dict[str, dict[Any, list[str]]]:
        reply = await self._connection.call("call-stack", keys=keys)
        return {
            address: {decode_key(bytes(key)): list(frames) for key, frames in rows} for address, rows in reply["stacks"]
        }

    def story(self, *keys_or_stimuli: Any, on_error: str = "raise") -> Any:
        """What happened to tasks, as far as the scheduler and the workers remember it.

        Parameters
        ----------
        *keys_or_stimuli
            Futures, keys, or the ids of batches of events that a story named.
        on_error : str
            `raise` if a worker does not answer, or `ignore` it.

        Returns
        -------
        list of tuple
            `("scheduler", key, start, finish, {}, id of the batch, time)` for each transition in the scheduler, and the
            same with the address in front for those in a worker.
        """
        if on_error not in ("raise", "ignore"):
            raise ValueError(f"on_error= can be 'raise' or 'ignore', not {on_error!r}")
        return self._ask_scheduler(self._story, keys_or_stimuli, on_error)

    async def _story(self, asked: tuple[Any, ...], on_error: str) -> list[tuple[Any, ...]]:
        keys = [getattr(each, "key", each) for each in asked]
        reply = await self._connection.call(
            "story",
            keys=[encode_key(key) for key in keys],
            stimuli=[key for key in keys if isinstance(key, str)],
        )
        if reply["failed"] and on_error == "raise":
            address, text = next(iter(reply["failed"].items()))
            raise RuntimeError(f"the worker at {address} did not tell its story: {text}")
        story = [("scheduler", *_readable(row)) for row in reply["scheduler"]]
        for address, rows in reply["workers"]:
            story += [(address, *_readable(row)) for row in rows]
        return story

    def get_task_stream(
        self,
        start: Any = None,
        stop: Any = None,
        count: int | None = None,
        plot: Any = False,
        filename: str = "task-stream.html",
        bokeh_resources: Any = None,
    ) -> Any:
        """When which task executed where. The first call switches the records on and gives none.

        Parameters
        ----------
        start, stop : number or str, optional
            Seconds since the epoch, or how long ago, such as "5s"; of the ends of the executions.
        count : int, optional
            So many, the last ones unless only `start` is given.
        plot, filename, bokeh_resources
            Plots are not available yet.

        Returns
        -------
        list of dict
            With `key`, `worker`, `thread`, `status`, `nbytes`, `typename` and `startstops` of each execution.

        Raises
        ------
        NotImplementedError
            If a plot is asked for.
        """
        refuse_plots(plot, filename, bokeh_resources)
        return self._ask_scheduler(self._get_task_stream, start, stop, count)

    async def _get_task_stream(
        self, start: Any, stop: Any, count: int | None, index: int | None = None
    ) -> list[Fields]:
        reply = await self._connection.call(
            "get-task-stream", start=_moment(start, "start"), stop=_moment(stop, "stop"), count=count, index=index
        )
        return [_record(row) for row in reply["records"]]

    async def _start_task_stream(self) -> int:
        return int((await self._connection.call("start-task-stream"))["index"])

    def dump_cluster_state(
        self,
        filename: str = "dask-cluster-dump",
        write_from_scheduler: bool | None = None,
        exclude: Collection[str] = (),
        format: str = "msgpack",
        **storage_options: Any,
    ) -> Any:
        """Write the state of the scheduler and of all workers to a file, for `DumpArtefact` or for a bug report.

        Parameters
        ----------
        filename : str
            Its name without the suffix; with `://` in it, it is opened through fsspec.
        write_from_scheduler : bool, optional
            Files are written from here; True is not available yet.
        exclude : collection of str
            Attributes to leave out, wherever they are.
        format : str
            `msgpack` (and compressed) or `yaml`.
        **storage_options
            For fsspec.

        Raises
        ------
        ValueError
            If there is no such format.
        NotImplementedError
            If the scheduler is asked to write.
        """
        if write_from_scheduler:
            refuse("dump_cluster_state(write_from_scheduler=True)", "the file is written from here without it")
        url = with_suffix(str(filename), format)
        return self._ask_scheduler(self._dump, url, frozenset(exclude), format, storage_options)

    async def _dump(self, url: str, exclude: Collection[str], format: str, storage_options: Fields) -> None:
        reply = await self._connection.call("dump-state")
        versions = await self._connection.call("versions", packages=[])
        state = {"scheduler": reply["scheduler"], "workers": reply["workers"], "versions": dict(versions)}
        # Writing may take long.
        await asyncio.to_thread(write_state, without(state, exclude), url, format, storage_options)

    def profile(
        self,
        key: Any = None,
        start: Any = None,
        stop: Any = None,
        workers: Any = None,
        merge_workers: bool = True,
        plot: Any = False,
        filename: str | None = None,
        server: bool = False,
        scheduler: bool = False,
    ) -> NoReturn:
        """Where the time of tasks goes, sampled: not available yet.

        Raises
        ------
        NotImplementedError
            Always.
        """
        refuse("Client.profile", "call_stack() shows where tasks are now")

    # -- this client -----------------------------------------------------------------------------------------

    def get_executor(self, **kwargs: Any) -> ClientExecutor:
        """This cluster behind the interface of `concurrent.futures.Executor`.

        Parameters
        ----------
        **kwargs
            `pure`, `workers`, `resources`, `allow_other_workers`, `retries`: as of `submit`, for all tasks.

        Raises
        ------
        TypeError
            If there are others.
        """
        client: Any = self
        return ClientExecutor(client, **kwargs)

    def futures_of(self, futures: Any) -> list[Future]:
        """The futures in an object: see the function `futures_of`.

        Raises
        ------
        FuturesCancelledError
            If some of them are cancelled.
        """
        client: Any = self
        return futures_of(futures, client)

    @property
    def futures(self) -> Mapping[Any, FutureState]:
        """The tasks that this client has futures of, by key."""
        return TasksView(self, FutureState)

    @property
    def refcount(self) -> Mapping[Any, int]:
        """How many futures this client has of each task, by key."""
        # The future of this very look is not the user's.
        return TasksView(self, lambda future: future.references - 1)

    def __repr__(self) -> str:
        info = self._scheduler_identity if hasattr(self, "_connection") else {}
        if not info or self.status in ("closing", "closed"):
            return f"<{type(self).__name__}: No scheduler connected>"
        text = (
            f"<{type(self).__name__}: {self._connection.address!r} processes={info.get('n_workers', 0)} "
            f"threads={info.get('total_threads', 0)}"
        )
        memory = info.get("total_memory")
        return text + (f", memory={format_bytes(memory)}>" if memory else ">")

    def _repr_html_(self) -> str:
        from html import escape

        if self.status in ("closing", "closed"):
            return f"<h3>Client</h3><p>{escape(self.id)} is closed</p>"
        how = type(self.cluster).__name__ if self.cluster is not None else "its address"
        head = f"<h3>Client</h3><p>{escape(self.id)}, connected through {escape(how)}</p>"
        return head + self._scheduler_identity._repr_html_()


def refuse_plots(plot: Any, filename: Any, bokeh_resources: Any = None) -> None:
    """Raise NotImplementedError if a plot of the task stream is asked for."""
    if plot:
        raise NotImplementedError("get_task_stream(plot=...) is not available yet; the records are: plot=False")
    if filename != "task-stream.html" or bokeh_resources is not None:
        raise ValueError("filename= and bokeh_resources= have a meaning only together with plot=")


def _readable(row: Any) -> tuple[Any, ...]:
    key, *rest = row
    return (decode_key(bytes(key)) if isinstance(key, bytes) else key, *rest)


def _moment(value: Any, what: str) -> float | None:
    """A time in seconds since the epoch; a text says how long ago."""
    if isinstance(value, str):
        import time

        return time.time() - (parse_seconds(value, what) or 0.0)
    return None if value is None else float(value)


def _record(row: Any) -> Fields:
    worker, key, thread, status, nbytes, typename, start, stop = row
    return {
        "key": decode_key(bytes(key)),
        "worker": worker,
        "thread": thread,
        "status": status,
        "nbytes": nbytes,
        "type": typename.encode(),
        "typename": typename,
        "metadata": {},
        "startstops": [{"action": "compute", "start": start, "stop": stop}],
        "stimulus_id": f"task-finished-{stop}",
    }
