"""Every exception that fastdist raises on its own account.

May import: nothing of fastdist.
"""

from __future__ import annotations

import concurrent.futures
import time
from enum import Enum


class FastdistError(Exception):
    """Base of the errors that belong to fastdist alone."""


class FrameError(FastdistError, ValueError):
    """A message does not have the form that docs/wire.md demands; its connection is closed."""


class JournalError(FastdistError, OSError):
    """A journal cannot be used: damaged, somebody else's, or in use; the text says what to do."""


class CommClosedError(FastdistError, OSError):
    """The connection is gone; the text names the peer and the reason."""


class HandshakeError(FastdistError, OSError):
    """The other side does not speak this protocol or this version of it, or refused the connection."""


class UnfinishedHandshakeError(HandshakeError):
    """The other side took the connection and then hung up or said nothing: it is stopped, ends, has too much to do, or
    is no fastdist process. Another attempt may succeed.
    """


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


class TaskInterrupted(BaseException):
    """Raised inside of a task that is to stop: it was cancelled with `stop=`, or its `timeout=` is over.

    Like KeyboardInterrupt it is no Exception, so that `except Exception` does not keep a task going. A task may catch
    it to clean up; whatever it does or returns then, its result is not used.
    """


class TaskTimeout(FastdistError, TimeoutError):
    """A task executed for longer than the `timeout=` that it was submitted with.

    Attributes
    ----------
    key
        The key of the task.
    timeout : float
        Seconds that it was allowed.
    stack : str
        Where it was at that moment, as a traceback shows it.
    """

    def __init__(self, key: object, timeout: float, stack: str = "") -> None:
        super().__init__()
        # Not by the constructor: it would take them for the number and the text of a system error.
        self.args = (key, timeout, stack)
        self.key = key
        self.timeout = timeout
        self.stack = stack

    def __str__(self) -> str:
        where = f"; it was here:\n{self.stack}" if self.stack else ""
        return f"the task {self.key!r} executed for longer than its timeout of {self.timeout:g} s{where}"


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


class Reason(str, Enum):
    """Why a task ended without a result or an exception of its own; there are no others."""

    #: A client cancelled it.
    CANCELLED = "cancelled"
    #: Its client was closed.
    CLIENT_CLOSED = "client-closed"
    #: The client has lost its scheduler for good, or the scheduler the task, while the connection was broken.
    CONNECTION_LOST = "scheduler-connection-lost"
    #: All futures of it were released before.
    RELEASED = "released"
    #: The scheduler knows no such task.
    UNKNOWN_KEY = "unknown-key"
    #: It is data that nobody can compute again, and its last holder is gone.
    LOST_DATA = "lost-data"
    #: Too many workers died while they were executing it.
    KILLED_WORKER = "killed-worker"
    #: The whole cluster was restarted.
    SCHEDULER_RESTART = "scheduler-restart"
    #: For longer than `scheduler.no-workers-timeout` no worker could run it.
    NO_WORKER = "no-worker"
    #: Another task has the same key.
    CONFLICTING_KEY = "conflicting-key"


class FutureCancelledError(concurrent.futures.CancelledError):
    """The result of a cancelled task was asked for.

    Attributes
    ----------
    key
        The key of the task.
    reason : str
        What whoever cancelled it gave as the reason, else what `kind` says.
    msg : str or None
        A sentence with the details, if there is more to say.
    kind : Reason
        Why it was cancelled.
    when : float or None
        When that was, in seconds since the epoch.
    by : str or None
        Who did it: the id of a client, or `scheduler`.
    """

    def __init__(
        self,
        key: object,
        reason: str | None = None,
        msg: str | None = None,
        kind: Reason = Reason.CANCELLED,
        when: float | None = None,
        by: str | None = None,
    ) -> None:
        super().__init__(key, reason, msg, kind, when, by)
        self.key = key
        self.reason = reason or kind.value
        self.msg = msg
        self.kind = kind
        self.when = when
        self.by = by

    @property
    def sentence(self) -> str:
        """What happened, when, by whom and why."""
        return end_sentence(f"{self.key!r} was cancelled", self.kind, self.reason, self.msg, self.when, self.by)

    def __str__(self) -> str:
        if self.reason == Reason.CANCELLED.value:
            text = f"{self.key} was cancelled by {self.by}." if self.by else f"{self.key} was cancelled."
        else:
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


