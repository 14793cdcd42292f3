"""Clusters: a scheduler and workers that are started and closed together.

May import: every layer below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastdist.deploy.cluster import Cluster
    from fastdist.deploy.local import LocalCluster
    from fastdist.deploy.process import ProcessInterface
    from fastdist.deploy.spec import SpecCluster
    from fastdist.deploy.ssh import SSHCluster
    from fastdist.deploy.subprocess import SubprocessCluster

_HOMES = {
    "Cluster": "cluster",
    "LocalCluster": "local",
    "ProcessInterface": "process",
    "SSHCluster": "ssh",
    "SpecCluster": "spec",
    "SubprocessCluster": "subprocess",
    "Adaptive": "adaptive",
}

__all__ = ["Cluster", "LocalCluster", "ProcessInterface", "SSHCluster", "SpecCluster", "SubprocessCluster"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"fastdist.deploy.{_HOMES[name]}"), name)
