"""What executed while a block ran: `get_task_stream` and `get_task_metadata`. May import: what the client may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastdist.client.current import default_client
from fastdist.client.information_calls import refuse_plots

if TYPE_CHECKING:
    from fastdist.client.client import Client


class get_task_stream:
    """Collect when which task executed where, while a `with` (or `async with`) block runs.

    Parameters
    ----------
    client : Client, optional
        The default client if it is not given.
    plot, filename
        Plots are not available yet.

    Attributes
    ----------
    data : list of dict
        The records, as of `Client.get_task_stream`; filled at the end of the block.

    Raises
    ------
    NotImplementedError
        If a plot is asked for.

    Examples
    --------
    >>> with get_task_stream() as stream:
    ...     wait(client.map(abs, range(3)))
    >>> len(stream.data)
    3
    """

    def __init__(self, client: Client | None = None, plot: Any = False, filename: str = "task-stream.html"):
        refuse_plots(plot, filename)
        self.client = default_client(client)
        self.data: list[dict[str, Any]] = []
        self.figure = None
        self._index = 0

    def __enter__(self) -> get_task_stream:
        self._index = self.client._ask_scheduler(self.client._start_task_stream)
        return self

    def __exit__(self, *exception: object) -> None:
        self.data += self.client._ask_scheduler(self.client._get_task_stream, None, None, None, self._index)

    async def __aenter__(self) -> get_task_stream:
        self._index = await self.client._ask_scheduler(self.client._start_task_stream, asynchronous=True)
        return self

    async def __aexit__(self, *exception: object) -> None:
        question = self.client._get_task_stream
        self.data += await self.client._ask_scheduler(question, None, None, None, self._index, asynchronous=True)


class get_task_metadata:
    """Collect the tasks that are submitted and end while a `with` (or `async with`) block runs.

    Attributes
    ----------
    metadata : dict
        By key, the metadata that a task set for itself, or None.
    state : dict
        By key, `memory` or `erred`.

    Examples
    --------
    >>> with get_task_metadata() as tasks:
    ...     future = client.submit(abs, -1, key="one")
    ...     future.result()
    1
    >>> tasks.state
    {'one': 'memory'}
    """

    def __init__(self) -> None:
        self.client = default_client()
        self.metadata: dict[Any, Any] = {}
        self.state: dict[Any, str] = {}
        self._stream = get_task_stream(self.client)
        self._earlier: set[Any] = set()

    def _begin(self) -> None:
        self._earlier = {key for key, state in self.client.futures.items() if not state.done()}

    def _end(self) -> None:
        for record in self._stream.data:
            if record["key"] not in self._earlier:
                self.metadata[record["key"]] = record["metadata"] or None
                self.state[record["key"]] = "memory" if record["status"] == "OK" else "erred"

    def __enter__(self) -> get_task_metadata:
        self._begin()
        self._stream.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.__exit__()
        self._end()

    async def __aenter__(self) -> get_task_metadata:
        self._begin()
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stream.__aexit__()
        self._end()
