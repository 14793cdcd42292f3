"""What computes a task, as bytes."""

from fastdist._core.scheduler.model import Model

def work_of(model: Model, id: int) -> tuple[bytes, bytes, list[bytes]] | None: ...
