"""How dask finds fastdist: the current client is dask's default scheduler.

dask is never imported here. If it has been imported, its settings are changed at once; if not, as soon as it
is. May import: `fastdist.late_imports`; `fastdist.client.current` when dask asks.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from fastdist.late_imports import after_import

#: What dask is told while there is a client, unless the user has chosen something else. Without the shuffle
#: methods, dask would shuffle through the local disk, which workers of other machines do not see.
SUGGESTIONS = {"dataframe.shuffle.method": "tasks", "array.rechunk.method": "tasks"}

_MISSING: Any = object()


def _find_client() -> Any:
    from fastdist.client.current import find_client

    return find_client()


class CurrentClient:
    """Stands for the client that is current when dask asks; dask knows a scheduler by this class name.

    Without a client, dask's threads compute.
    """

    @property
    def asynchronous(self) -> bool:
        """Whether the current client has to be awaited."""
        client = _find_client()
        return client is not None and bool(client.asynchronous)

    @property
    def get(self) -> Callable[..., Any]:
        """`get` of the current client."""
        client = _find_client()
        if client is None:
            from dask import threaded

            client = threaded
        get: Callable[..., Any] = client.get
        return get

    def __repr__(self) -> str:
        return f"<the current fastdist client: {_find_client()!r}>"


class Registration:
    """What was changed in the settings of dask, and how to change it back.

    Registrations are counted: the first one changes the settings, the last one that goes restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._count = 0
        self._scheduler = CurrentClient()
        self._previous: Any = _MISSING
        self._suggested: list[str] = []
        self._is_applied = False

    def add(self) -> None:
        """One more reason for dask to use the current client."""
        with self._lock:
            self._count += 1
            if self._count > 1:
                return
            after_import("dask.config", self._on_import)

    def remove(self) -> None:
        """One reason less."""
        with self._lock:
            self._count -= 1
            if self._count == 0 and self._is_applied:
                self._restore(sys.modules["dask.config"])

    def _on_import(self, module: ModuleType) -> None:
        with self._lock:
            if self._count and not self._is_applied:
                self._apply(module)

    def _apply(self, module: Any) -> None:
        self._is_applied = True
        with module.config_lock:
            self._previous = module.config.get("scheduler", _MISSING)
            module.config["scheduler"] = self._scheduler
        self._suggested = [name for name in SUGGESTIONS if module.get(name, None) is None]
        module.set({name: SUGGESTIONS[name] for name in self._suggested})

    def _restore(self, module: Any) -> None:
        self._is_applied = False
        with module.config_lock:
            # What the user has set since then stays.
            if module.config.get("scheduler") is self._scheduler:
                if self._previous is _MISSING:
                    del module.config["scheduler"]
                else:
                    module.config["scheduler"] = self._previous
        self._previous = _MISSING
        module.set({name: None for name in self._suggested if module.get(name, None) == SUGGESTIONS[name]})


registration = Registration()


def serve_tasks(module: ModuleType) -> None:
    """Have what tasks of this process compute with dask run on the cluster, through their worker's client."""
    registration.add()
