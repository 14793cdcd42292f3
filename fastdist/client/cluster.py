"""Questions about the cluster, and functions that run outside of the task system.

May import: `_core`, `rpc`, `protocol`, `errors`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastdist._core.keys.canonical import decode_key, encode_key
from fastdist.client.containers import find_futures
from fastdist.client.options import parse_workers
from fastdist.errors import CommClosedError, WorkerStartTimeoutError
from fastdist.protocol import results
from fastdist.protocol.arguments import serialize_arguments
from fastdist.protocol.failures import load_failure
from fastdist.protocol.functions import FunctionCache

if TYPE_CHECKING:
    from fastdist.client.connection import SchedulerConnection


class ClusterView:
    """What a client can learn of its cluster, and have it do.

    Parameters
    ----------
    connection : SchedulerConnection
    """

    def __init__(self, connection: SchedulerConnection):
        self._connection = connection
        self._functions = FunctionCache(100)

    async def identity(self, n_workers: int = -1) -> dict[str, Any]:
        """The scheduler and its workers; of these only the first `n_workers` if that is not negative."""
        return (await self._connection.call("identity", n_workers=n_workers))["identity"]

    async def nthreads(self, workers: Any = None) -> dict[str, int]:
        """The number of threads of each worker."""
        reply = await self._connection.call("ncores", workers=parse_workers(workers))
        return dict(reply["ncores"])

    async def who_has(self, futures: Any = None) -> dict[Any, tuple[str, ...]]:
        """The addresses of the workers that hold each result; of all keys if no futures are given."""
        keys = None
        if futures is not None:
            keys = [encode_key(each) for each in as_keys(futures)]
        reply = await self._connection.call("who-has", keys=keys)
        return {decode_key(bytes(key)): tuple(addresses) for key, addresses in reply["who_has"]}

    async def has_what(self, workers: Any = None) -> dict[str, tuple[Any, ...]]:
        """The keys whose results each worker holds."""
        reply = await self._connection.call("has-what", workers=parse_workers(workers))
        held = reply["has_what"]
        return {address: tuple(decode_key(bytes(key)) for key in keys) for address, keys in held.items()}

    async def wait_for_workers(self, n_workers: int, timeout: float | None) -> None:
        """Wait until that many workers run."""
        reply = await self._connection.call("wait-for-workers", n_workers=n_workers, patience=timeout)
        if reply["running"] < n_workers:
            assert timeout is not None
            raise WorkerStartTimeoutError(reply["running"], n_workers, timeout)

    async def run(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        workers: Any,
        wait: bool,
        nanny: bool,
        on_error: str,
    ) -> Any:
        """Run a function on workers or nannies; see `Client.run`."""
        payload = self._functions.serialize_function(function).payload
        arguments, _ = serialize_arguments(args, kwargs, None)
        reply = await self._connection.call(
            "run", workers=parse_workers(workers), wait=wait, nanny=nanny, buffers=[payload, arguments]
        )
        if not wait:
            return None
        answers = {}
        for address, status, detail in reply["results"]:
            if status == "OK":
                answers[address] = results.loads([reply.buffers[detail]])
                continue
            if status == "error":
                error: BaseException = load_failure(reply.buffers[detail])
            else:
                error = CommClosedError(f"the worker at {address} was lost before it answered: {detail}")
            if on_error == "raise":
                raise error
            if on_error == "return":
                answers[address] = error
        return answers


def as_keys(futures: Any) -> list[Any]:
    """The keys of futures in any containers; what is no future counts as a key."""
    found = find_futures(futures)
    if found:
        return [future.key for future in found]
    return list(futures) if isinstance(futures, list | set) else [futures]
