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
