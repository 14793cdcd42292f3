"""Questions about the cluster that need a look at the records or at the workers.

May import: `_core`, `rpc`, `versions`, `scheduler.options`, `scheduler.extensions`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Any

from fastdist._core.keys.canonical import decode_key, encode_key, prefix_of
from fastdist.errors import CommClosedError
from fastdist.rpc.fields import flag, items
from fastdist.rpc.peer import Handler, Peer, Reply
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.membership import ClientEntry, WorkerEntry
from fastdist.versions import get_versions

#: How long a worker has for its answer; one that is stuck must not hold the answers of the others back.
WORKER_SECONDS = 10.0
#: Workers that come together are told of together.
TELL_PAUSE = 0.05
#: Names of packages in one question.
MAX_PACKAGES = 1_000


class Information(Extension):
    """Answers what is where, how large it is, what executes, and who runs which software."""

    name = "information"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._tell: asyncio.TimerHandle | None = None

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {
            "nbytes": self.nbytes,
            "versions": self.versions,
            "call-stack": self.call_stack,
            "story": self.story,
            "dump-state": self.dump_state,
            "check-idle": self.check_idle,
        }

    def check_idle(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Monotonic time of the scheduler since when no task is on its way; None if there are some."""
        self.scheduler.client_of(peer)
        return {"check_idle": self.scheduler.check_idle()}

    # -- who is there ------------------------------------------------------------------------------------------------

    def worker_came(self, entry: WorkerEntry) -> None:
        """A worker has registered."""
        self._tell_soon()

    def worker_gone(self, entry: WorkerEntry, why: str) -> None:
        """A worker has left."""
        self._tell_soon()

    def client_came(self, entry: ClientEntry) -> None:
        """A client has registered."""
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._tell is None and not self.scheduler.closing:
            self._tell = asyncio.get_running_loop().call_later(TELL_PAUSE, self._tell_clients)

    def _tell_clients(self) -> None:
        self._tell = None
        if self.scheduler.closing:
            return
        info = self.scheduler.identity(n_workers=0)
        for client in list(self.scheduler.members.clients.values()):
            # One that is gone is dealt with where its connection ends.
            with contextlib.suppress(CommClosedError):
                client.peer.notify("scheduler-info", info=info)

    async def close(self) -> None:
        """The scheduler closes."""
        if self._tell is not None:
            self._tell.cancel()

    # -- what is where -----------------------------------------------------------------------------------------------

    def nbytes(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Bytes of results by key, or by prefix of keys; of these keys, or of all that are in memory."""
        core = self.scheduler.core
        keys = fields.get("keys")
        views = core.tasks() if keys is None else [core.task_view(key) for key in items(fields, "keys", bytes)]
        sizes = {encode_key(view["key"]): view["nbytes"] for view in views if view and view["state"] == "memory"}
        if not flag(fields, "summary", default=True):
            return {"nbytes": list(sizes.items())}
        by_prefix: dict[str, int] = {}
        for key, size in sizes.items():
            by_prefix[prefix_of(key)] = by_prefix.get(prefix_of(key), 0) + size
        return {"nbytes": list(by_prefix.items())}

    # -- what the workers know ---------------------------------------------------------------------------------------

    async def ask(
        self, entries: Iterable[WorkerEntry], op: str, timeout: float = WORKER_SECONDS, **fields: Any
    ) -> dict[str, Reply | str]:
        """What each worker answers, by address; a text for one that does not."""
        asked = list(entries)
        answers = await asyncio.gather(
            *(entry.peer.call(op, timeout=timeout, **dict(fields)) for entry in asked), return_exceptions=True
        )
        return {
            entry.address: f"{type(answer).__name__}: {answer}" if isinstance(answer, BaseException) else answer
            for entry, answer in zip(asked, answers, strict=True)
        }

    async def versions(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """The software of this process and of the workers; a worker that does not answer is left out."""
        packages = items(fields, "packages", str, MAX_PACKAGES, default=[])
        answers = await self.ask(self.scheduler.members, "versions", packages=packages)
        return {
            "scheduler": get_versions(packages),
            "workers": {
                address: answer["versions"] for address, answer in answers.items() if not isinstance(answer, str)
            },
        }

    async def call_stack(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """Where the threads of the workers are: (address, key, frames) of what executes, of these keys or of all."""
        if fields.get("keys") is None:
            answers = await self.ask(self.scheduler.members, "call-stack")
        else:
            wanted = self._processing_on(items(fields, "keys", bytes))
            by_address = self.scheduler.members.by_address
            parts = [
                self.ask([by_address[address]], "call-stack", keys=keys)
                for address, keys in wanted.items()
                if address in by_address
            ]
            answers = {}
            for answer in await asyncio.gather(*parts):
                answers.update(answer)
        return {
            "stacks": [
                [address, [list(row) for row in answer["stacks"]]]
                for address, answer in answers.items()
                if not isinstance(answer, str) and answer["stacks"]
            ]
        }

    def _processing_on(self, keys: list[bytes]) -> dict[str, list[bytes]]:
        """The workers that execute these tasks, or what these tasks wait for."""
        found: dict[str, list[bytes]] = {}
        seen: set[bytes] = set()
        stack = list(keys)
        while stack:
            key = stack.pop()
            view = None if key in seen else self.scheduler.core.task_view(key)
            seen.add(key)
            if view is None:
                continue
            if view["processing_on"] is not None:
                found.setdefault(view["processing_on"], []).append(key)
            # What is sent ahead waits on its worker.
            if view["waiting_on"]:
                stack += [encode_key(dependency) for dependency in view["dependencies"]]
        return found

    async def story(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """What happened to tasks, here and on the workers, as far as it is remembered."""
        keys = items(fields, "keys", bytes, 10_000)
        names = items(fields, "stimuli", str, 10_000, default=[])
        here = [list(row) for row in self.scheduler.core.story(keys, names)]
        tasks = self.scheduler.core.story_ids(keys)
        answers = await self.ask(self.scheduler.members, "story", tasks=tasks)
        failed = {address: answer for address, answer in answers.items() if isinstance(answer, str)}
        there = [[address, answer["story"]] for address, answer in answers.items() if not isinstance(answer, str)]
        return {"scheduler": here, "workers": there, "failed": failed}

    # -- everything --------------------------------------------------------------------------------------------------

    async def dump_state(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """All that is known, in plain values: for looking at it afterwards."""
        answers = await self.ask(self.scheduler.members, "dump-state", timeout=3 * WORKER_SECONDS)
        return {
            "scheduler": self.scheduler_state(),
            "workers": {
                address: answer if isinstance(answer, str) else answer["state"] for address, answer in answers.items()
            },
        }

    def scheduler_state(self) -> dict[str, Any]:
        """The state of this scheduler, keys as text."""
        core = self.scheduler.core
        tasks = {}
        for view in core.tasks():
            key = str(view["key"])
            plain = {name: value for name, value in view.items() if name != "id"}
            tasks[key] = {**plain, "key": key, "dependencies": [str(each) for each in view["dependencies"]]}
        return {
            **self.scheduler.identity(),
            "status": self.scheduler.status.name,
            "time": time.time(),
            "counts": core.counts(),
            "tasks": tasks,
            "load": {entry.address: dict(core.worker_view(entry.number)) for entry in self.scheduler.members},
            "clients": {
                entry.name: {"last_seen": entry.last_seen, "versions": entry.versions}
                for entry in self.scheduler.members.clients.values()
            },
            "transition_log": [[str(decode_key(row[0])), *row[1:]] for row in core.story(None, [])],
            "extensions": sorted(self.scheduler.extensions),
        }
