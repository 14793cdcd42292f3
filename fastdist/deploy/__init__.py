"""Clusters: a scheduler and workers that are started and closed together.

May import: every layer below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastdist.deploy.cluster import Cluster
    from fastdist.deploy.local import LocalCluster

__all__ = ["Cluster", "LocalCluster"]


def __getattr__(name: str) -> Any:
    if name == "LocalCluster":
        from fastdist.deploy.local import LocalCluster

        return LocalCluster
    if name == "Cluster":
        from fastdist.deploy.cluster import Cluster

        return Cluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