def end_sentence(
    what: str, kind: Reason, reason: str | None, message: str | None, when: float | None, by: str | None
) -> str:
    """One sentence about the end of a task."""
    if by:
        what += f" by {by}"
    if when is not None:
        what += f" at {time.strftime('%H:%M:%S', time.localtime(when))}"
    why = reason or kind.value
    return f"{what}: {why} ({message})" if message else f"{what}: {why}"


class TaskLostError(FastdistError):
    """A task ended without a result and without an exception of its own; the text says what happened and what to do.

    Attributes
    ----------
    key
        The key of the task.
    reason : str
        The value of `kind`.
    message : str
        What happened and what to do.
    kind : Reason
        Why it is lost.
    when : float or None
        When that was noticed, in seconds since the epoch.
    by : str or None
        Who says so.
    """

    def __init__(
        self,
        key: object,
        reason: str,
        message: str = "",
        kind: Reason = Reason.LOST_DATA,
        when: float | None = None,
        by: str | None = None,
    ) -> None:
        super().__init__(key, reason, message, kind, when, by)
        self.key = key
        self.reason = reason
        self.message = message
        self.kind = kind
        self.when = when
        self.by = by

    @property
    def sentence(self) -> str:
        """What happened, when, who says so and why."""
        return end_sentence(f"{self.key!r} was lost", self.kind, self.reason, self.message, self.when, self.by)

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


class WorkerDeath:
    """How one worker ended while it was executing a task.

    Attributes
    ----------
    worker : str
        Its address.
    how : str
        In one clause: "its process ended with exit code 3", "killed by the nanny: it used ...".
    attempt : int or None
        The number of the assignment of the task.
    when : float or None
        Seconds since the epoch.
    exit_code, signal : int or None
        How its process ended, with one or the other.
    out_of_memory : str or None
        What was out of memory, if the system killed the process for that.
    peak_memory, memory_limit : int or None
        Bytes that it took at most, and that it might take.
    stderr : list of str
        The last lines of its error output, 100 at most.
    stack : list of str
        Of a crash: what the interpreter says of it and the stack of the thread, innermost call first.
    executing : list of str
        The keys of all tasks that it was executing.

    What nobody told is None or empty: only a nanny sees how its worker ends.
    """

    #: Last lines of the error output that are part of the text.
    SHOWN_LINES = 5

    def __init__(
        self,
        worker: str,
        how: str,
        attempt: int | None = None,
        when: float | None = None,
        exit_code: int | None = None,
        signal: int | None = None,
        out_of_memory: str | None = None,
        peak_memory: int | None = None,
        memory_limit: int | None = None,
        stderr: list[str] | None = None,
        stack: list[str] | None = None,
        executing: list[str] | None = None,
    ) -> None:
        self.worker = worker
        self.how = how
        self.attempt = attempt
        self.when = when
        self.exit_code = exit_code
        self.signal = signal
        self.out_of_memory = out_of_memory
        self.peak_memory = peak_memory
        self.memory_limit = memory_limit
        self.stderr = list(stderr or ())
        self.stack = list(stack or ())
        self.executing = list(executing or ())

    def __str__(self) -> str:
        text = f"{self.worker}: {self.how}"
        if self.peak_memory is not None:
            text += f"; it took {self.peak_memory >> 20} MiB of memory at most"
        if self.memory_limit:
            text += f", the limit is {self.memory_limit >> 20} MiB"
        others = len(self.executing) - 1
        if others > 0:
            text += f"; {others} other task{'s' if others > 1 else ''} executed there"
        shown = self.stack or self.stderr[-self.SHOWN_LINES :]
        return "\n    ".join([text, *shown])

    def __repr__(self) -> str:
        return f"<WorkerDeath {self.worker}: {self.how}>"


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
    deaths : list of WorkerDeath
        What is known of each death, oldest first.
    """

    def __init__(
        self,
        task: object,
        last_worker: object,
        allowed_failures: int | None,
        message: str = "",
        deaths: list[WorkerDeath] | None = None,
    ) -> None:
        super().__init__(task, last_worker, allowed_failures, message, deaths)
        self.task = task
        self.last_worker = last_worker
        self.allowed_failures = allowed_failures
        self.message = message
        self.deaths = list(deaths or ())

    def __str__(self) -> str:
        text = self.message or (
            f"the task {self.task!r} was executing on {self.allowed_failures} workers that died, the last one at "
            f"{self.last_worker}; look at its memory and at the logs of the workers"
        )
        return "\n".join([text, *(f"  {number}. {death}" for number, death in enumerate(self.deaths, 1))])
