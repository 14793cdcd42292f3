"""The calls of Client that take dask graphs and collections. May import: what the client may; dask when called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastdist._core.keys.canonical import encode_key
from fastdist.client.annotations import Annotations, TaskOptions, task_options
from fastdist.client.collector import collector_paused
from fastdist.client.future import Future
from fastdist.client.graph import flatten
from fastdist.client.graph_submission import submit_graph
from fastdist.client.lifecycle import Lifecycle, open_clients
from fastdist.client.options import parse_seconds
from fastdist.client.submission import KnownKeys
from fastdist.retries import Retry


class CollectionCalls(Lifecycle):
    """The part of Client that serves dask."""

    gather: Callable[..., Any]

    def get(
        self,
        dsk: Any,
        keys: Any,
        workers: Any = None,
        allow_other_workers: bool | None = None,
        resources: Mapping[str, float] | None = None,
        sync: bool = True,
        asynchronous: bool | None = None,
        direct: bool | None = None,
        retries: int | Retry | None = None,
        priority: float = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        optimize_graph: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Compute keys of a dask graph.

        Parameters
        ----------
        dsk : mapping, HighLevelGraph or expression
            The graph: keys to tasks, or something of dask that makes one.
        keys : key or nested list of keys
            What to compute.
        sync : bool
            Whether to wait for the results; if not, futures are returned.
        direct, asynchronous
            As of `gather`.
        workers, allow_other_workers, resources, retries, priority, fifo_timeout
            As of `submit`, for all tasks.
        actors : bool, dict, or keys and collections
            Which results are actors: all, those with True in a dict by key, or those named.
        optimize_graph : bool
            Whether chains of tasks whose results nobody else needs may run as one task.
        **kwargs
            Whatever dask passes on to schedulers; it has no meaning here.

        Returns
        -------
        The results, or futures, in the nesting of `keys`.

        Raises
        ------
        GraphError
            If the graph has a cycle or lacks a key.
        Exception
            What a task raised.

        Examples
        --------
        >>> client.get({"x": 1, "y": (abs, -2), "z": (max, "x", "y")}, ["z", "x"])
        [2, 1]
        """
        futures = self._submit_graph(
            *_materialize(dsk),
            list(_flat(keys)),
            fifo_timeout,
            workers=workers,
            allow_other_workers=allow_other_workers,
            resources=resources,
            retries=retries,
            priority=priority,
            actors=actors,
            optimize_graph=optimize_graph,
        )
        packed = _repack(keys, futures)
        return self.gather(packed, direct=direct, asynchronous=asynchronous) if sync else packed

    def compute(
        self,
        collections: Any,
        sync: bool = False,
        optimize_graph: bool = True,
        workers: Any = None,
        allow_other_workers: bool = False,
        resources: Mapping[str, float] | None = None,
        retries: int | Retry | None = 0,
        priority: float = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        traverse: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Compute dask collections, each to one value.

        Parameters
        ----------
        collections : collection, or list, tuple or set of them
            What to compute; anything else in it is returned as it is.
        sync : bool
            Whether to wait for the values; if not, futures are returned.
        optimize_graph : bool
            Whether the graphs are optimised first.
        traverse : bool
            Whether collections inside lists, tuples, sets and dicts are found.
        workers, allow_other_workers, resources, retries, priority, fifo_timeout
            As of `submit`, for all tasks.
        actors : bool, dict, or keys and collections
            Which results are actors: all, those with True in a dict by key, or those named.

        Returns
        -------
        Future or list
            One future, or value, for each collection.

        Raises
        ------
        TypeError
            For arguments that it does not have.
        GraphError
            If a graph has a cycle or lacks a key.

        Examples
        --------
        >>> client.compute(dask.delayed(sum)([1, 2])).result()  # doctest: +SKIP
        3
        """
        from dask import delayed, is_dask_collection
        from dask._expr import FinalizeCompute
        from dask.base import collections_to_expr

        _refuse_unknown("compute", kwargs)
        is_single = not isinstance(collections, list | tuple | set | frozenset)
        items = [collections] if is_single else list(collections)
        if traverse:
            nests = (list, tuple, set, dict, Iterator)
            items = [delayed(item) if isinstance(item, nests) else item for item in items]
        chosen = [item for item in items if is_dask_collection(item)]
        results: Iterator[Future] = iter(())
        if chosen:
            expr = FinalizeCompute(collections_to_expr(chosen, optimize_graph)).optimize()
            names = list(_flat(expr.__dask_keys__()))
            futures = self._submit_graph(
                *_materialize(expr),
                names,
                fifo_timeout,
                workers=workers,
                allow_other_workers=allow_other_workers,
                resources=resources,
                retries=retries,
                priority=priority,
                actors=actors,
                optimize_graph=optimize_graph,
            )
            results = iter([futures[name] for name in names])
        found = [next(results) if is_dask_collection(item) else item for item in items]
        packed = found[0] if is_single else found
        return self.gather(packed) if sync else packed

    def persist(
        self,
        collections: Any,
        optimize_graph: bool = True,
        workers: Any = None,
        allow_other_workers: bool | None = None,
        resources: Mapping[str, float] | None = None,
        retries: int | Retry | None = None,
        priority: float = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Start to compute dask collections and keep their parts on the workers.

        Parameters
        ----------
        collections : collection, or list, tuple or set of them
            What to compute.
        optimize_graph : bool
            Whether the graphs are optimised first.
        workers, allow_other_workers, resources, retries, priority, fifo_timeout
            As of `submit`, for all tasks.
        actors : bool, dict, or keys and collections
            Which results are actors: all, those with True in a dict by key, or those named.

        Returns
        -------
        collection or list
            Collections of the same types and with the same keys, whose graphs hold futures.

        Raises
        ------
        TypeError
            If something is no dask collection, or for arguments that it does not have.

        Examples
        --------
        >>> x = client.persist(dask.array.ones(1_000, chunks=100))  # doctest: +SKIP
        """
        from dask import is_dask_collection
        from dask.base import collections_to_expr

        _refuse_unknown("persist", kwargs)
        is_single = not isinstance(collections, list | tuple | set | frozenset)
        items = [collections] if is_single else list(collections)
        for item in items:
            if not is_dask_collection(item):
                raise TypeError(f"persist takes dask collections, not {type(item).__name__}")
        if not items:
            return []
        expr = collections_to_expr(items, optimize_graph).optimize()
        keys = [list(_flat(part)) for part in expr.__dask_keys__()]
        futures = self._submit_graph(
            *_materialize(expr),
            list(_flat(keys)),
            fifo_timeout,
            inline=False,
            workers=workers,
            allow_other_workers=allow_other_workers,
            resources=resources,
            retries=retries,
            priority=priority,
            actors=actors,
            optimize_graph=optimize_graph,
        )
        operands = expr.operands if hasattr(expr, "operands") else ()
        results = [
            _rebuild(item, operands[i] if i < len(operands) else None, keys[i], futures)
            for i, item in enumerate(items)
        ]
        return results[0] if is_single else results

    def normalize_collection(self, collection: Any) -> Any:
        """The collection with the tasks that this client has futures of replaced by these futures.

        Parameters
        ----------
        collection : dask collection

        Examples
        --------
        >>> y = client.normalize_collection(y)  # doctest: +SKIP
        """
        from dask.optimization import cull

        graph = dict(collection.__dask_graph__())
        find = self._table.find_key
        ids = {key: find(encode_key(key)) for key in graph}
        held = {key: self._table.future(id) for key, id in ids.items() if id}
        if not held:
            return collection
        culled, _ = cull({**graph, **held}, list(_flat(collection.__dask_keys__())))
        rebuild, arguments = collection.__dask_postpersist__()
        return rebuild(culled, *arguments)

    @staticmethod
    def collections_to_dsk(collections: Any, optimize_graph: bool = True) -> dict[Any, Any]:
        """The graph that computes some dask collections, as one dict of tasks.

        Parameters
        ----------
        collections : list of collections
        optimize_graph : bool
            Whether the graphs are optimised first.
        """
        from dask.base import collections_to_expr

        return dict(collections_to_expr(list(collections), optimize_graph).optimize().__dask_graph__())

    def _submit_graph(
        self,
        graph: Mapping[Any, Any],
        annotations: Annotations,
        keys: list[Any],
        fifo_timeout: Any,
        *,
        inline: bool = True,
        optimize_graph: bool = True,
        actors: Any = None,
        **options: Any,
    ) -> dict[Any, Future]:
        """Submit the tasks of a graph that some keys need; the futures of these keys."""
        self._check_usable()
        self._submitter.make_keys_free()
        given = {name: value for name, value in options.items() if value}
        if given.get("allow_other_workers") and "workers" not in given:
            raise ValueError("allow_other_workers= has a meaning only together with workers=")
        find = self._table.find_key if len(self._table) else None
        chosen: list[TaskOptions] = []

        def choose(names: list[Any]) -> Callable[[Any], Any] | None:
            chosen.append(task_options(given, annotations, lambda: names, _actor_keys(actors)))
            return chosen[0].kind_of()

        with collector_paused():
            flat = flatten(graph, keys, _KnownHere(self), find, choose if _may_fuse(optimize_graph) else None)
            if not chosen:
                choose(flat.keys)
            futures = submit_graph(
                self._submitter,
                flat,
                chosen[0],
                parse_seconds(fifo_timeout, "fifo_timeout") or 0.0,
                inline,
            )
        return dict(zip(keys, futures, strict=True))


class _KnownHere(KnownKeys):
    """Keys that a graph may need: this client has futures of them, or another one of this process and cluster has.

    The graph of a persisted collection names its results by key alone once dask has optimised it.
    """

    def __init__(self, client: Lifecycle):
        super().__init__(client._table)
        self._client = client

    def __contains__(self, key: object) -> bool:
        if super().__contains__(key):
            return True
        address, data = self._client._connection.address, encode_key(key)
        return any(
            other._table.find_key(data)
            for other in open_clients()
            if other._connection.address == address and other.status == "running"
        )


def _may_fuse(optimize_graph: bool) -> bool:
    """Whether chains of tasks may become one task: not if the call or dask's settings say no."""
    dask_config = sys.modules.get("dask.config")
    return optimize_graph and (
        dask_config is None or dask_config.get("optimization.fuse.active", None) is not False
    )


def _actor_keys(actors: Any) -> set[Any] | bool:
    """The keys that `actors=` names: True for all, a dict of keys to bools, or keys and collections."""
    if actors is None or isinstance(actors, bool):
        return bool(actors)
    if isinstance(actors, Mapping):
        return {key for key, wanted in actors.items() if wanted}
    if hasattr(actors, "__dask_keys__"):
        return set(_flat(actors.__dask_keys__()))
    if isinstance(actors, list | set | frozenset):
        return {key for each in actors for key in _key_set(each)}
    return {actors}


def _key_set(named: Any) -> set[Any]:
    found = _actor_keys(named)
    if isinstance(found, bool):
        raise TypeError(f"actors= takes keys and collections, or True for all tasks, not a list with {named!r}")
    return found


def _materialize(dsk: Any) -> tuple[Mapping[Any, Any], Annotations]:
    """The tasks of a graph of any kind, and what its annotations say: for each name a mapping of keys to values."""
    if isinstance(dsk, dict):
        return dsk, {}
    if hasattr(dsk, "layers"):
        # A HighLevelGraph as it is, such as dask.array.store and the writers of dataframes pass.
        annotations: dict[str, dict[Any, Any]] = {}
        for layer in dsk.layers.values():
            for name, value in (layer.annotations or {}).items():
                annotations.setdefault(name, {}).update(dict.fromkeys(layer, value))
        return dict(dsk), annotations
    graph = dsk.__dask_graph__() if hasattr(dsk, "__dask_graph__") else dsk
    annotate = getattr(dsk, "__dask_annotations__", None)
    return graph, annotate() if annotate is not None else {}


def _rebuild(collection: Any, expr: Any, keys: list[Any], futures: Mapping[Any, Future]) -> Any:
    """The collection on top of futures of its keys."""
    graph = {key: futures[key] for key in keys}
    if hasattr(collection, "__dask_rebuild_from_exprs__") and hasattr(expr, "exprs"):
        from dask.base import _rebuild_composite_collection

        return _rebuild_composite_collection(collection, expr, graph, cull_to_child_keys=True)
    rebuild, arguments = collection.__dask_postpersist__()
    return rebuild(graph, *arguments)


def _refuse_unknown(method: str, kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        raise TypeError(f"{method}() got unexpected keyword arguments: {', '.join(sorted(kwargs))}")


def _flat(keys: Any) -> Iterator[Any]:
    if type(keys) is list:
        for key in keys:
            yield from _flat(key)
    else:
        yield keys


def _repack(keys: Any, by_key: Mapping[Any, Any]) -> Any:
    return [_repack(key, by_key) for key in keys] if type(keys) is list else by_key[keys]
