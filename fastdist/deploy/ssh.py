"""Clusters over ssh: not available yet. May import: `aliases`."""

from __future__ import annotations

from typing import Any

from fastdist.aliases import names_of


def SSHCluster(*args: Any, **kwargs: Any) -> Any:
    """Not available yet: start a scheduler and workers on other hosts over ssh.

    Raises
    ------
    NotImplementedError
        Always; start `fastdist-scheduler` and `fastdist-worker` on the hosts instead.
    """
    raise NotImplementedError(
        "SSHCluster is not available yet: start fastdist-scheduler and fastdist-worker on the hosts, "
        "and connect with Client(address)"
    )

# What libraries look for here is at home elsewhere.
__getattr__ = names_of(__name__)
