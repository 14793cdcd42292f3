"""Why tasks are pending, asked by hand or told by the scheduler. May import: what the client may."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastdist._core.keys.canonical import encode_key
from fastdist.client.future import Future
from fastdist.client.lifecycle import Lifecycle
from fastdist.rpc.fields import text
from fastdist.rpc.peer import Peer

logger = logging.getLogger("fastdist.client")


class WhyCalls(Lifecycle):
    """The part of Client that explains what has not ended."""

    def _make_parts(self) -> None:
        super()._make_parts()
        self._connection.handlers["unrunnable"] = on_unrunnable
        self._connection.handlers["versions-differ"] = on_versions_differ

    def why(self, key: Any) -> Any:
        """Why a task is not finished, in one sentence.

        Parameters
        ----------
        key : Future or key
            The task, of this client or of others.

        Returns
        -------
        str
            What it waits for, or what became of it. With an asynchronous client: an awaitable of it.

        Examples
        --------
        >>> client.why(client.submit(train, resources={"GPU": 1}))  # doctest: +SKIP
        "'train-1f0c' needs GPU=1, and there is none: the workers are: tcp://10.0.0.7:4021 (name 0, no resources)"
        """
        return self.sync(self._why, key)

    def _why_of(self, future: Future) -> Any:
        return self.sync(self._why, future)

    async def _why(self, key: Any) -> str:
        self._check_fork()
        if isinstance(key, Future):
            if key.done():
                return self._how_it_ended(key)
            key = key.key
        # The client's own tasks may still be on their way.
        sentences: Sequence[str | None] = (await self._connection.call("why", keys=[encode_key(key)]))["sentences"]
        return sentences[0] or f"the scheduler knows no task {key!r}"

    def _how_it_ended(self, future: Future) -> str:
        if future.status == "finished":
            return f"{future.key!r} is finished"
        error = self._outcomes.error_of(future)
        if future.status == "error":
            return f"{future.key!r} has failed: {type(error).__name__}: {error}"
        return str(error)


def on_unrunnable(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
    """Warn that a task cannot run as things are; a worker may come, so it is left pending."""
    logger.warning("%s", text(fields, "sentence", 1 << 16))


def on_versions_differ(peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
    """Warn that a worker runs other versions of what functions and values travel in."""
    logger.warning(
        "the worker at %s runs other versions than this client, so that functions and results may fail to load: %s",
        text(fields, "address", 1024),
        text(fields, "differences", 1 << 16),
    )
