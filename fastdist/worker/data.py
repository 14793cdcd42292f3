"""The data of a worker as a mapping from key to value.

May import: `fastdist._core`, and the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist._core.worker.core import WorkerCore
from fastdist._core.worker.inspect import held
from fastdist.worker.store import Store


class DataView(Mapping[Any, Any]):
    """Key -> value of all results and scattered values in this worker.

    A look walks over all of them: this is for people and tests. Copies of other workers' results that were
    fetched as inputs have no key here and are left out.
    """

    def __init__(self, core: WorkerCore, store: Store) -> None:
        self._core = core
        self._store = store

    def _ids(self) -> dict[bytes, int]:
        return {key: task_id for task_id, key, _ in held(self._core) if key}

    def __getitem__(self, key: Any) -> Any:
        task_id = self._ids().get(encode_key(key))
        if task_id is None:
            raise KeyError(key)
        return self._store.get(task_id)

    def __iter__(self) -> Iterator[Any]:
        return iter([decode_key(key) for key in self._ids()])

    def __len__(self) -> int:
        return len(self._ids())

    def __repr__(self) -> str:
        return f"<DataView: {len(self)} keys>"
