"""Names of dask.distributed without a counterpart here: they can be imported, and say so when they are used.

Which they are is in `planned_names.py`; the attributes of this module are `module.name`. May import: `client.planned`.
"""

from __future__ import annotations

from typing import Any, NoReturn

from fastdist.client.planned import refuse

_EXCEPTIONS = (
    "DataUnavailable",
    "InvalidTaskState",
    "InvalidTransition",
    "RecommendationsConflict",
    "TransitionCounterMaxExceeded",
)


class PlannedAttributeError(NotImplementedError, AttributeError):
    """What the attribute of a name that is not available raises; `hasattr` finds nothing."""


class Planned(type):
    """The class of names that are not available: each is a class, so that `isinstance`, `except` and hints work.

    Parameters
    ----------
    name, bases, namespace
        As `type` takes them.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Make an instance, or call the function of this name: not available.

        Raises
        ------
        NotImplementedError
            Always.
        """
        refuse(_title(cls))

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        raise PlannedAttributeError(f"{_title(cls)}.{name} is not available yet")

    def __repr__(cls) -> str:
        return f"<{_title(cls)}: not available yet>"


def _title(cls: type) -> str:
    """What it is called in dask.distributed; of a class that somebody derived, the one that it is derived from."""
    base = next(each for each in cls.__mro__ if vars(each).get("_is_planned"))
    return f"{base.__module__.replace('fastdist', 'distributed', 1)}.{base.__name__}"


def __getattr__(path: str) -> Planned:
    module, dot, name = path.rpartition(".")
    if not dot:
        raise AttributeError(f"module {__name__!r} has no attribute {path!r}")
    # What programs name in `except` has to be an exception.
    bases = (Exception,) if name.endswith(("Error", "Warning", "Exception")) or name in _EXCEPTIONS else ()
    return Planned(name, bases, {"__module__": f"fastdist.{module}", "_is_planned": True})
