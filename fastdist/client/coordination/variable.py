"""Variable: one value by name that code anywhere in the cluster sets and gets. May import: `client`, `protocol`."""

from __future__ import annotations

import uuid
from typing import Any

from fastdist.client.containers import find_futures
from fastdist.client.coordination.primitive import Primitive, dump, load, seconds


class Variable(Primitive):
    """A value that is shared by its name.

    It may be a future, or have futures in its lists, tuples, sets and dicts: their tasks are kept as long as it
    is set. The scheduler keeps the value as bytes; of large data, scatter it and set the future.

    Parameters
    ----------
    name : str, optional
        The same name is the same variable; a name of its own by default.
    client : Client, optional
        The client to ask; the one of the task or the current one by default.

    Examples
    --------
    >>> best = Variable("best")
    >>> best.set(client.submit(max, scores))
    >>> Variable("best").get().result()
    97
    """

    kind = "variable"

    def __init__(self, name: str | None = None, client: Any = None) -> None:
        super().__init__(name, client)

    def set(self, value: Any, timeout: Any = "30 s", **kwargs: Any) -> Any:
        """Set the value.

        Parameters
        ----------
        value : object
            A future, or anything that can be pickled.
        timeout : number or str, optional
            How long the scheduler may take to answer.

        Raises
        ------
        SerializationError
            If it cannot be pickled.
        MemoryError
            If it has no room on the scheduler (the setting `scheduler.max-coordination-bytes`).
        TimeoutError
            If the scheduler does not answer in time.
        """
        return self._call(self._set, value, dump(value), seconds(timeout), **kwargs)

    async def _set(self, value: Any, payload: list[Any], timeout: float | None) -> None:
        # The futures in `value` live until the scheduler has noted that the variable wants them.
        keys = [future.key_bytes for future in find_futures(value)]
        await self._client._connection.call(
            "variable-set", timeout=timeout, name=self._name, keys=keys, buffers=payload
        )

    def get(self, timeout: Any = None, **kwargs: Any) -> Any:
        """The value; wait until there is one.

        Parameters
        ----------
        timeout : number or str, optional
            Seconds, or a text such as "200 ms"; without it there is no limit.

        Raises
        ------
        TimeoutError
            If there is none in time.
        """
        return self._call(self._get, seconds(timeout), **kwargs)

    async def _get(self, timeout: float | None) -> Any:
        request = uuid.uuid4().hex
        reply = await self._ask("variable-get", timeout=timeout, name=self._name, request=request)
        try:
            return load(self._client, reply.buffers)
        finally:
            if reply["confirm"]:
                self._later(self._confirm, request)

    async def _confirm(self, request: str) -> None:
        await self._ask("variable-received", request=request)

    def delete(self) -> None:
        """Forget the value, for everybody, without waiting for the scheduler."""
        self._tell(self._delete)

    async def _delete(self) -> None:
        await self._ask("variable-delete", name=self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)
