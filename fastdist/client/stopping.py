"""Options that stop tasks: how, and after which time. May import: nothing of fastdist but errors and options."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("fastdist.client")

#: Ways to stop a task that executes; None lets it go on, and drops its result.
WAYS = (None, "interrupt", "kill")


def check_way(stop: Any) -> None:
    """Raise ValueError unless `stop` is a way to stop a task."""
    if stop not in WAYS:
        raise ValueError(f"stop= must be None, 'interrupt' or 'kill', not {stop!r}")


def take_timeout(function: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    """Take the timeout of a task out of the keyword arguments of a submission; None if there is none.

    A function that has a parameter of that name, or takes any keyword, gets it as its own.

    Examples
    --------
    >>> take_timeout(abs, {"timeout": 3})
    3
    >>> take_timeout(lambda timeout: 0, {"timeout": 3}) is None
    True
    """
    if "timeout" not in kwargs or takes_timeout(function):
        return None
    return kwargs.pop("timeout")


def takes_timeout(function: Callable[..., Any]) -> bool:
    """Whether a function can be called with `timeout=`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        # It does not say what it takes.
        return False
    return any(
        each.kind is each.VAR_KEYWORD
        or (each.name == "timeout" and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY))
        for each in parameters
    )


def tell_unkillable(addresses: list[str]) -> None:
    """Say which tasks may go on although their processes were to be killed."""
    if addresses:
        logger.warning(
            "the workers at %s have no nanny, so their processes cannot be killed: the cancelled tasks were "
            "interrupted, and go on until they notice",
            ", ".join(addresses),
        )
