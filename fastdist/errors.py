"""Every exception that fastdist raises on its own account.

May import: nothing of fastdist.
"""

from __future__ import annotations

import concurrent.futures


class FastdistError(Exception):
    """Base of the errors that belong to fastdist alone."""


class FrameError(FastdistError, ValueError):
    """A message does not have the form that docs/wire.md demands; its connection is closed."""


class CommClosedError(FastdistError, OSError):
    """The connection is gone; the text names the peer and the reason."""


class HandshakeError(FastdistError, OSError):
    """The other side does not speak this protocol or this version of it, or refused the connection."""


class AuthenticationError(HandshakeError):
    """The two sides do not hold the same token; the text names the places where this side looked for one."""


class TokenError(AuthenticationError):
    """A token file is missing, malformed or open to others; the text says what to do."""


class RemoteError(FastdistError):
    """A handler on the other side failed with an exception that has no class of its own on this side."""


class MessageError(FastdistError, ValueError):
    """A field of a control message is missing, or its value has the wrong type or size."""


class ConfigurationError(FastdistError, ValueError):
    """A setting is unknown, or its value has the wrong type; the text names it and where it came from."""


class SerializationError(FastdistError, TypeError):
    """An object cannot be turned into bytes; the text gives the path to the part of it that is the reason.

    The exception that the pickler raised is the ``__cause__``.
    """


class RemoteTaskError(FastdistError):
    """Stands for an exception of a task that could not travel, or whose class does not exist here.

    Attributes
    ----------
    type_name : str
        Module and name of the class of the original exception.
    text : str
        Its text.
    traceback_text : str
        Its traceback as it would have been printed where it was raised.
    """

    def __init__(self, type_name: str, text: str = "", traceback_text: str = "") -> None:
        super().__init__(type_name, text, traceback_text)
        self.type_name = type_name
        self.text = text
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


class NondeterministicError(FastdistError, TypeError):
    """No deterministic key can be made of a function or an argument; the call must count as impure."""


class GraphError(FastdistError, ValueError):
    """A task graph cannot be run as it is."""


