"""What became of a task, as an exception. May import: `_core`, `protocol`, `errors`."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from fastdist._core.client.futures import FutureTable
from fastdist._core.codec.frames import TaskStatus
from fastdist._core.codec.values import decode_value
from fastdist.client.future import Future
from fastdist.errors import FutureCancelledError, KilledWorker, TaskLostError
from fastdist.protocol.failures import load_failure

#: An exception tells of it.
FAILED = (TaskStatus.STATUS_ERRED, TaskStatus.STATUS_LOST)


class Outcomes:
    """The exceptions of the tasks of a client; each is loaded once, when it is first asked for.

    Attributes
    ----------
    default_reason, default_message : str, str or None
        Why a future is cancelled of which the scheduler said nothing.
    """

    def __init__(self, table: FutureTable):
        self._table = table
        self._lock = threading.Lock()
        self._reasons: dict[int, tuple[str, str | None]] = {}
        self.default_reason = "unknown"
        self.default_message: str | None = None

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

    def set_reason(self, future: Future, reason: str, message: str | None) -> None:
        """Remember why a future was cancelled by this client."""
        self._table.errors[future.id] = (reason, message)

    def cancelled_error(self, future: Future) -> FutureCancelledError:
        """The error for a cancelled future."""
        known = self._table.errors.get(future.id)
        if known is not None and isinstance(known[0], str):
            reason, message = known
        else:
            reason, message = parse_reason(future.payload) or (self.default_reason, self.default_message)
        return FutureCancelledError(future.key, reason, message)


def load_error(payload: bytes | None, key: object) -> BaseException:
    """The exception in the payload of a failed task: its own, or what the scheduler says happened to it."""
    fields = read_reason(payload)
    if fields is None:
        return (
            RuntimeError(f"the task {key!r} failed, and nothing was said about it")
            if not payload
            else load_failure(payload)
        )
    reason, message = fields.get("reason"), str(fields.get("message", ""))
    if reason == "killed-worker":
        return KilledWorker(key, fields.get("worker"), fields.get("allowed_failures"), message)
    return TaskLostError(key, str(reason), message)


def read_reason(payload: bytes | None) -> dict[str, Any] | None:
    """The fields of a reason that the scheduler gave, or None if the payload is none."""
    if not payload:
        return None
    value = decode_value(payload)
    return value if isinstance(value, dict) and "reason" in value else None


def parse_reason(payload: bytes | None) -> tuple[str, str | None] | None:
    """Reason and message of a cancelled task, or None if none was sent.

    Raises
    ------
    FrameError
        If the payload is no encoded value.
    """
    fields = read_reason(payload)
    if fields is None:
        return None
    # What the user said counts more than the name of the event.
    return str(fields.get("cause") or fields["reason"]), str(fields.get("message", "")) or None
