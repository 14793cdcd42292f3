"""What happened to tasks on a worker."""

from fastdist._core.worker.core import WorkerCore

def tell_story(core: WorkerCore, ids: list[int]) -> list[tuple[int, str, str, str, float]]: ...