class CycleError(GraphError, RuntimeError):
    """Tasks of a graph need each other in a circle.

    `indices` holds the row numbers of one such circle, each row needed by the one before it.
    """

    def __init__(self, message: str, indices: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.indices = indices

    def __reduce__(self) -> tuple[type[CycleError], tuple[str, tuple[int, ...]]]:
        return type(self), (str(self), self.indices)


class MissingKeyError(GraphError, KeyError):
    """A key that was asked for, or that a task needs, is not in the graph."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class Reschedule(Exception):
    """Raise this inside of a task to have the scheduler place it again, perhaps on another worker.

    Examples
    --------
    >>> def train(model):
    ...     if not gpu_is_free():
    ...         raise Reschedule()
    """


class TooManyThreadsError(FastdistError, RuntimeError):
    """A task was about to wait for another one, and its worker may start no thread for that other one.

    Attributes
    ----------
    n_threads : int
        How many threads the worker has.
    """

    def __init__(self, n_threads: int) -> None:
        super().__init__(n_threads)
        self.n_threads = n_threads

    def __str__(self) -> str:
        return (
            f"all {self.n_threads} threads that this worker may have belong to tasks that wait for other tasks or "
            "seceded; have fewer tasks wait inside each other, or raise the setting worker.max-threads"
        )


class ClosedClientError(FastdistError):
    """The client is closed, or lost its scheduler for good; the text says which and what was tried."""


class FutureCancelledError(concurrent.futures.CancelledError):
    """The result of a cancelled task was asked for.

    Attributes
    ----------
    key
        The key of the task.
    reason : str
        Why it was cancelled.
    msg : str or None
        A sentence with the details, if there is more to say.
    """

    def __init__(self, key: object, reason: str = "unknown", msg: str | None = None) -> None:
        super().__init__(key, reason, msg)
        self.key = key
        self.reason = reason
        self.msg = msg

    def __str__(self) -> str:
        text = f"{self.key} cancelled for reason: {self.reason}."
        return f"{text}\n{self.msg}" if self.msg else text


class CancelledFuturesGroup:
    """Futures that were cancelled for the same reason.

    Attributes
    ----------
    errors : list of FutureCancelledError
        One for each future.
    reason : str
        Their reason.
    """

    def __init__(self, errors: list[FutureCancelledError], reason: str) -> None:
        self.errors = errors
        self.reason = reason

    def __str__(self) -> str:
        keys = [str(error.key) for error in self.errors[:5]]
        more = f" and {len(self.errors) - 5} more" if len(self.errors) > 5 else ""
        return f"{len(self.errors)} futures cancelled for reason: {self.reason} ({', '.join(keys)}{more})"


class FuturesCancelledError(concurrent.futures.CancelledError):
    """Some of the futures that were waited for are cancelled; `error_groups` lists them by reason."""

    def __init__(self, error_groups: list[CancelledFuturesGroup]) -> None:
        super().__init__(error_groups)
        self.error_groups = error_groups

    def __str__(self) -> str:
        return "\n".join(str(group) for group in self.error_groups)


class WorkerStartTimeoutError(FastdistError, TimeoutError):
    """Not enough workers came in time.

    Attributes
    ----------
    available_workers, expected_workers : int
        How many there are, and how many were waited for.
    timeout : float
        Seconds.
    """

    def __init__(self, available_workers: int, expected_workers: int, timeout: float) -> None:
        super().__init__(available_workers, expected_workers, timeout)
        self.available_workers = available_workers
        self.expected_workers = expected_workers
        self.timeout = timeout

    def __str__(self) -> str:
        return (
            f"Only {self.available_workers} of {self.expected_workers} workers arrived within {self.timeout:g} s; "
            "look at the logs of the workers, or give more time with timeout="
        )


class TaskLostError(FastdistError):
    """A task ended without a result and without an exception of its own; the text says what happened and what to do.

    Attributes
    ----------
    key
        The key of the task.
    reason : str
        One of a fixed set of words, such as `lost-data` or `unknown-key`.
    """

    def __init__(self, key: object, reason: str, message: str = "") -> None:
        super().__init__(key, reason, message)
        self.key = key
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message or f"{self.key!r} is lost: {self.reason}"


class NoWorkerError(FastdistError):
    """A task waited too long while no worker ran at all.

    Attributes
    ----------
    task
        The key of the task.
    timeout : float
        Seconds that it waited.
    """

    def __init__(self, task: object, timeout: float | None = None) -> None:
        super().__init__(task, timeout)
        self.task = task
        self.timeout = timeout

    def __str__(self) -> str:
        return f"the task {self.task!r} waited for {self.timeout} s while there was no worker"


class NoValidWorkerError(FastdistError):
    """A task waited too long while no worker fitted its restrictions.

    Attributes
    ----------
    task
        The key of the task.
    host_restrictions, worker_restrictions, resource_restrictions
        What it asks for.
    timeout : float
        Seconds that it waited.
    """

    def __init__(
        self,
        task: object,
        host_restrictions: object = None,
        worker_restrictions: object = None,
        resource_restrictions: object = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(task, host_restrictions, worker_restrictions, resource_restrictions, timeout)
        self.task = task
        self.host_restrictions = host_restrictions
        self.worker_restrictions = worker_restrictions
        self.resource_restrictions = resource_restrictions
        self.timeout = timeout

    def __str__(self) -> str:
        return (
            f"the task {self.task!r} waited for {self.timeout} s while no worker fitted it: hosts "
            f"{self.host_restrictions}, workers {self.worker_restrictions}, resources {self.resource_restrictions}"
        )


class RPCClosed(FastdistError, OSError):
    """An operation was called after its connection was closed."""


class KilledWorker(FastdistError):
    """A task was executing on too many workers that died.

    Attributes
    ----------
    task
        The key of the task.
    last_worker
        The last worker that died with it.
    allowed_failures : int
        How many deaths were allowed.
    """

    def __init__(self, task: object, last_worker: object, allowed_failures: int | None, message: str = "") -> None:
        super().__init__(task, last_worker, allowed_failures, message)
        self.task = task
        self.last_worker = last_worker
        self.allowed_failures = allowed_failures
        self.message = message

    def __str__(self) -> str:
        return self.message or (
            f"the task {self.task!r} was executing on {self.allowed_failures} workers that died, the last one at "
            f"{self.last_worker}; look at its memory and at the logs of the workers"
        )
