"""The calls of Client about metadata: a tree of small values on the scheduler. May import: what the client may."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist.client.lifecycle import Lifecycle, no_default
from fastdist.protocol import results

Path = list[bytes]


class MetadataCalls(Lifecycle):
    """The part of Client that keeps small values on the scheduler."""

    def set_metadata(self, key: Any, value: Any) -> Any:
        """Store a value on the scheduler, where all clients find it.

        Parameters
        ----------
        key : str, bytes, int, float, or list or tuple of them
            The place; a list or tuple is a path from branch to branch.
        value : object
            A value; a dict becomes a branch, whose parts can be had one by one.

        Raises
        ------
        MemoryError
            If the metadata take too much room on the scheduler.

        Examples
        --------
        >>> client.set_metadata(["run", "id"], 7)
        >>> client.get_metadata("run")
        {'id': 7}
        """
        return self.sync(self._set_metadata, _path(key), value)

    async def _set_metadata(self, path: Path, value: Any) -> None:
        self._check_usable()
        await self._started()
        leaves = list(_leaves(value, []))
        await self._connection.call(
            "set-metadata",
            path=path,
            leaves=[leaf for leaf, _ in leaves],
            buffers=[payload for _, payload in leaves],
        )

    def get_metadata(self, keys: Any, default: Any = no_default) -> Any:
        """A value, or a branch as a dict, that `set_metadata` stored.

        Parameters
        ----------
        keys : str, bytes, int, float, or list or tuple of them
            The place, or the path to it; the empty path is the whole tree.
        default : object, optional
            Given if there is nothing.

        Raises
        ------
        KeyError
            If there is nothing at that place, and no default.
        """
        return self.sync(self._get_metadata, keys, default)

    async def _get_metadata(self, keys: Any, default: Any) -> Any:
        self._check_usable()
        await self._started()
        reply = await self._connection.call("get-metadata", path=_path(keys))
        if not reply["found"]:
            if default is no_default:
                raise KeyError(keys)
            return default
        tree: Any = {}
        for leaf, payload in zip(reply["leaves"], reply.buffers, strict=True):
            if not leaf:
                return results.loads([payload])
            branch = tree
            for key in leaf[:-1]:
                branch = branch.setdefault(decode_key(bytes(key)), {})
            branch[decode_key(bytes(leaf[-1]))] = results.loads([payload])
        return tree


def _path(keys: Any) -> Path:
    return [encode_key(key) for key in (keys if isinstance(keys, list | tuple) else (keys,))]


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, bytes]]:
    """(path, payload) of each value in a dict of dicts; what has other keys than tasks have counts as one value."""
    if type(value) is dict and value and all(isinstance(key, str | bytes | int | float | tuple) for key in value):
        for key, item in value.items():
            yield from _leaves(item, [*path, encode_key(key)])
    elif not (type(value) is dict and not value and not path):
        yield path, b"".join(results.dumps(value))
