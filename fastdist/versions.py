"""Which software a process runs, and whether all processes of a cluster run the same.

May import: nothing of fastdist.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import struct
import sys
from collections.abc import Iterable, Mapping
from typing import Any

#: What every process has; results and functions travel in their formats.
REQUIRED = ("fastdist", "msgpack", "cloudpickle")
#: What user code has in its tasks more often than not.
OPTIONAL = ("dask", "distributed", "toolz", "tornado", "numpy", "pandas", "lz4")


#: Packages in whose formats functions and values travel most often; these are compared at every connect.
COMPARED = ("fastdist", "cloudpickle", "numpy", "pandas", "dask", "pyarrow")


class VersionMismatchWarning(Warning):
    """Processes of one cluster run different versions of a package."""


def get_versions(packages: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """The machine and the packages of this process.

    Parameters
    ----------
    packages : iterable of str, optional
        Names of distributions to tell of besides the usual ones.

    Returns
    -------
    dict
        `host` with facts about Python and the machine, `packages` with a version, or None, by name.

    Examples
    --------
    >>> get_versions()["packages"]["msgpack"]  # doctest: +SKIP
    '1.1.0'
    """
    python = ".".join(map(str, sys.version_info))
    names = dict.fromkeys([*REQUIRED, *OPTIONAL, *(packages or ())])
    return {
        "host": {
            "python": python,
            "python-bits": 8 * struct.calcsize("P"),
            "OS": platform.system(),
            "OS-release": platform.release(),
            "machine": platform.machine(),
            "processor": platform.processor(),
            "byteorder": sys.byteorder,
            "LC_ALL": os.environ.get("LC_ALL", "None"),
            "LANG": os.environ.get("LANG", "None"),
        },
        "packages": {"python": python, **{name: version_of(name) for name in names}},
    }


@functools.cache
def version_of(package: str) -> str | None:
    """The version of an installed distribution, or None."""
    if package == "fastdist":
        import fastdist

        return fastdist.__version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def differences(versions: Mapping[str, Any]) -> str:
    """A table of the packages that differ between client, scheduler and workers; empty if there are none.

    Parameters
    ----------
    versions : dict
        What `Client.get_versions` gives.
    """
    workers = {address: answer["packages"] for address, answer in versions["workers"].items()}
    places = {"client": versions["client"]["packages"], "scheduler": versions["scheduler"]["packages"], **workers}
    lines = []
    for package in dict.fromkeys(name for packages in places.values() for name in packages):
        by_version: dict[str, list[str]] = {}
        for place, packages in places.items():
            by_version.setdefault(str(packages.get(package)), []).append(place)
        if len(by_version) > 1:
            found = (
                f"{version} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
                for version, names in by_version.items()
            )
            lines.append(f"  {package}: {'; '.join(found)}")
    return "\n".join(lines)


def running_versions() -> dict[str, str]:
    """The versions of Python and of those packages of `COMPARED` that this process has loaded.

    Each process tells them when it connects; what is not loaded would take milliseconds to find.

    Examples
    --------
    >>> sorted(running_versions())[-1]
    'python'
    """
    found = {"python": platform.python_version()}
    for name in COMPARED:
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str):
            found[name] = version
    return found


def refuse_other_python(theirs: Mapping[str, str], who: str) -> None:
    """Refuse a process that runs another minor version of Python than this one.

    Functions that are pickled by value hold bytecode, which another minor version may crash on.

    Raises
    ------
    ValueError
        If it does; the text says what to do.
    """
    version = theirs.get("python")
    mine = platform.python_version()
    if isinstance(version, str) and version.split(".")[:2] != mine.split(".")[:2]:
        raise ValueError(
            f"{who} runs Python {version} and the scheduler Python {mine}; functions cannot travel between them: "
            "run the same minor version of Python everywhere"
        )


def differing(mine: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Packages that both have loaded in versions that differ by more than a correction.

    Examples
    --------
    >>> differing({"numpy": "2.1.0"}, {"numpy": "1.26.4"})
    {'numpy': ('2.1.0', '1.26.4')}
    >>> differing({"numpy": "2.1.0"}, {"numpy": "2.1.3"})
    {}
    """
    return {
        name: (mine[name], theirs[name])
        for name in COMPARED
        if name in mine and name in theirs and mine[name].split(".")[:2] != theirs[name].split(".")[:2]
    }
