"""The calls of Client about repeated attempts. May import: what the client may."""

from __future__ import annotations

from typing import Any

from fastdist.client.future import Future
from fastdist.client.lifecycle import Lifecycle


class RetryCalls(Lifecycle):
    """The part of Client that serves `Future.attempts`."""

    def _attempts_of(self, future: Future) -> Any:
        self._check_usable()
        return self.sync(self._attempts, future)

    async def _attempts(self, future: Future) -> int:
        await self._started()
        reply = await self._connection.call("attempts", ids=[future.id])
        return reply["attempts"][0] or 0
