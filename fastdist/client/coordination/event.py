"""Event: a flag by name that code anywhere in the cluster sets and waits for. May import: `client`."""

from __future__ import annotations

import uuid
from typing import Any

from fastdist.client.coordination.primitive import Primitive, seconds


class Event(Primitive):
    """A flag that is shared by its name.

    It is not set at first. Its methods block, or are awaited where those of the client are.

    Parameters
    ----------
    name : str, optional
        The same name is the same flag; a name of its own by default.
    client : Client, optional
        The client to ask; the one of the task or the current one by default.

    Examples
    --------
    >>> event = Event("data is there")
    >>> event.set()
    >>> event.wait(timeout="1s")
    True
    """

    kind = "event"

    def __init__(self, name: str | None = None, client: Any = None) -> None:
        super().__init__(name, client)

    def wait(self, timeout: Any = None) -> Any:
        """Wait until the flag is set.

        Parameters
        ----------
        timeout : number or str, optional
            Seconds, or a text such as "200 ms"; without it there is no limit.

        Returns
        -------
        bool
            Whether it is set.
        """
        return self._call(self._wait, seconds(timeout))

    async def _wait(self, timeout: float | None) -> bool:
        reply = await self._ask("event-wait", timeout=timeout, name=self._name, request=uuid.uuid4().hex)
        return bool(reply["set"])

    def set(self) -> Any:
        """Set the flag: everybody who waits for it goes on."""
        return self._call(self._change, "event-set")

    def clear(self) -> Any:
        """Take the flag back."""
        return self._call(self._change, "event-clear")

    async def _change(self, op: str) -> None:
        await self._ask(op, name=self._name)

    def is_set(self) -> Any:
        """Whether the flag is set."""
        return self._call(self._is_set)

    async def _is_set(self) -> bool:
        return bool((await self._ask("event-is-set", name=self._name))["set"])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name,)
