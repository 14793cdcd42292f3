"""Annotations of dask: what they say about single tasks, as the options of a submission.

`dask.annotate` around the making of a collection stays with its layers; around a submission it holds for all
of its tasks, and the arguments of the call come before it. May import: `fastdist.client.options`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastdist.client.options import pack_options

#: Annotations by other names that older programs use.
ALIASES = {"restrictions": "workers", "loose_restrictions": "allow_other_workers"}
OPTIONS = ("workers", "allow_other_workers", "resources", "retries", "priority", "timeout")

Annotations = Mapping[str, Mapping[Any, Any]]


@dataclass
class TaskOptions:
    """The options of the tasks of one graph.

    Attributes
    ----------
    default : bytes or None
        Of a task that is not in `by_key`, packed.
    by_key : dict
        Of the tasks that have others.
    executors : dict
        Names of executors, by key, for the tasks that name one.
    actors : set
        Keys of the tasks whose results are actors.
    """

    default: bytes | None
    by_key: dict[Any, bytes | None] = field(default_factory=dict)
    executors: dict[Any, str] = field(default_factory=dict)
    actors: set[Any] = field(default_factory=set)

    def kind_of(self) -> Callable[[Any], Hashable] | None:
        """A function that says what is the same for tasks that may run as one, by key; None if all may."""
        if not (self.by_key or self.executors or self.actors):
            return None

        def kind(key: Any) -> Hashable:
            own = key if key in self.actors else None
            return self.by_key.get(key, self.default), self.executors.get(key), own

        return kind


def task_options(
    arguments: Mapping[str, Any],
    annotations: Annotations,
    keys: Callable[[], Iterable[Any]],
    actors: Iterable[Any] | bool = False,
) -> TaskOptions:
    """Combine the arguments of a call, the annotations around it and those of the layers.

    Parameters
    ----------
    arguments : mapping
        Options that the caller gave; they come before the annotations around the call.
    annotations : mapping
        Of the graph: for each name a mapping of keys to values; they come before all else.
    keys : callable
        Gives the keys of the tasks; asked for only when an annotation is a function of the key, or all are actors.
    actors : iterable or bool
        Keys of the tasks whose results are actors, or whether those of all tasks are.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type.
    """
    common = {**current_annotations(), **arguments}
    functions = {name: value for name, value in common.items() if callable(value)}
    per_key: dict[Any, dict[str, Any]] = {}
    if functions:
        for key in keys():
            per_key[key] = {name: function(key) for name, function in functions.items()}
    fixed = {name: value for name, value in common.items() if name not in functions}
    for name, values in annotations.items():
        known = ALIASES.get(name, name)
        if known in OPTIONS or known == "executor":
            for key, value in values.items():
                per_key.setdefault(key, {})[known] = value(key) if callable(value) else value
    result = TaskOptions(_pack(fixed))
    packed: dict[Any, bytes | None] = {}
    for key, own in per_key.items():
        options = {**fixed, **own}
        signature = repr(sorted(own.items()))
        if signature not in packed:
            packed[signature] = _pack(options)
        result.by_key[key] = packed[signature]
    _take_executors(result, fixed, per_key, keys)
    if actors:
        result.actors = set(keys() if actors is True else actors)
        for key in result.actors:
            result.by_key[key] = _pack({**fixed, **per_key.get(key, {})}, actor=True)
    return result


def current_annotations() -> dict[str, Any]:
    """What `dask.annotate` says around the running code, under the names that are known here."""
    dask = sys.modules.get("dask")
    if dask is None or not hasattr(dask, "get_annotations"):
        return {}
    found = {ALIASES.get(name, name): value for name, value in dask.get_annotations().items()}
    return {name: value for name, value in found.items() if name in OPTIONS or name == "executor"}


def pack_call_options(**options: Any) -> bytes | None:
    """The options of `submit` or `map`, with what `dask.annotate` says around the call, packed.

    Raises
    ------
    TypeError, ValueError
        If an option has the wrong type, or contradicts another one.
    NotImplementedError
        If an annotation is a function of the key, or names an executor: only graphs know these.
    """
    annotated = current_annotations()
    for name, value in annotated.items():
        if callable(value) or (name == "executor" and value not in (None, "default")):
            raise NotImplementedError(f"the annotation {name}={value!r} is not available for submit and map yet")
    annotated.pop("executor", None)
    if annotated:
        options = {**options, **{name: value for name, value in annotated.items() if not options.get(name)}}
    return pack_options(**options)


def _pack(options: Mapping[str, Any], actor: bool = False) -> bytes | None:
    known = {name: options[name] for name in OPTIONS if options.get(name) is not None}
    if not known.get("workers"):
        # Annotations may be given one by one, in layers: an empty or missing list restricts nothing.
        known.pop("workers", None)
        known.pop("allow_other_workers", None)
    retries = known.get("retries")
    if isinstance(retries, float) and retries.is_integer():
        known["retries"] = int(retries)
    return pack_options(**known, actor=actor)


def _take_executors(
    result: TaskOptions,
    fixed: Mapping[str, Any],
    per_key: Mapping[Any, Mapping[str, Any]],
    keys: Callable[[], Iterable[Any]],
) -> None:
    everywhere = fixed.get("executor")
    if everywhere is not None and everywhere != "default":
        result.executors = dict.fromkeys(keys(), everywhere)
    for key, own in per_key.items():
        if "executor" in own:
            if own["executor"] in (None, "default"):
                result.executors.pop(key, None)
            else:
                result.executors[key] = own["executor"]
