"""Errors of workers that lack a module which this client has: where it is here, and how it gets there.

May import: nothing of fastdist.
"""

from __future__ import annotations

import importlib.util
import os
import sysconfig

#: Links along the causes of an exception that are looked at.
MAX_LINKS = 32


def point_to_modules(error: BaseException) -> None:
    """Say in each ModuleNotFoundError among an error and its causes how to ship the module, if it is here."""
    link: BaseException | None = error
    for _ in range(MAX_LINKS):
        if link is None:
            return
        if isinstance(link, ModuleNotFoundError) and isinstance(link.name, str):
            hint = how_to_ship(link.name)
            if hint is not None and hint not in str(link):
                link.msg = f"{link.msg}; {hint}"
                link.args = (link.msg, *link.args[1:])
        link = link.__cause__ or link.__context__


def how_to_ship(module: str) -> str | None:
    """Where a module is in this process and how workers get it; None if it is not here either.

    Examples
    --------
    >>> how_to_ship("no_module_of_this_name") is None
    True
    """
    top = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        return None
    folder = next(iter(spec.submodule_search_locations or ()), None)
    path = folder or str(spec.origin)
    if spec.origin in ("built-in", "frozen") or _is_standard(path):
        return None
    here = f"{top!r} is local to this client, at {path}"
    if "site-packages" in path.split(os.sep) or "dist-packages" in path.split(os.sep):
        return f"{here}, and not installed there: client.register_plugin(PipInstall([{top!r}])) installs it"
    if folder is not None:
        return f"{here}: client.register_plugin(UploadDirectory({folder!r})) ships it to the workers"
    return f"{here}: client.upload_file({path!r}) ships it to the workers"


def _is_standard(path: str) -> bool:
    """Whether it belongs to Python itself."""
    library = sysconfig.get_path("stdlib")
    inside = path.startswith(library + os.sep)
    return inside and not {"site-packages", "dist-packages"} & set(path.split(os.sep))
