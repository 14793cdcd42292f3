"""Why a task is where it is, as facts."""

from typing import Any

from fastdist._core.scheduler.deaths import DeathNotes
from fastdist._core.scheduler.model import Model
from fastdist._core.scheduler.queue import ReadyQueue

def situation(model: Model, queue: ReadyQueue, deaths: DeathNotes, id: int) -> dict[str, Any] | None: ...
def has_unrunnable(model: Model, queue: ReadyQueue) -> bool: ...
def unrunnable(model: Model, queue: ReadyQueue, limit: int) -> list[int]: ...
