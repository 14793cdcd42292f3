"""The queue of ready tasks that are not bound to a worker."""

from typing import final

from fastdist._core.scheduler.model import Model

@final
class ReadyQueue:
    @property
    def size(self) -> int: ...
    def __init__(self, model: Model) -> None: ...
    def __len__(self) -> int: ...
