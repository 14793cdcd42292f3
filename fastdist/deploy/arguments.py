"""The arguments of a cluster on this machine, checked before anything is started.

May import: `nanny`, `worker.options`; `worker.worker` once a name is not one of the nanny's.
"""

from __future__ import annotations

import difflib
import inspect
import operator
from collections.abc import Iterable, Mapping
from typing import Any

from fastdist.nanny import Nanny
from fastdist.nanny import options as nanny_options
from fastdist.worker import options as worker_options

#: Options of workers that are in no signature, because parts of a worker take them.
TAKEN_BY_PARTS = ("plugins", "lifetime", "lifetime_stagger", "lifetime_restart", "metrics", "startup_information")
#: Options of nannies that they take out of the others.
TAKEN_BY_NANNIES = ("security", "quiet", "worker_port")


def whole_number(value: Any, name: str) -> int | None:
    """A count, or None.

    Raises
    ------
    TypeError
        If it is no whole number.

    Examples
    --------
    >>> whole_number(2, "n_workers"), whole_number(None, "n_workers")
    (2, None)
    """
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}= must be a whole number, not {value!r}") from None


def check_switch(value: Any, name: str) -> None:
    """Raise TypeError unless a value is True, False or None."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name}= must be True or False, not {value!r}")


def check_worker_options(options: Mapping[str, Any], processes: bool, of_cluster: Iterable[str]) -> None:
    """Refuse arguments that no worker takes.

    Parameters
    ----------
    options : mapping
        What is handed on to the workers.
    processes : bool
        Whether they are processes with nannies.
    of_cluster : iterable of str
        The arguments of the cluster itself, for suggestions.

    Raises
    ------
    TypeError
        The text names the argument, and the one that was probably meant.
    """
    resources = options.get("resources")
    if resources is not None and not isinstance(resources, Mapping):
        raise TypeError(f"resources= must be a dict such as {{'GPU': 1}}, not {resources!r}")
    if "nanny" in options:
        raise TypeError(
            "a cluster has no nanny=: workers that are processes have one each, those of processes=False have none"
        )
    known = _parameters(Nanny) | set(TAKEN_BY_NANNIES) | set(nanny_options.NOT_BUILT) if processes else set()
    if options.keys() <= known:
        return
    from fastdist.worker.worker import Worker

    known |= _parameters(Worker) | set(worker_options.NOT_BUILT) | set(TAKEN_BY_PARTS) | {"security"}
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known | set(of_cluster), n=1)
            meant = f"; did you mean {near[0]}=?" if near else ""
            raise TypeError(f"neither the cluster nor its workers have an argument {name}={meant}")


def _parameters(cls: type) -> set[str]:
    return {
        name
        for name, each in inspect.signature(cls).parameters.items()
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }
