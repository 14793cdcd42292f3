"""Why tasks are pending: answers to `why`, and a word to clients whose tasks no worker can run.

May import: `_core`, `config`, `rpc`; `scheduler.membership`, `scheduler.sentences`; of this folder `extension`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Any

from fastdist import config
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.explain import has_unrunnable, situation, unrunnable
from fastdist._core.scheduler.inspect import dependents, find, key_of, wanted_by
from fastdist._core.scheduler.views import STATE_NAMES
from fastdist.errors import CommClosedError, FastdistError
from fastdist.rpc.fields import items
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler import sentences
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import ClientEntry, WorkerEntry
from fastdist.scheduler.options import Placing

Facts = dict[str, Any]

#: Keys in one question.
MAX_KEYS = 1_000
#: Tasks that wait for tasks that wait ... are followed so far.
MAX_DEPTH = 100_000
#: A worker that is asked where a task is has so long to answer.
WORKER_SECONDS = 2.0
#: Tasks that no worker can run and that are watched, and kinds of them of which one client is told.
MAX_WATCHED = 1_000
MAX_TOLD = 1_000
#: How often is looked until a warning is due.
LOOKS = 5
SHORTEST_PAUSE = 0.02


class Explaining(Extension):
    """Says why tasks are pending.

    Parameters
    ----------
    scheduler : Scheduler
    """

    name = "explaining"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._patience: float = config.get("scheduler.unrunnable-warning")
        self._timer: asyncio.TimerHandle | None = None
        #: Since when no worker can run a task, by id.
        self._since: dict[int, float] = {}
        #: What each client was told of.
        self._told: dict[int, set[Any]] = {}

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {"why": self.why}

    def client_gone(self, entry: ClientEntry) -> None:
        """A client has closed."""
        self._told.pop(entry.number, None)

    async def close(self) -> None:
        """The scheduler closes."""
        if self._timer is not None:
            self._timer.cancel()

    # -- questions ---------------------------------------------------------------------------------------------------

    async def why(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """A sentence for each key; None for those that name no task."""
        self.scheduler.client_of(peer)
        keys = items(fields, "keys", bytes, MAX_KEYS)
        found = [find(self.scheduler.core.model, key) for key in keys]
        return {"sentences": [None if id is None else await self.explain(id) for id in found]}

    async def explain(self, id: int) -> str:
        """Why a task is not finished, in one sentence."""
        facts = self._facts(id)
        if facts is None:
            return "the task is gone: nobody wants its result any more"
        if STATE_NAMES[facts["state"]] != "waiting":
            return await self._explain_one(id, facts)
        inputs = [self._key(each) for each in facts["inputs"]]
        root = self._root(facts["inputs"][0])
        other = root if root != facts["inputs"][0] else None
        text = sentences.waiting(
            self._key(id), inputs, facts["n_inputs"], None if other is None else self._key(other)
        )
        at_root = self._facts(root)
        return text if at_root is None else f"{text}; {await self._explain_one(root, at_root)}"

    def _facts(self, id: int) -> Facts | None:
        core = self.scheduler.core
        return situation(core.model, core.queue, core.deaths, id)

    def _key(self, id: int) -> object:
        return key_of(self.scheduler.core.model, id)

    def _root(self, id: int) -> int:
        """What a task waits for in the end, along its first unfinished inputs."""
        for _ in range(MAX_DEPTH):
            facts = self._facts(id)
            if facts is None or STATE_NAMES[facts["state"]] != "waiting" or not facts["inputs"]:
                break
            id = facts["inputs"][0]
        return id

    async def _explain_one(self, id: int, facts: Facts) -> str:
        """A sentence about a task that does not wait for inputs (or is sent ahead of them)."""
        key, state = self._key(id), STATE_NAMES[facts["state"]]
        if state == "processing":
            return await self._explain_processing(id, key, facts)
        if state == "no_worker" and "due" in facts:
            if facts["lost"] is not None:
                return sentences.after_death(key, facts["lost"])
            view = self.scheduler.core.task_view(encode_key(key))
            failures = 0 if view is None else view["attempts"]
            return sentences.tried_again(key, failures, facts["due"] - time.monotonic() + time.time())
        if state in ("ready", "no_worker"):
            return self._explain_ready(key, facts)
        return sentences.ended(key, state)

    def _explain_ready(self, key: object, facts: Facts) -> str:
        workers = list(self.scheduler.members)
        placing: Placing | None = facts.get("described") if "candidates" in facts else None
        if placing is not None:
            if placing.loose and not any(placing.allows(entry.identity()) for entry in workers):
                placing = placing.fallback
            able = [entry for entry in workers if placing.allows(entry.identity())]
            if not able:
                return sentences.nobody_fits(key, placing, workers)
        else:
            able = workers
        if not able:
            return sentences.without_workers(key)
        if not any(entry.takes_work for entry in able):
            return sentences.held_back(key, able)
        return sentences.queued(key, facts.get("before", 0), [entry for entry in able if entry.takes_work])

    async def _explain_processing(self, id: int, key: object, facts: Facts) -> str:
        entry = self.scheduler.members.workers.get(facts["worker"])
        if entry is None:
            return sentences.after_death(key, self.scheduler.core.worker_view(facts["worker"])["address"])
        if facts["ahead"]:
            inputs = [self._key(each) for each in facts["inputs"]]
            text = sentences.sent_ahead(key, entry.address, inputs, facts["n_inputs"])
            root = self._root(facts["inputs"][0])
            at_root = self._facts(root)
            if at_root is None or at_root.get("ahead"):
                return text
            return f"{text}; {await self._explain_one(root, at_root)}"
        there = await self._ask(entry, id)
        if there.get("state") == "executing" or facts["started"]:
            since = there.get("since")
            return sentences.executing(key, entry.address, since, facts["waits"])
        if there.get("state") == "waiting":
            return sentences.fetching(key, entry.address)
        if facts["retracting"]:
            return sentences.taken_back(key, entry.address)
        needs = facts["described"].resources if facts.get("described") else {}
        return sentences.given(key, entry.address, there.get("before"), needs, free=there.get("free", True))

    async def _ask(self, entry: WorkerEntry, id: int) -> Facts:
        """Where a task is in its worker; nothing if the worker does not answer."""
        try:
            reply = await entry.peer.call("situation", timeout=WORKER_SECONDS, task=id)
        except (TimeoutError, asyncio.TimeoutError, OSError, FastdistError):
            # It is as good without: the scheduler knows who has the task.
            return {}
        return dict(reply)

    # -- warnings ----------------------------------------------------------------------------------------------------

    def after_act(self) -> None:
        """Look whether there are tasks that nobody can run, if that is not being looked after already."""
        core = self.scheduler.core
        if self._timer is None and has_unrunnable(core.model, core.queue):
            self._look()

    def _look(self) -> None:
        self._timer = None
        if self.scheduler.closing:
            return
        core, now = self.scheduler.core, time.monotonic()
        ids = unrunnable(core.model, core.queue, MAX_WATCHED)
        self._since = {id: self._since.get(id, now) for id in ids}
        self._tell(id for id, since in self._since.items() if now - since >= self._patience)
        # What is gone stays on the core's list until another worker comes.
        if ids or has_unrunnable(core.model, core.queue):
            pause = max(SHORTEST_PAUSE, self._patience / LOOKS)
            self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _tell(self, ids: Iterable[int]) -> None:
        """Tell the clients that want these tasks, once for each kind."""
        clients = self.scheduler.members.clients
        for id in ids:
            facts = self._facts(id)
            if facts is None:
                continue
            kind = self._kind(facts)
            for number in self._who_waits(id):
                told = self._told.setdefault(number, set())
                if number not in clients or kind in told or len(told) >= MAX_TOLD:
                    continue
                told.add(kind)
                # A connection that has just ended is dealt with where that is noticed.
                with contextlib.suppress(CommClosedError):
                    clients[number].peer.notify("unrunnable", sentence=self._explain_ready(self._key(id), facts))

    def _kind(self, facts: Facts) -> Any:
        """What is the same for tasks that wait for the same."""
        placing = facts.get("described") if "candidates" in facts else None
        if placing is None:
            return None
        return placing.workers, tuple(sorted(placing.resources.items())), placing.loose

    def _who_waits(self, id: int) -> list[int]:
        """Numbers of the clients that want a task, or something that needs it."""
        model, seen, stack = self.scheduler.core.model, {id}, [id]
        wanting: dict[int, None] = {}
        while stack and len(seen) < MAX_WATCHED:
            task = stack.pop()
            wanting.update(dict.fromkeys(wanted_by(model, task)))
            for each in dependents(model, task):
                if each not in seen:
                    seen.add(each)
                    stack.append(each)
        return list(wanting)
