"""Wishes of the scheduler's plugins: `scheduler.client_desires_keys(keys, client="a name of one's own")`.

May import: `_core`, `scheduler`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastdist._core.keys.canonical import encode_key
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.extensions.keeper import Keeper


class Keepers(Extension):
    """Wants tasks in the name of clients that exist in the scheduler only."""

    name = "keepers"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._keepers: dict[str, Keeper] = {}
        #: The core's id of what each of them wants, by key.
        self._wanted: dict[str, dict[bytes, int]] = {}

    def desire(self, keys: Iterable[Any], client: str) -> None:
        """Keep the results of tasks for a client of this name.

        Raises
        ------
        KeyError
            If there are no such tasks; those that there are, are kept.
        ValueError
            If it is the name of a connected client.
        """
        self._refuse_connected(client)
        keeper = self._keepers.setdefault(client, Keeper(self.scheduler, client))
        wanted = self._wanted.setdefault(client, {})
        new = {encode_key(key): key for key in keys}
        new = {data: key for data, key in new.items() if data not in wanted}
        ids = dict(zip(new, keeper.keep(list(new)), strict=True))
        wanted.update((data, id) for data, id in ids.items() if id)
        unknown = [key for data, key in new.items() if not ids[data]]
        if unknown:
            raise KeyError(f"there are no tasks with these keys: {unknown}")

    def release(self, keys: Iterable[Any], client: str) -> None:
        """Undo `desire` for some keys; those that were not wanted are left out."""
        self._refuse_connected(client)
        wanted = self._wanted.get(client, {})
        ids = [wanted.pop(data) for data in map(encode_key, keys) if data in wanted]
        if ids:
            self._keepers[client].release(ids)

    def _refuse_connected(self, client: str) -> None:
        if any(entry.name == client for entry in self.scheduler.members.clients.values()):
            raise ValueError(f"the client {client!r} is connected and says itself what it wants; take another name")

    def restarted(self) -> None:
        """Everything was cancelled."""
        self._wanted.clear()
