"""The calls of Client about published datasets. May import: what the client may."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist.client.containers import find_futures
from fastdist.client.current import _current_client
from fastdist.client.lifecycle import Lifecycle, no_default
from fastdist.protocol import results

if TYPE_CHECKING:
    from fastdist.client.client import Client


class DatasetCalls(Lifecycle):
    """The part of Client that shares values with other clients by name."""

    @property
    def datasets(self) -> Datasets:
        """The published datasets as a mapping: get, set and delete items, iterate over names."""
        return Datasets(self)

    def publish_dataset(self, *args: Any, name: Any = None, override: bool = False, **kwargs: Any) -> Any:
        """Give values names by which all clients of the cluster find them, also after this one is closed.

        Parameters
        ----------
        *args : object
            One value whose name is `name`, or one mapping of names to values.
        name : str, bytes, int, float or tuple, optional
            The name of the value.
        override : bool
            Whether datasets that exist already are replaced.
        **kwargs
            Values by name.

        Raises
        ------
        KeyError
            If there is a dataset of that name and `override` is false.
        ValueError
            If the arguments contradict each other, or a future is not known to the scheduler any more.
        MemoryError
            If the values take too much room on the scheduler; publish futures of large data instead.

        Examples
        --------
        >>> client.publish_dataset(squares=client.map(pow, range(10), [2] * 10))
        >>> client.gather(client.get_dataset("squares"))[-1]
        81
        """
        values = _values_by_name(args, name, kwargs)
        return self.sync(self._publish, values, override)

    async def _publish(self, values: Mapping[Any, Any], override: bool) -> None:
        self._check_usable()
        await self._started()
        names, keys, payloads = [], [], []
        # The futures stay until the scheduler has noted that the datasets hold them.
        held = []
        for name, value in values.items():
            futures = find_futures(value)
            held.append(futures)
            names.append(encode_key(name))
            keys.append([future.key_bytes for future in futures])
            payloads.append(b"".join(results.dumps(value)))
        await self._connection.call("publish-put", names=names, keys=keys, override=bool(override), buffers=payloads)
        del held

    def get_dataset(self, name: Any, default: Any = no_default, **kwargs: Any) -> Any:
        """A published value; of a list of names, a list of values.

        Parameters
        ----------
        name : str, bytes, int, float, tuple, or list of them
            The name.
        default : object, optional
            Given for names that do not exist.

        Raises
        ------
        KeyError
            If there is no dataset of that name, and no default.
        """
        return self.sync(self._get_dataset, name, default, **kwargs)

    async def _get_dataset(self, name: Any, default: Any) -> Any:
        self._check_usable()
        await self._started()
        names = name if isinstance(name, list) else [name]
        reply = await self._connection.call("publish-get", names=[encode_key(each) for each in names])
        payloads = iter(reply.buffers)
        values = []
        for each, found in zip(names, reply["found"], strict=True):
            if found:
                values.append(self._load_here([next(payloads)]))
            elif default is no_default:
                raise KeyError(f"Dataset {each!r} not found")
            else:
                values.append(default)
        return values if isinstance(name, list) else values[0]

    def _load_here(self, buffers: list[Any]) -> Any:
        """The value of a payload; futures in it belong to this client."""
        token = _current_client.set(self)
        try:
            return results.loads(buffers)
        finally:
            _current_client.reset(token)

    def list_datasets(self, **kwargs: Any) -> Any:
        """The names of all published datasets, as a tuple."""
        return self.sync(self._list_datasets, **kwargs)

    async def _list_datasets(self) -> tuple[Any, ...]:
        self._check_usable()
        await self._started()
        reply = await self._connection.call("publish-list")
        return tuple(decode_key(bytes(name)) for name in reply["names"])

    def unpublish_dataset(self, name: Any, **kwargs: Any) -> Any:
        """Withdraw a dataset, or a list of them; a name that does not exist does not matter.

        Parameters
        ----------
        name : str, bytes, int, float, tuple, or list of them
            The name.
        """
        return self.sync(self._unpublish, name if isinstance(name, list) else [name], **kwargs)

    async def _unpublish(self, names: list[Any]) -> None:
        self._check_usable()
        await self._started()
        await self._connection.call("publish-delete", names=[encode_key(name) for name in names])


def _values_by_name(args: tuple[Any, ...], name: Any, kwargs: dict[str, Any]) -> dict[Any, Any]:
    """What `publish_dataset` was asked to publish."""
    if name is not None and len(args) != 1:
        raise ValueError(f"name= gives a name to one value, but there are {len(args)} positional arguments")
    if name is not None:
        values = {name: args[0]}
    elif not args:
        values = {}
    elif len(args) == 1 and isinstance(args[0], Mapping):
        values = dict(args[0])
    else:
        raise ValueError(
            "publish_dataset takes name=value, one mapping of names to values, or one value together with name="
        )
    twice = values.keys() & kwargs.keys()
    if twice:
        raise ValueError(f"publish_dataset was given more than one value for {sorted(twice)}")
    values.update(kwargs)
    if not values:
        raise ValueError("publish_dataset was given nothing to publish")
    return values


class Datasets(MutableMapping[Any, Any]):
    """The published datasets of a cluster, by name; what `Client.datasets` gives.

    With an asynchronous client `datasets[name]` is awaited and names come from `async for`; setting, deleting,
    iterating and counting raise TypeError then, because Python has no way to await them.
    """

    __slots__ = ("_client",)

    def __init__(self, client: Client | DatasetCalls):
        self._client = client

    def _refuse(self, what: str, instead: str) -> None:
        if self._client.asynchronous:
            raise TypeError(f"{what} needs a synchronous client; with an asynchronous one use {instead}")

    def __getitem__(self, name: Any) -> Any:
        return self._client.get_dataset(name)

    def __setitem__(self, name: Any, value: Any) -> None:
        self._refuse("client.datasets[name] = value", "await client.publish_dataset(value, name=name)")
        self._client.publish_dataset(value, name=name)

    def __delitem__(self, name: Any) -> None:
        self._refuse("del client.datasets[name]", "await client.unpublish_dataset(name)")
        self._client.unpublish_dataset(name)

    def __contains__(self, name: object) -> bool:
        self._refuse("name in client.datasets", "name in await client.list_datasets()")
        return name in self._client.list_datasets()

    def __iter__(self) -> Iterator[Any]:
        self._refuse("iterating over client.datasets", "async for name in client.datasets")
        yield from self._client.list_datasets()

    def __aiter__(self) -> AsyncIterator[Any]:
        if not self._client.asynchronous:
            raise TypeError("async for over client.datasets needs an asynchronous client; use a plain for loop")
        return self._names()

    async def _names(self) -> AsyncIterator[Any]:
        for name in await self._client.list_datasets():
            yield name

    def __len__(self) -> int:
        self._refuse("len(client.datasets)", "len(await client.list_datasets())")
        return len(self._client.list_datasets())
