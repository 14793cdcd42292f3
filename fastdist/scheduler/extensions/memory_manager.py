"""The active memory manager: from time to time it runs policies that copy results, or drop copies.

What its policy `ReduceReplicas` does is in `_core/scheduler/replicas`; that of dask's `RetireWorker` in `retiring`.
May import: `_core`, config, errors, rpc; of this folder `copying`, `extension`; `scheduler.membership` and `policies`.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fastdist import config
from fastdist._core.keys.canonical import encode_key
from fastdist.rpc.fields import text
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.copying import Held, held_keys, make_copies
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import WorkerEntry
from fastdist.scheduler.policies import ActiveMemoryManagerPolicy, ReduceReplicas, Suggestion

if TYPE_CHECKING:
    from fastdist.scheduler.scheduler import Scheduler

logger = logging.getLogger("fastdist.scheduler")

#: Where dask has the policies of which this library has its own.
OWN_POLICIES = {"distributed.active_memory_manager.ReduceReplicas": ReduceReplicas}
MEASURES = ("process", "optimistic", "managed", "managed_total", "unmanaged", "spilled")
_METHODS = ("start", "stop", "run_once", "running")


class MemoryManager(Extension):
    """Runs its policies every `scheduler.active-memory-manager.interval`.

    Parameters
    ----------
    scheduler : Scheduler
    policies : iterable of ActiveMemoryManagerPolicy, optional
        What it does; by default what the setting `scheduler.active-memory-manager.policies` names.
    measure : str, optional
        Which memory of workers decides among them: an attribute of `MemoryState`.
    register : bool
        Whether it takes the place of the scheduler's own one, and with it the calls of clients.
    start : bool, optional
        Whether it runs from time to time from now on; the setting of that name by default.
    interval : number or str, optional
        How often.
    """

    name = "amm"

    def __init__(
        self,
        scheduler: Scheduler,
        policies: Iterable[ActiveMemoryManagerPolicy] | None = None,
        *,
        measure: str | None = None,
        register: bool = True,
        start: bool | None = None,
        interval: str | float | None = None,
    ) -> None:
        super().__init__(scheduler)
        settings = "scheduler.active-memory-manager"
        self.interval = config.parse_timedelta(config.get(f"{settings}.interval") if interval is None else interval)
        self.measure = config.get(f"{settings}.measure") if measure is None else measure
        if self.measure not in MEASURES:
            raise ValueError(f"measure= is one of {', '.join(MEASURES)}, not {self.measure!r}")
        #: The scheduler with its views of tasks and workers.
        self._views: Any = scheduler
        self.policies: set[ActiveMemoryManagerPolicy] = set()
        for policy in policies_of(config.get(f"{settings}.policies")) if policies is None else policies:
            self.add_policy(policy)
        #: While policies run: task -> workers that get a copy, and workers that drop theirs.
        self.pending: defaultdict[Any, tuple[set[Any], set[Any]]] = defaultdict(_nothing)
        #: While policies run: bytes by worker, with what is pending.
        self.workers_memory: dict[Any, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._copying: set[asyncio.Task[Any]] = set()
        # With the first worker, when there is an event loop.
        self._start_later: bool = config.get(f"{settings}.start") if start is None else start
        before = getattr(scheduler, "extensions", {}).get(self.name) if register else None
        if isinstance(before, MemoryManager):
            before.stop()
            scheduler.extensions[self.name] = self
        if self._start_later and scheduler.members.workers:
            self.start()

    def add_policy(self, policy: ActiveMemoryManagerPolicy) -> None:
        """Run this policy, too, from now on.

        Raises
        ------
        TypeError
            If it is none.
        """
        if not isinstance(policy, ActiveMemoryManagerPolicy):
            raise TypeError(f"a policy is an object of a subclass of ActiveMemoryManagerPolicy, not {policy!r}")
        self.policies.add(policy)
        policy.manager = self

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {"memory-manager": self._asked}

    def _asked(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        # Another one may have been registered meanwhile.
        manager = self.scheduler.extensions[self.name]
        assert isinstance(manager, MemoryManager)
        return manager.call(peer, fields, buffers)

    def worker_came(self, entry: WorkerEntry) -> None:
        """The first worker starts it, unless the settings say otherwise."""
        if self._start_later:
            self.start()

    async def close(self) -> None:
        """The scheduler closes."""
        self.stop()
        for task in self._copying:
            task.cancel()

    def call(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Handler of `memory-manager`: call a method."""
        self.scheduler.client_of(peer)
        method = text(fields, "method", 100)
        if method not in _METHODS:
            raise ValueError(f"the memory manager has no method {method!r}; it has {', '.join(_METHODS)}")
        if method == "running":
            return {"result": self.running}
        getattr(self, method)()
        return {"result": None}

    @property
    def running(self) -> bool:
        """Whether it runs from time to time."""
        return self._timer is not None

    def start(self) -> None:
        """Run from now on; nothing if it does already."""
        self._start_later = False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.interval, self._run)

    def stop(self) -> None:
        """Run only when it is asked to."""
        self._start_later = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def run_once(self) -> None:
        """Run all policies now, and have done what they suggest."""
        self.pending.clear()
        own = [policy for policy in self.policies if getattr(policy, "in_core", False)]
        if len(own) < len(self.policies):
            views = self._views.workers.values()
            self.workers_memory = {worker: getattr(worker.memory, self.measure) for worker in views}
            for policy in self.policies - set(own):
                self._run_policy(policy)
            self._carry_out()
            self.workers_memory = {}
        if own:
            self._note_dropped(self.scheduler.core.on_reduce_copies())

    def _run_policy(self, policy: ActiveMemoryManagerPolicy) -> None:
        logger.debug("running policy: %s", policy)
        suggestions = policy.run()
        chosen: Any = None
        try:
            while True:
                wanted = Suggestion(*suggestions.send(chosen))
                if wanted.op == "replicate":
                    chosen = self._find_recipient(wanted.ts, wanted.candidates)
                elif wanted.op == "drop":
                    chosen = self._find_dropper(wanted.ts, wanted.candidates)
                else:
                    raise ValueError(f"a policy suggests 'replicate' or 'drop', not {wanted.op!r}")
        except StopIteration:
            return
        except Exception:
            # The other policies are not to suffer.
            logger.exception("the policy %s of the memory manager failed", policy)

    def _find_recipient(self, task: Any, candidates: Iterable[Any] | None) -> Any:
        """The worker that gets a copy: the one with the least memory in use."""
        if task.state != "memory" or task.actor:
            return None
        coming, _ = self.pending[task]
        running = self._views.running
        able = running if candidates is None else running & set(candidates)
        able = able - task.who_has - coming
        if not able:
            return None
        chosen = min(able, key=lambda worker: (self.workers_memory[worker], worker.address))
        coming.add(chosen)
        self.workers_memory[chosen] += task.nbytes
        return chosen

    def _find_dropper(self, task: Any, candidates: Iterable[Any] | None) -> Any:
        """The worker that drops its copy: one that takes no tasks, or that with the most memory in use."""
        if task.state != "memory" or task.actor:
            return None
        coming, going = self.pending[task]
        left = task.who_has - going
        if len(left | coming) < 2:
            return None
        able = left if candidates is None else left & set(candidates)
        # Those that are about to read it keep it.
        able = able - {waiter.processing_on for waiter in task.waiters}
        if not able:
            return None
        running = self._views.running
        chosen = max(able, key=lambda worker: (worker not in running, self.workers_memory[worker], worker.address))
        going.add(chosen)
        self.workers_memory[chosen] = max(0, self.workers_memory[chosen] - task.nbytes)
        return chosen

    def _carry_out(self) -> None:
        """Have the copies made and dropped that the policies settled on; nothing is dropped before it is copied."""
        plan: dict[int, list[Held]] = {}
        drops: list[tuple[int, int]] = []
        for task, (coming, going) in self.pending.items():
            found, _ = held_keys(self.scheduler, [encode_key(task.key)])
            for row in found:
                for worker in coming:
                    plan.setdefault(worker._entry.number, []).append(row)
                drops += [(worker._entry.number, row.task_id) for worker in going]
        self.pending.clear()
        if not plan:
            self._drop(drops)
            return
        copying = asyncio.get_running_loop().create_task(self._copy(plan, drops))
        self._copying.add(copying)
        copying.add_done_callback(self._copying.discard)

    async def _copy(self, plan: dict[int, list[Held]], drops: list[tuple[int, int]]) -> None:
        await make_copies(self.scheduler, plan)
        self._drop(drops)

    def _drop(self, drops: list[tuple[int, int]]) -> None:
        """Have workers (by number) drop their copies of tasks, where another one is left."""
        by_worker: dict[int, list[int]] = {}
        for number, id in drops:
            by_worker.setdefault(number, []).append(id)
        members = self.scheduler.members.workers
        core = self.scheduler.core
        self._note_dropped(
            sum(core.on_drop_copies(number, ids) for number, ids in by_worker.items() if number in members)
        )

    def _note_dropped(self, count: int) -> None:
        if count:
            logger.debug("the memory manager dropped %d copies", count)
            self.scheduler.wake()

    def _run(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.interval, self._run)
        self.run_once()


def _nothing() -> tuple[set[Any], set[Any]]:
    return set(), set()


def policies_of(described: list[Mapping[str, Any]]) -> list[ActiveMemoryManagerPolicy]:
    """The policies that a setting asks for: `{"class": "module.Class", ...}`, with the arguments of the class.

    Raises
    ------
    ValueError
        If one of them has no class.
    ImportError
        If there is none of that name.
    """
    policies: list[ActiveMemoryManagerPolicy] = []
    for each in described:
        arguments = dict(each)
        path = str(arguments.pop("class", ""))
        module, _, name = path.rpartition(".")
        if not module:
            raise ValueError(f"a policy of scheduler.active-memory-manager.policies needs a 'class': {dict(each)!r}")
        kind: Any = OWN_POLICIES.get(path)
        if kind is None:
            try:
                kind = getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError) as error:
                raise ImportError(f"there is no policy {path!r} for the memory manager: {error}") from error
        policies.append(kind(**arguments))
    return policies
