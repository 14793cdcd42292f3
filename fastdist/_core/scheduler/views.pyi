"""What may be read of the scheduler's records."""

from typing import Any, TypedDict

from fastdist._core.scheduler.model import Model
from fastdist._core.scheduler.queue import ReadyQueue

STATE_NAMES: tuple[str, ...]

class _WorkerView(TypedDict):
    address: str
    nthreads: int
    running: bool
    processing: int
    ahead: int
    occupancy: float
    nbytes: int
    held: int

class _TaskView(TypedDict):
    id: int
    key: Any
    state: str
    attempt: int
    dependencies: list[Any]
    waiting_on: int
    waiters: int
    dependents: int
    wanted: bool
    who_has: list[str]
    processing_on: str | None
    nbytes: int
    type: str
    kept: int
    retries: int
    attempts: int
    retry_at: float | None
    suspicious: int
    flags: int
    has_work: bool

class CoreViews:
    @property
    def model(self) -> Model: ...
    @property
    def queue(self) -> ReadyQueue: ...
    # What happened
    def listen(self, on: bool) -> None: ...
    def take_transitions(self) -> tuple[list[tuple[Any, str, str, int | None, int, str, float]], int]: ...
    # Views
    def story(
        self, keys: list[bytes] | None, batches: list[str]
    ) -> list[tuple[bytes, str, str, dict[str, str], str, float]]: ...
    def story_ids(self, keys: list[bytes]) -> list[tuple[bytes, int]]: ...
    def n_tasks(self) -> int: ...
    def n_processing(self) -> int: ...
    def counts(self) -> dict[str, int]: ...
    def worker_view(self, number: int) -> _WorkerView: ...
    def task_view(self, key: bytes) -> _TaskView | None: ...
    def tasks(self) -> list[_TaskView]: ...
    def key_of_id(self, id: int) -> Any: ...
    def who_has(self, client: int, ids: list[int]) -> list[tuple[int, int, list[str]] | None]: ...
    def has_what(self, worker: int) -> list[Any]: ...
    def processing(self, worker: int) -> list[Any]: ...
    def least_loaded(self) -> list[int]: ...
    def restricted_options(self) -> list[tuple[int, Any]]: ...
    def validate(self) -> None: ...
