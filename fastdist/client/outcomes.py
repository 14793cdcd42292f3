"""What became of a task, as an exception. May import: `_core`, `protocol`, `errors`."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, NamedTuple

from fastdist._core.client.futures import FutureTable
from fastdist._core.codec.frames import TaskStatus
from fastdist._core.codec.values import decode_value
from fastdist._core.keys.canonical import decode_key
from fastdist.client.future import Future
from fastdist.client.missing_modules import point_to_modules
from fastdist.errors import (
    FutureCancelledError,
    KilledWorker,
    NoValidWorkerError,
    NoWorkerError,
    Reason,
    TaskLostError,
    WorkerDeath,
)
from fastdist.protocol.failures import load_failure

#: An exception tells of it.
FAILED = (TaskStatus.STATUS_ERRED, TaskStatus.STATUS_LOST)


class Outcomes:
    """The exceptions of the tasks of a client; each is loaded once, when it is first asked for."""

    def __init__(self, table: FutureTable):
        self._table = table
        self._lock = threading.Lock()
        #: What ended the futures of this client that the scheduler says nothing of.
        self.end: Cancellation | None = None

    def error_of(self, future: Future) -> BaseException | None:
        """The exception of a failed or cancelled future; None of any other."""
        state = future.state
        if state == TaskStatus.STATUS_CANCELLED:
            return self.cancelled_error(future)
        if state in FAILED:
            return self._loaded(future)[0]
        return None

    def traceback_of(self, future: Future) -> TracebackType | None:
        """The traceback of the exception that a task raised, or None."""
        return self._loaded(future)[1] if future.state in FAILED else None

    def raise_error(self, future: Future) -> None:
        """Raise the exception of a failed or cancelled future, with the traceback that it came with."""
        error = self.error_of(future)
        if error is None:
            return
        # Raising adds frames to the traceback: start from the original each time.
        raise error.with_traceback(self.traceback_of(future))

    def _loaded(self, future: Future) -> tuple[BaseException, TracebackType | None]:
        errors: dict[int, Any] = self._table.errors
        found = errors.get(future.id)
        if found is None:
            error = load_error(future.payload, future.key)
            with self._lock:
                found = errors.setdefault(future.id, (error, error.__traceback__))
        return found

    def set_end(self, kind: Reason, message: str | None = None) -> None:
        """Say why this client has ended, and its futures with it; the first reason stays."""
        if self.end is None:
            self.end = Cancellation(kind, kind.value, message, time.time(), self._who)

    def set_reason(
        self, future: Future, reason: str, message: str | None, kind: Reason = Reason.CANCELLED
    ) -> None:
        """Remember why a future was cancelled by this client."""
        self._table.errors[future.id] = Cancellation(kind, reason, message, time.time(), self._who)

    @property
    def _who(self) -> str | None:
        return getattr(self._table.client, "id", None)

    def cancelled_error(self, future: Future) -> FutureCancelledError:
        """The error for a cancelled future."""
        known = self._table.errors.get(future.id)
        if not isinstance(known, Cancellation):
            known = parse_reason(future.payload) or self.end or RELEASED._replace(by=self._who)
        return FutureCancelledError(
            future.key, known.reason, known.message, known.kind, known.when, known.by
        )


class Cancellation(NamedTuple):
    """Why and when a future was cancelled, and by whom."""

    kind: Reason
    reason: str
    message: str | None
    when: float | None
    by: str | None


RELEASED = Cancellation(
    Reason.RELEASED, Reason.RELEASED.value, "this future was released before; submit the task again", None, None
)


def load_error(payload: bytes | None, key: object) -> BaseException:
    """The exception in the payload of a failed task: its own, or what the scheduler says happened to it."""
    fields = read_reason(payload)
    if fields is None:
        if not payload:
            return RuntimeError(f"the task {key!r} failed, and nothing was said about it")
        error = load_failure(payload)
        point_to_modules(error)
        return error
    reason, message = fields.get("reason"), str(fields.get("message", ""))
    if reason == "killed-worker":
        deaths = [WorkerDeath(**death) for death in fields.get("deaths", ())]
        return KilledWorker(key, fields.get("worker"), fields.get("allowed_failures"), message, deaths)
    if reason == "no-worker":
        return _without_worker(fields)
    when, by = fields.get("when") or time.time(), fields.get("by") or "scheduler"
    return TaskLostError(key, str(reason), message, Reason(reason), when, by)


def _without_worker(fields: dict[str, Any]) -> BaseException:
    task, timeout = decode_key(fields["task"]), fields["timeout"]
    if not fields["running"]:
        return NoWorkerError(task, timeout)
    hosts, workers, resources = fields["hosts"], fields["workers"], fields["resources"]
    return NoValidWorkerError(task, set(hosts), set(workers), dict(resources), timeout)


def read_reason(payload: bytes | None) -> dict[str, Any] | None:
    """The fields of a reason that the scheduler gave, or None if the payload is none."""
    if not payload:
        return None
    value = decode_value(payload)
    return value if isinstance(value, dict) and "reason" in value else None


def parse_reason(payload: bytes | None) -> Cancellation | None:
    """Why a task was cancelled, or None if nothing was sent.

    Raises
    ------
    FrameError
        If the payload is no encoded value.
    """
    fields = read_reason(payload)
    if fields is None:
        return None
    kind = Reason(fields["reason"])
    # What the user said counts more than the name of the event.
    reason = str(fields.get("cause") or kind.value)
    return Cancellation(kind, reason, str(fields.get("message", "")) or None, fields.get("when"), fields.get("by"))
