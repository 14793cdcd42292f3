"""Metadata: a tree of small values that all clients share.

Branches are known here, so that a path leads to a part of what was stored; values are opaque bytes. May import:
`_core`, `rpc`, `config`, `scheduler.extensions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastdist import config
from fastdist._core.keys.canonical import decode_key
from fastdist.rpc.fields import items
from fastdist.rpc.peer import Handler, Peer
from fastdist.scheduler.extensions.extension import Extension

#: Branches on the way to a value.
MAX_DEPTH = 64
#: What a place in the tree takes beside its value, roughly.
PLACE_BYTES = 200

Tree = dict[bytes, Any]
Path = list[bytes]


class Metadata(Extension):
    """Sets and gives values by path."""

    name = "metadata"

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self.tree: Tree = {}
        self._n_bytes = 0

    def client_handlers(self) -> dict[str, Handler]:
        """Operations of clients by name."""
        return {"set-metadata": self.set, "get-metadata": self.get}

    def set(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> None:
        """Put a value, or a whole branch of values, at a path; what was there goes."""
        path = read_path(fields.get("path"))
        leaves = [read_path(each) for each in items(fields, "leaves", (list, tuple))]
        if not path:
            raise ValueError("metadata needs a key")
        if len(leaves) != len(buffers):
            raise ValueError(f"{len(leaves)} paths for {len(buffers)} values")
        new: Any = {}
        for leaf, buffer in zip(leaves, buffers, strict=True):
            if leaf:
                grow(new, leaf[:-1])[leaf[-1]] = bytes(buffer)
            else:
                new = bytes(buffer)
        self.put(path, new)

    def put(self, path: Path, new: Any) -> None:
        """Put a payload, or a tree of payloads, at a path.

        Raises
        ------
        MemoryError
            If all metadata would take too much room.
        """
        old = find(self.tree, path)
        n_bytes = self._n_bytes + weigh(new) + PLACE_BYTES * len(path) - (0 if old is None else weigh(old))
        limit = config.get("scheduler.max-metadata-bytes")
        if n_bytes > limit:
            raise MemoryError(
                f"the metadata would take {n_bytes} bytes on the scheduler, and the setting "
                f"scheduler.max-metadata-bytes allows {limit}"
            )
        self._n_bytes = n_bytes
        grow(self.tree, path[:-1])[path[-1]] = new
        self.write_down([path, new])

    def apply_fact(self, change: Any) -> None:
        """Put what was put."""
        self.put(*change)

    def facts(self) -> Iterator[Any]:
        """One change for each value."""
        for path, value in walk(self.tree, []):
            if path:
                yield [path, value]

    def get(self, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        """What is at a path: whether there is anything, the paths of the values below it, and the values."""
        path = read_path(fields.get("path"))
        found = find(self.tree, path)
        leaves = [] if found is None else list(walk(found, []))
        return {"found": found is not None, "leaves": [leaf for leaf, _ in leaves]}, [value for _, value in leaves]


def read_path(value: Any) -> Path:
    """A path of canonical keys.

    Raises
    ------
    ValueError
        If it is none.
    """
    path = items({"path": value}, "path", bytes, MAX_DEPTH)
    for key in path:
        decode_key(key)
    return path


def find(tree: Any, path: Path) -> Any:
    """The branch or value at a path, or None."""
    for key in path:
        if type(tree) is not dict or key not in tree:
            return None
        tree = tree[key]
    return tree


def grow(tree: Tree, path: Path) -> Tree:
    """The branch at a path, made where there is none."""
    for key in path:
        if type(tree.get(key)) is not dict:
            tree[key] = {}
        tree = tree[key]
    return tree


def weigh(tree: Any) -> int:
    """About how many bytes a branch or value takes."""
    return sum(len(value) + PLACE_BYTES * (1 + len(leaf)) for leaf, value in walk(tree, []))


def walk(tree: Any, path: Path) -> Iterator[tuple[Path, bytes]]:
    """(path, value) of each value in a branch."""
    if type(tree) is not dict:
        yield path, tree
        return
    for key, value in tree.items():
        yield from walk(value, [*path, key])
