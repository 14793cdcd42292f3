from fastdist._core.worker.fetch import FetchPlan
from fastdist._core.worker.model import RecordPool, TaskState
from fastdist._core.worker.ready import ReadyQueue

TRANSITIONS: dict[TaskState, tuple[TaskState, ...]]

class WorkerModel:
    @property
    def pool(self) -> RecordPool: ...
    @property
    def ready(self) -> ReadyQueue: ...
    @property
    def plan(self) -> FetchPlan: ...
    @property
    def epoch(self) -> int: ...
    @property
    def number(self) -> int: ...
