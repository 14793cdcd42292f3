"""The state of a whole cluster in a file, and a reader for it. May import: what the client may."""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgpack

#: Suffix of the file by format.
SUFFIXES = {"msgpack": ".msgpack.gz", "yaml": ".yaml"}


def with_suffix(filename: str, format: str) -> str:
    """The name of the file.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    if format not in SUFFIXES:
        raise ValueError(f"format= can be 'msgpack' or 'yaml', not {format!r}")
    return filename if filename.endswith(SUFFIXES[format]) else filename + SUFFIXES[format]


def without(state: Any, exclude: Collection[str]) -> Any:
    """A state without some attributes, wherever they are."""
    if isinstance(state, dict):
        return {key: without(value, exclude) for key, value in state.items() if key not in exclude}
    return [without(value, exclude) for value in state] if isinstance(state, list | tuple) else state


def write_state(state: Mapping[str, Any], url: str, format: str, storage_options: Mapping[str, Any]) -> None:
    """Write a state to a file; one with `://` in its name through fsspec.

    Raises
    ------
    ImportError
        If fsspec or PyYAML is needed and not installed.
    """
    with _open(url, "wb", storage_options) as file:
        if format == "yaml":
            file.write(_yaml().safe_dump(without(state, ())).encode())
        else:
            file.write(gzip.compress(msgpack.packb(state, default=str), 6))


def load_cluster_dump(url: str, **storage_options: Any) -> dict[str, Any]:
    """The state in a file that `Client.dump_cluster_state` wrote.

    Parameters
    ----------
    url : str
        The name of the file, which ends with `.msgpack.gz` or `.yaml`.
    **storage_options
        For fsspec, of a file elsewhere.

    Raises
    ------
    ValueError
        If the name does not tell the format.
    """
    if not url.endswith(tuple(SUFFIXES.values())):
        raise ValueError(f"a dump has a name that ends with {' or '.join(SUFFIXES.values())}, not {url!r}")
    with _open(url, "rb", storage_options) as file:
        data = file.read()
    if url.endswith(SUFFIXES["yaml"]):
        state = _yaml().safe_load(data)
    else:
        state = msgpack.unpackb(gzip.decompress(data), strict_map_key=False)
    if not isinstance(state, dict):
        raise ValueError(f"{url!r} holds no state of a cluster")
    return state


def _open(url: str, mode: str, storage_options: Mapping[str, Any]) -> IO[bytes]:
    if "://" in url:
        import fsspec

        file: IO[bytes] = fsspec.open(url, mode, **storage_options).open()
        return file
    if storage_options:
        raise ValueError(f"options of a storage make no sense for the local file {url!r}: {sorted(storage_options)}")
    return open(url, mode)


def _yaml() -> Any:
    import yaml

    return yaml


class DumpArtefact(Mapping[str, Any]):
    """A dump of a cluster, as a mapping with a few ways to look into it.

    Parameters
    ----------
    state : dict
        What was dumped.

    Examples
    --------
    >>> dump = DumpArtefact.from_url("dask-cluster-dump.msgpack.gz")  # doctest: +SKIP
    >>> dump.scheduler_tasks_in_state("processing")  # doctest: +SKIP
    """

    def __init__(self, state: dict[str, Any]):
        self.dump = state

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> DumpArtefact:
        """Read a file; see `load_cluster_dump`."""
        return cls(load_cluster_dump(url, **kwargs))

    def __getitem__(self, key: str) -> Any:
        return self.dump[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.dump)

    def __len__(self) -> int:
        return len(self.dump)

    def scheduler_tasks_in_state(self, state: str | None = None) -> list[dict[str, Any]]:
        """The tasks of the scheduler, all or those in one state."""
        return _in_state(self.dump["scheduler"]["tasks"], state)

    def worker_tasks_in_state(self, state: str | None = None) -> list[dict[str, Any]]:
        """The tasks of all workers that answered, all or those in one state."""
        return [task for worker in self._workers().values() for task in _in_state(worker["tasks"], state)]

    def scheduler_story(self, *key_or_stimulus_id: str) -> dict[str, list[tuple[Any, ...]]]:
        """What happened to each of these keys (or in each batch of events) on the scheduler."""
        return _stories(self.dump["scheduler"]["transition_log"], key_or_stimulus_id)

    def worker_story(self, *key_or_stimulus_id: str) -> dict[str, list[tuple[Any, ...]]]:
        """What happened to each of these keys (or in each batch of events) on the workers."""
        log = [row for worker in self._workers().values() for row in worker["log"]]
        return _stories(log, key_or_stimulus_id)

    def missing_workers(self) -> list[str]:
        """The addresses of the workers that the scheduler knew and that did not answer."""
        answered = self._workers()
        return [address for address in self.dump["scheduler"]["workers"] if address not in answered]

    def to_yamls(
        self,
        root_dir: str | Path | None = None,
        worker_expand_keys: Collection[str] = (),
        scheduler_expand_keys: Collection[str] = (),
    ) -> None:
        """Write a folder with a file for the scheduler and one for each worker.

        Parameters
        ----------
        root_dir : path, optional
            The folder; the current one by default.
        worker_expand_keys, scheduler_expand_keys : collection of str
            Parts that get files of their own.
        """
        root = Path.cwd() if root_dir is None else Path(root_dir)
        self._write(root / "scheduler", self.dump["scheduler"], scheduler_expand_keys)
        for address, state in self._workers().items():
            self._write(root / address.replace("://", "-").replace("/", "_"), state, worker_expand_keys)

    @staticmethod
    def _write(folder: Path, state: dict[str, Any], expand: Collection[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for key in expand:
            if key in state:
                (folder / f"{key}.yaml").write_text(_yaml().safe_dump(without(state[key], ())))
        (folder / "general.yaml").write_text(_yaml().safe_dump(without(state, expand)))

    def _workers(self) -> dict[str, dict[str, Any]]:
        return {address: state for address, state in self.dump["workers"].items() if isinstance(state, dict)}


def _in_state(tasks: Mapping[str, dict[str, Any]], state: str | None) -> list[dict[str, Any]]:
    return [task for task in tasks.values() if state is None or task["state"] == state]


def _stories(log: list[Any], wanted: tuple[str, ...]) -> dict[str, list[tuple[Any, ...]]]:
    return {name: [tuple(row) for row in log if name in (row[0], row[4])] for name in wanted}
