"""Plugins: classes with hooks that the scheduler, the workers and the nannies call.

The built-in ones are in `builtin_plugins`. May import: the standard library.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Mapping
from typing import Any


class SchedulerPlugin:
    """Hooks of the scheduler; subclass it, override what you need, and register an instance with a client.

    A hook that is not overridden costs nothing. What a hook raises is logged and affects nobody else. Hooks run on the
    event loop of the scheduler: while one computes, nothing is scheduled.

    Attributes
    ----------
    idempotent : bool
        Whether registering a plugin under a name that is taken does nothing; else it takes the other's place.
    name : str
        Optional: the name to register under.

    Examples
    --------
    >>> class Counter(SchedulerPlugin):
    ...     finished = 0
    ...     def transition(self, key, start, finish, *args, stimulus_id, **kwargs):
    ...         self.finished += finish == "memory"
    >>> client.register_plugin(Counter())  # doctest: +SKIP
    """

    idempotent: bool = False

    async def start(self, scheduler: Any) -> None:
        """The plugin is added to a scheduler that runs; if this raises, it is not added."""

    async def before_close(self) -> None:
        """The scheduler is about to close; workers and clients are still there."""

    async def close(self) -> None:
        """The scheduler has closed its connections, or the plugin is removed."""

    def update_graph(
        self,
        scheduler: Any,
        *,
        client: str,
        keys: set[Any],
        tasks: list[Any],
        annotations: dict[str, dict[Any, Any]],
        priority: dict[Any, tuple[Any, ...]],
        stimulus_id: str,
        **kwargs: Any,
    ) -> None:
        """A client submitted tasks; a large graph comes in several parts.

        Parameters
        ----------
        scheduler : Scheduler
        client : str
            The name of the client.
        keys : set
            The keys that the client wants.
        tasks : list
            All keys of this part.
        annotations : dict
            For each annotation the tasks that have it, and its value for them.
        priority : dict
            By key; lower goes first.
        stimulus_id : str
            Names this event.
        """

    def restart(self, scheduler: Any) -> None:
        """The workers are started anew, and all tasks are forgotten."""

    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str, **kwargs: Any) -> None:
        """A task changed its state; called in order, after the batch of changes that it was part of.

        Parameters
        ----------
        key : str, bytes, int, float or tuple
            The task.
        start, finish : str
            `released`, `waiting`, `queued`, `no-worker`, `processing`, `memory`, `erred` or `forgotten`.
        stimulus_id : str
            Names the batch.
        **kwargs
            `worker` (an address) when it goes to or comes from a worker; when it comes into memory `nbytes`, `typename`
            and `startstops`; when it failed `exception_text`, `traceback_text`, and `exception` as
            `fastdist.protocol.failures.load_failure` takes it. `status` is "OK" or "error" then.
        """

    def add_worker(self, scheduler: Any, worker: str) -> Awaitable[None] | None:
        """A worker came, by address."""

    def remove_worker(
        self, scheduler: Any, worker: str, *, stimulus_id: str, **kwargs: Any
    ) -> Awaitable[None] | None:
        """A worker left, expected or not."""

    def add_client(self, scheduler: Any, client: str) -> None:
        """A client came."""

    def remove_client(self, scheduler: Any, client: str) -> None:
        """A client left."""

    def valid_workers_downscaling(self, scheduler: Any, workers: list[Any]) -> list[Any]:
        """Those of the workers that may be closed when there are too many; called before some are chosen."""
        return workers

    def log_event(self, topic: str, msg: Any) -> None:
        """An event was noted."""


class WorkerPlugin:
    """Hooks of each worker; subclass it, override what you need, and register an instance with a client.

    Workers that come later get it too, before their first task. What a hook raises is logged; what `setup` raises on
    the workers that are there is raised by `Client.register_plugin`.

    Examples
    --------
    >>> class Model(WorkerPlugin):
    ...     def setup(self, worker):
    ...         worker.model = {"weights": [1.0, 2.0]}
    >>> client.register_plugin(Model())  # doctest: +SKIP
    """

    idempotent: bool = False

    def setup(self, worker: Any) -> Awaitable[None] | None:
        """The plugin is added to a worker; on its event loop."""

    def teardown(self, worker: Any) -> Awaitable[None] | None:
        """The worker closes, or the plugin is removed."""

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """A task changed its state on this worker; called in order, soon after, on the event loop.

        Parameters
        ----------
        key : str, bytes, int, float or tuple
            The task.
        start, finish : str
            `released`, `waiting`, `ready`, `executing`, `memory`, `error`, `fetch`, `flight` or `forgotten`.
        """


class NannyPlugin:
    """Hooks of each nanny, which supervises the process of a worker.

    Attributes
    ----------
    restart : bool
        Whether to start the worker anew after `setup`.

    Examples
    --------
    >>> class Shared(NannyPlugin):
    ...     restart = True
    ...     def setup(self, nanny):
    ...         nanny.env["OMP_NUM_THREADS"] = "4"
    >>> client.register_plugin(Shared())  # doctest: +SKIP
    """

    idempotent: bool = False
    restart: bool = False

    def setup(self, nanny: Any) -> Awaitable[None] | None:
        """The plugin is added to a nanny."""

    def teardown(self, nanny: Any) -> Awaitable[None] | None:
        """The nanny closes, or the plugin is removed."""


Plugin = SchedulerPlugin | WorkerPlugin | NannyPlugin
KINDS: tuple[type[Any], ...] = (SchedulerPlugin, WorkerPlugin, NannyPlugin)


def check_plugin(plugin: Any) -> None:
    """Raise unless this is an instance of one of the three base classes.

    Raises
    ------
    TypeError
        Saying what it is instead.
    """
    if isinstance(plugin, type):
        raise TypeError(f"register an instance of a plugin, as {plugin.__name__}(), not its class")
    if not isinstance(plugin, KINDS):
        raise TypeError(
            f"a plugin inherits from SchedulerPlugin, WorkerPlugin or NannyPlugin; a {type(plugin).__name__} does not"
        )
    idempotent: Any = getattr(plugin, "idempotent", False)
    if not isinstance(idempotent, bool):
        raise TypeError(f"idempotent of a plugin is True or False, not {idempotent!r}")


def plugin_name(plugin: Any) -> str:
    """The name under which a plugin is registered if none is given: its own, or one that nobody else has."""
    return str(getattr(plugin, "name", None) or f"{type(plugin).__name__}-{uuid.uuid4()}")


def overrides(plugin: Any, hook: str) -> bool:
    """Whether a plugin has a hook of its own."""
    for kind in KINDS:
        if isinstance(plugin, kind):
            return getattr(type(plugin), hook, None) is not getattr(kind, hook, None) or hook in vars(plugin)
    return callable(getattr(plugin, hook, None))


def raise_failures(responses: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise the first error among the answers of workers or nannies to a plugin.

    Parameters
    ----------
    responses : mapping
        By address `{"status": "OK"}`, or `{"status": "error", "exception": ...}`.
    """
    for response in responses.values():
        if response["status"] == "error":
            raise response["exception"]
