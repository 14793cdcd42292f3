"""Published datasets: values with a name that outlive the client that made them.

A value is opaque bytes here; the tasks of the futures in it are kept as long as it is published. May import: `_core`,
`rpc`, `config`, `scheduler.extensions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastdist import config
from fastdist._core.keys.canonical import decode_key
from fastdist.rpc.fields import flag, items
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension
from fastdist.scheduler.extensions.keeper import Keeper

#: Datasets in one message.
MAX_NAMES = 10_000


@dataclass
class Dataset:
    """One published value."""

    payload: bytes
    ids: list[int]


class Datasets(Extension):
    """Publishes, lists, gives and withdraws datasets by name."""

    name = "publish"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self.datasets: dict[bytes, Dataset] = {}
        self._keeper = Keeper(scheduler, "published")
        self._n_bytes = 0

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {
            "publish-put": self.put,
            "publish-get": self.get,
            "publish-list": self.names,
            "publish-delete": self.delete,
        }

    def put(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Publish all of some datasets, or none: a buffer each, and the keys of the futures in it."""
        names = items(fields, "names", bytes, MAX_NAMES)
        keys = [items({"keys": each}, "keys", bytes) for each in items(fields, "keys", (list, tuple), MAX_NAMES)]
        override = flag(fields, "override", default=False)
        if not len(names) == len(keys) == len(buffers):
            raise ValueError(f"{len(names)} names, {len(keys)} lists of keys and {len(buffers)} values do not match")
        known = [name for name in names if name in self.datasets]
        if known and not override:
            raise KeyError(f"Dataset {show(known[0])} already exists")
        for keys_of_one in keys:
            for key in keys_of_one:
                if self.scheduler.core.task_view(key) is None:
                    raise ValueError(
                        f"the future {show(key)} cannot be published: the scheduler does not know its task, "
                        "because it was released or cancelled"
                    )
        payloads = [bytes(buffer) for buffer in buffers]
        self._check_room(names, payloads)
        for name, keys_of_one, payload in zip(names, keys, payloads, strict=True):
            # First the new wants: what both versions hold must not be dropped in between.
            ids = self._keeper.keep(keys_of_one)
            self._withdraw(name)
            self._put(name, payload, ids)
            self.write_down([name, payload, ids])

    def _put(self, name: bytes, payload: bytes, ids: list[int]) -> None:
        self.datasets[name] = Dataset(payload, ids)
        self._n_bytes += len(payload)

    def apply_fact(self, change: Any) -> None:
        """Publish what was published, or withdraw it; the tasks are kept by the core's own record."""
        name, payload, ids = change
        old = self.datasets.pop(name, None)
        if old is not None:
            self._n_bytes -= len(old.payload)
        if payload is not None:
            self._put(name, payload, ids)

    def facts(self) -> Iterator[Any]:
        """One change for each dataset."""
        for name, dataset in self.datasets.items():
            yield [name, dataset.payload, dataset.ids]

    def _check_room(self, names: list[bytes], payloads: list[bytes]) -> None:
        limit = config.get("scheduler.max-dataset-bytes")
        replaced = sum(len(self.datasets[name].payload) for name in names if name in self.datasets)
        needed = self._n_bytes - replaced + sum(map(len, payloads))
        if needed > limit:
            raise MemoryError(
                f"the datasets would take {needed} bytes on the scheduler, and the setting scheduler.max-dataset-bytes "
                f"allows {limit}; publish futures of large data (client.scatter, client.persist) instead of the data"
            )

    def get(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        """The datasets with these names: whether each is there, and the values of those that are."""
        found = [self.datasets.get(name) for name in items(fields, "names", bytes, MAX_NAMES)]
        return {"found": [each is not None for each in found]}, [each.payload for each in found if each is not None]

    def names(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> dict[str, Any]:
        """The names of all datasets."""
        return {"names": sorted(self.datasets, key=show)}

    def delete(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Withdraw the datasets with these names; names that are not there do not matter."""
        for name in items(fields, "names", bytes, MAX_NAMES):
            if name in self.datasets:
                self._withdraw(name)
                self.write_down([name, None, []])

    def _withdraw(self, name: bytes) -> None:
        dataset = self.datasets.pop(name, None)
        if dataset is not None:
            self._n_bytes -= len(dataset.payload)
            self._keeper.release(dataset.ids)


def show(key: bytes) -> str:
    """A canonical key for people."""
    return str(decode_key(key))
