"""Adaptive: as many workers as there is work. Not available yet. May import: `client.planned`."""

from __future__ import annotations

from typing import Any

from fastdist.client.planned import refuse


class Adaptive:
    """Scale a cluster with its load: not available yet.

    Raises
    ------
    NotImplementedError
        Always.
    """

    def __init__(
        self,
        cluster: Any,
        interval: Any = None,
        minimum: int | None = None,
        maximum: float | None = None,
        wait_count: int | None = None,
        target_duration: Any = None,
        worker_key: Any = None,
        **kwargs: Any,
    ) -> None:
        refuse("Adaptive", "cluster.scale(n) sets the number of workers")
