"""What a submission asks for - priority, retries, workers, resources - as the core and the workers take it.

May import: errors, _core, rpc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack

from fastdist._core.scheduler.core import SchedulerCore
from fastdist.errors import MessageError
from fastdist.rpc.fields import flag, items, mapping, number, text, whole

_MAX_OPTION_MAPS = 10_000
_MAX_POLICY_BYTES = 1 << 20
_KNOWN = {"priority", "retries", "workers", "allow_other_workers", "resources", "actor", "retry", "timeout"}


@dataclass(frozen=True)
class Placing:
    """Which workers a task may run on."""

    workers: tuple[str, ...] = ()
    resources: Mapping[str, float] = field(default_factory=dict)
    loose: bool = False
    #: What the task makes stays where it is made.
    actor: bool = False

    @property
    def fallback(self) -> Placing:
        """What counts while no worker fits."""
        return Placing(resources=self.resources) if self.loose else self

    @property
    def restricts(self) -> bool:
        """Whether not every worker will do."""
        return bool(self.workers or self.resources)

    def allows(self, identity: Mapping[str, Any]) -> bool:
        """Whether a worker with this identity will do.

        Parameters
        ----------
        identity : mapping
            With `address`, `name`, `host` and `resources` of the worker.
        """
        named = {identity["address"], str(identity["name"]), identity["host"]}
        if self.workers and named.isdisjoint(self.workers):
            return False
        supply = identity["resources"]
        return all(supply.get(name, 0.0) >= amount for name, amount in self.resources.items())


def read_options(
    core: SchedulerCore, packed: bytes, candidates: Callable[[Placing], list[int]]
) -> list[int]:
    """Register the option maps of a TASKS frame.

    Parameters
    ----------
    core : SchedulerCore
        Gets the options.
    packed : bytes
        The last column of the frame: a msgpack list of maps, or nothing.
    candidates : callable
        Gives the numbers of the workers that a `Placing` allows.

    Returns
    -------
    list of int
        The core's number of each map.

    Raises
    ------
    MessageError
        If a map has an unknown entry or a value of the wrong type; nothing is registered then.
    """
    if not packed:
        return []
    maps = msgpack.unpackb(packed, strict_map_key=True)
    if not isinstance(maps, list) or len(maps) > _MAX_OPTION_MAPS:
        raise MessageError(f"the options of a TASKS frame must be a list of at most {_MAX_OPTION_MAPS} maps")
    checked = [_check(options) for options in maps]
    return [_register(core, options, placing, candidates) for options, placing in checked]


def _check(options: Any) -> tuple[dict[str, Any], Placing]:
    if not isinstance(options, dict) or not _KNOWN.issuperset(options):
        raise MessageError(f"unknown options of a task: {options!r}; known are {sorted(_KNOWN)}")
    number(options, "priority", default=0.0)
    whole(options, "retries", 0, 65535, default=0)
    policy = options.get("retry", b"")
    if type(policy) is not bytes or len(policy) > _MAX_POLICY_BYTES:
        raise MessageError(f"the option 'retry' of a task must be at most {_MAX_POLICY_BYTES} bytes")
    number(options, "timeout", 0.0, default=0.0)
    resources = mapping(options, "resources", default={})
    for name in resources:
        number(resources, name, 0.0)
    workers = items(options, "workers", str, default=[])
    amounts = {name: float(amount) for name, amount in resources.items()}
    loose = flag(options, "allow_other_workers", default=False)
    return options, Placing(tuple(workers), amounts, loose, flag(options, "actor", default=False))


def _register(
    core: SchedulerCore,
    options: dict[str, Any],
    placing: Placing,
    candidates: Callable[[Placing], list[int]],
) -> int:
    for_worker: dict[str, Any] = {}
    if placing.resources:
        for_worker["resources"] = dict(placing.resources)
    if options.get("retry"):
        for_worker["retry"] = options["retry"]
    if options.get("timeout"):
        for_worker["timeout"] = float(options["timeout"])
    registered = core.on_options(
        -float(options.get("priority") or 0.0),
        options.get("retries") or 0,
        placing.restricts,
        placing.loose,
        dict(placing.resources),
        msgpack.packb(for_worker) if for_worker else b"",
        placing,
    )
    if placing.restricts:
        core.on_candidates(registered, candidates(placing))
    return registered


def worker_restriction(fields: Mapping[str, Any], name: str = "workers") -> tuple[str, ...] | None:
    """The workers named in a control message, or None for all."""
    if fields.get(name) is None:
        return None
    if isinstance(fields[name], str):
        return (text(fields, name),)
    return tuple(str(worker) for worker in items(fields, name, (str, int)))
