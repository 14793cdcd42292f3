"""What a scheduler remembers, under the names of dask's Scheduler: transitions, metadata, events, wishes of clients.

The part of `SchedulerAttributes` that plugins and `run_on_scheduler` read and write. May import: every layer below.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist.compat.scheduler_tasks import TaskState
from fastdist.protocol import results

if TYPE_CHECKING:
    from fastdist.scheduler.extensions.events import Events
    from fastdist.scheduler.extensions.information import Information
    from fastdist.scheduler.extensions.keepers import Keepers
    from fastdist.scheduler.extensions.metadata import Metadata
    from fastdist.scheduler.membership import ClientEntry
    from fastdist.scheduler.scheduler import Scheduler

_MISSING: Any = object()


class Transition(NamedTuple):
    """A task went from one state to another."""

    key: Any
    start: str
    finish: str
    recommendations: dict[Any, str]
    stimulus_id: str
    timestamp: float


class SchedulerRecords:
    """The part of the further attributes of a scheduler that tells what was, and what was said."""

    _scheduler: Scheduler

    # -- what happened ---------------------------------------------------------------------------------------

    @property
    def transition_log(self) -> deque[Transition]:
        """The transitions of the tasks that still exist, as far as they are remembered, oldest first."""
        return deque(_transition(row) for row in self._scheduler.core.story(None, []))

    def story(self, *keys_or_tasks_or_stimuli: Any) -> list[Transition]:
        """The transitions of some tasks, or of the batches of events with these names."""
        asked = [getattr(each, "key", each) for each in keys_or_tasks_or_stimuli]
        names = [each for each in asked if isinstance(each, str)]
        return [_transition(row) for row in self._scheduler.core.story([encode_key(key) for key in asked], names)]

    async def get_cluster_state(self, exclude: Iterable[str] = ()) -> dict[str, Any]:
        """All that the scheduler and its workers know, in plain values, as `Client.dump_cluster_state` writes it."""
        from fastdist.client.cluster_dump import without
        from fastdist.versions import get_versions

        information = cast("Information", self._scheduler.extensions["information"])
        state = await information.dump_state(cast(Any, None), {}, [])
        workers = {entry.address: entry.versions for entry in self._scheduler.members}
        versions = {"scheduler": get_versions(), "workers": workers}
        return dict(without({**state, "versions": versions}, tuple(exclude)))

    # -- metadata --------------------------------------------------------------------------------------------

    @property
    def _metadata(self) -> Metadata:
        return cast("Metadata", self._scheduler.extensions["metadata"])

    @property
    def task_metadata(self) -> dict[Any, Any]:
        """The metadata that clients set, as they are now."""
        return cast("dict[Any, Any]", self.get_metadata([], {}))

    def get_metadata(self, keys: Any, default: Any = _MISSING) -> Any:
        """The metadata at a path.

        Raises
        ------
        KeyError
            If there is nothing, and no default.
        """
        found: Any = self._metadata.tree
        for key in _path(keys):
            found = found.get(key) if type(found) is dict else None
            if found is None:
                if default is _MISSING:
                    raise KeyError(keys)
                return default
        return _loaded(found)

    def set_metadata(self, keys: Any, value: Any) -> None:
        """Set the metadata at a path; a dict becomes a branch."""
        path = _path(keys)
        if not path:
            raise ValueError("metadata needs a key")
        self._metadata.put(path, _dumped(value))

    # -- events ----------------------------------------------------------------------------------------------

    def subscribe_topic(self, topic: str, client: str) -> None:
        """Send a client the events of a topic from now on."""
        cast("Events", self._scheduler.extensions["events"]).follow(topic, self._client_entry(client))

    def unsubscribe_topic(self, topic: str, client: str) -> None:
        """Send them no more."""
        cast("Events", self._scheduler.extensions["events"]).unfollow(topic, self._client_entry(client))

    def _client_entry(self, client: str) -> ClientEntry:
        for entry in self._scheduler.members.clients.values():
            if entry.name == client:
                return entry
        known = ", ".join(entry.name for entry in self._scheduler.members.clients.values()) or "none"
        raise KeyError(f"there is no client {client!r}; the clients are: {known}")

    # -- what clients want -----------------------------------------------------------------------------------

    def client_desires_keys(self, keys: Iterable[Any], client: str) -> None:
        """Keep the results of these tasks for a client that exists in the scheduler only, by a name of one's own."""
        cast("Keepers", self._scheduler.extensions["keepers"]).desire(keys, client)

    def client_releases_keys(self, keys: Iterable[Any], client: str, stimulus_id: str | None = None) -> None:
        """Undo `client_desires_keys`."""
        cast("Keepers", self._scheduler.extensions["keepers"]).release(keys, client)

    # -- choosing workers ------------------------------------------------------------------------------------

    def valid_workers(self, ts: TaskState) -> set[Any] | None:
        """The workers that a task may run on; None if that is any."""
        from fastdist.compat.scheduler_members import WorkerState

        placing = ts.placing
        if placing is None or not placing.restricts:
            return None
        numbers = self._scheduler.members.candidates(placing)
        return {WorkerState(self._scheduler, self._scheduler.members.workers[number]) for number in numbers}

    def get_comm_cost(self, ts: TaskState, ws: Any) -> float:
        """Seconds that moving the inputs of a task to a worker takes."""
        here = ws.has_what
        missing = sum(each.get_nbytes() for each in ts.dependencies if each not in here)
        return float(missing / self._scheduler._core_settings["bandwidth"])

    def worker_objective(self, ts: TaskState, ws: Any) -> tuple[float, ...]:
        """What makes a worker a good place for a task: lower is better."""
        start_time = ws.occupancy / ws.nthreads + self.get_comm_cost(ts, ws)
        return (len(ws.actors), start_time, ws.nbytes) if ts.actor else (start_time, ws.nbytes)


def _transition(row: tuple[Any, ...]) -> Transition:
    key, *rest = row
    return Transition(decode_key(key), *rest)


def _path(keys: Any) -> list[bytes]:
    return [encode_key(key) for key in (keys if isinstance(keys, list | tuple) else (keys,))]


def _loaded(tree: Any) -> Any:
    if type(tree) is not dict:
        return results.loads([tree])
    return {decode_key(key): _loaded(part) for key, part in tree.items()}


def _dumped(value: Any) -> Any:
    """The tree of payloads of a value; what has other keys than tasks have counts as one value."""
    if type(value) is dict and value:
        try:
            return {encode_key(key): _dumped(part) for key, part in value.items()}
        except TypeError:
            pass
    return b"".join(results.dumps(value))
