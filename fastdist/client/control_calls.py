"""The calls of Client that move workers and data about: restart, retire, rebalance, replicate and the like.

May import: what the client may.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from fastdist._core.keys.canonical import decode_key
from fastdist.client.containers import find_futures
from fastdist.client.future import Future
from fastdist.client.lifecycle import Lifecycle, no_default
from fastdist.client.options import parse_seconds, parse_workers
from fastdist.client.waiting import until_done
from fastdist.protocol import pickling

#: What `retire_workers` passes on to the scheduler.
RETIRE_OPTIONS = ("names", "n", "minimum", "memory_ratio", "target", "attribute", "remove", "key")


class ControlCalls(Lifecycle):
    """The part of Client that controls workers and where data lies."""

    _ask: Callable[..., Any]
    generation: int

    # -- workers ---------------------------------------------------------------------------------------------

    def restart(self, timeout: Any = no_default, wait_for_workers: bool = True) -> Any:
        """Cancel everything, of all clients, and restart all workers.

        Workers without a nanny are only removed.

        Parameters
        ----------
        timeout : number or str, optional
            How long workers may take; four times the timeout of connecting by default.
        wait_for_workers : bool
            Whether to wait until they are back.

        Raises
        ------
        TimeoutError
            If they are not back in time.
        """
        seconds = 4 * self._timeout if timeout is no_default else parse_seconds(timeout)
        return self._ask(self._restart, seconds, bool(wait_for_workers))

    async def _restart(self, timeout: float | None, wait_for_workers: bool) -> None:
        self.generation += 1
        await self._connection.call("restart", patience=timeout, wait_for_workers=wait_for_workers)

    def restart_workers(
        self, workers: Any, timeout: Any = no_default, raise_for_error: bool = True
    ) -> Any:
        """Restart some workers; what they did goes to others, and their data is computed again where it is needed.

        Parameters
        ----------
        workers : list
            Names or addresses.
        timeout : number or str, optional
            How long each may take; four times the timeout of connecting by default.
        raise_for_error : bool
            Whether it is an error if one does not start again.

        Returns
        -------
        dict
            For each name or address `"OK"`, `"removed"` or `"timed out"`.

        Raises
        ------
        ValueError
            If a worker does not exist, or has no nanny.
        RuntimeError
            If a worker could not start again; the text says why.
        """
        seconds = 4 * self._timeout if timeout is no_default else parse_seconds(timeout)
        return self._ask(self._restart_workers, workers, seconds, bool(raise_for_error))

    async def _restart_workers(self, workers: Any, timeout: float | None, raise_for_error: bool) -> dict[Any, str]:
        wanted = workers if isinstance(workers, list | tuple | set) else [workers]
        known = (await self._view.identity())["workers"]
        by_name = {str(worker["name"]): address for address, worker in known.items()}
        addresses = {each: str(each) if str(each) in known else by_name.get(str(each)) for each in wanted}
        unknown = [each for each, address in addresses.items() if address is None]
        if unknown:
            raise ValueError(f"there are no workers {unknown}; the workers are: {', '.join(known) or 'none'}")
        alone = [each for each, address in addresses.items() if address and known[address]["nanny"] is None]
        if alone:
            raise ValueError(f"workers {alone} have no nanny, which is needed to restart them")
        reply = await self._connection.call("restart-workers", workers=list(addresses.values()), patience=timeout)
        outcomes = {each: reply["outcomes"].get(address, "removed") for each, address in addresses.items()}
        failed = {
            each: how for each, how in outcomes.items() if how not in ("OK", "removed", "timed out")
        }
        if failed and raise_for_error:
            raise RuntimeError(f"workers could not start again: {failed}")
        return outcomes

    def retire_workers(self, workers: Any = None, close_workers: bool = True, **kwargs: Any) -> Any:
        """Have workers leave in good order: others get their data first, and what they execute may end.

        Parameters
        ----------
        workers : list, optional
            Addresses; by default those that the cluster can do without.
        close_workers : bool
            Whether they close.
        names : list
            Names in place of `workers`.
        n, target : int
            How many shall leave, or stay.
        minimum : int
            How many have to stay.
        memory_ratio : number
            The memory of those that stay has to be so many times the data in the cluster; 2 by default.
        key : callable
            Of a worker, called in the scheduler: workers with the same value leave together.
        remove : bool
            Whether they are forgotten at once.

        Returns
        -------
        dict
            What each worker was that has left, by address. A worker whose data no other could take stays.

        Examples
        --------
        >>> client.retire_workers(n=1)  # doctest: +SKIP
        {'tcp://127.0.0.1:40331': {...}}
        """
        unknown = sorted(set(kwargs) - {*RETIRE_OPTIONS, "asynchronous", "stimulus_id"})
        if unknown:
            raise TypeError(f"retire_workers() has no options {', '.join(unknown)}")
        kwargs.pop("stimulus_id", None)
        asynchronous = kwargs.pop("asynchronous", None)
        return self._ask(self._retire_workers, workers, bool(close_workers), kwargs, asynchronous=asynchronous)

    async def _retire_workers(self, workers: Any, close_workers: bool, options: dict[str, Any]) -> dict[str, Any]:
        fields = {name: value for name, value in options.items() if value is not None}
        key = fields.pop("key", None)
        if "names" in fields:
            fields["names"] = parse_workers(fields["names"])
        reply = await self._connection.call(
            "retire-workers",
            workers=parse_workers(workers),
            close_workers=close_workers,
            buffers=[] if key is None else [pickling.dumps(key, {"key": key})],
            **fields,
        )
        return dict(reply["workers"])

    # -- data ------------------------------------------------------------------------------------------------

    def rebalance(self, futures: Any = None, workers: Any = None, **kwargs: Any) -> Any:
        """Move data from the fullest workers to the emptiest ones.

        Parameters
        ----------
        futures : Future or collection, optional
            What may move; everything by default. They are waited for.
        workers : str, number or collection, optional
            The workers among which to move.

        Raises
        ------
        KeyError
            If some data could not be moved.
        """
        return self._ask(self._rebalance, futures, workers, **kwargs)

    async def _rebalance(self, futures: Any, workers: Any) -> None:
        keys = None if futures is None else await self._finished_keys(futures)
        reply = await self._connection.call("rebalance", keys=keys, workers=parse_workers(workers))
        if reply["status"] != "OK":
            lost = [decode_key(bytes(key)) for key in reply["keys"]]
            raise KeyError(f"During rebalance {len(lost)} keys were found to be missing or could not be moved: {lost}")

    def replicate(
        self, futures: Any, n: int | None = None, workers: Any = None, branching_factor: int = 2, **kwargs: Any
    ) -> Any:
        """Have several workers hold the same data.

        Parameters
        ----------
        futures : Future or collection
            What to copy; they are waited for.
        n : int, optional
            How many workers shall hold each; all by default. Surplus copies are dropped.
        workers : str, number or collection, optional
            The workers that count.
        branching_factor : int
            How many workers fetch from one that has the data at a time: the number of holders grows as a tree.

        Raises
        ------
        ValueError
            If `n` is less than 1.
        KeyError
            If some data could not be copied.
        """
        if n is not None and (type(n) is not int or n < 1):
            raise ValueError(f"n must be a whole number of at least 1, not {n!r}: replicate does not delete data")
        if type(branching_factor) is not int or branching_factor < 1:
            raise ValueError(f"branching_factor must be a whole number of at least 1, not {branching_factor!r}")
        return self._ask(self._replicate, futures, n, workers, branching_factor, **kwargs)

    async def _replicate(self, futures: Any, n: int | None, workers: Any, branching_factor: int) -> None:
        await self._connection.call(
            "replicate",
            keys=await self._finished_keys(futures),
            n=n,
            workers=parse_workers(workers),
            branching_factor=branching_factor,
        )

    async def _finished_keys(self, futures: Any) -> list[bytes]:
        found: list[Future] = find_futures(futures)
        for future in found:
            if future.table is not self._table:
                raise ValueError(f"{future!r} belongs to another client")
        await until_done(self._table, found, None)
        for future in found:
            self._outcomes.raise_error(future)
        return [future.key_bytes for future in found]

    @property
    def amm(self) -> AMMClientProxy:
        """The active memory manager of the scheduler."""
        return AMMClientProxy(self)

    # -- beside ----------------------------------------------------------------------------------------------

    @property
    def scheduler_file(self) -> str | None:
        """The file that the scheduler's address was read from, or written to."""
        return self._scheduler_file

    def write_scheduler_file(self, scheduler_file: str | os.PathLike[str]) -> None:
        """Write what the scheduler is to a JSON file, for workers and clients to find it.

        Raises
        ------
        ValueError
            If this client has a scheduler file already.
        """
        if self._scheduler_file:
            raise ValueError(f"Scheduler file already set: {self._scheduler_file}")
        path = os.fspath(scheduler_file)
        identity = dict(self._connection.info["info"], address=self._connection.address)
        with open(path, "w") as file:
            json.dump(identity, file, indent=2)
        self._scheduler_file = path

    def benchmark_hardware(self) -> Any:
        """Measure the disk, the memory and the network of the workers; takes about fifteen seconds.

        Returns
        -------
        dict
            Under `"disk"`, `"memory"` and `"network"` bytes a second by size of a write, copy or message, as the
            mean over the workers.
        """
        return self._ask(self._benchmark_hardware)

    async def _benchmark_hardware(self) -> dict[str, dict[str, float]]:
        from fastdist.worker import hardware

        addresses = list((await self._view.identity())["workers"])
        partners = dict(zip(addresses[::2], addresses[1::2], strict=False))
        return {
            "disk": means(await self._run_on_all(hardware.measure_disk)),
            "memory": means(await self._run_on_all(hardware.measure_memory)),
            "network": means(await self._run_on_all(hardware.measure_network, partners)),
        }

    async def _run_on_all(self, function: Callable[..., Any], *args: Any) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = await self._view.run(
            function, args, {}, workers=None, wait=True, nanny=False, on_error="raise"
        )
        return found


class AMMClientProxy:
    """The active memory manager of the scheduler: it drops copies of results that nobody needs, every 2 s.

    Examples
    --------
    >>> client.amm.stop()
    >>> client.amm.running()
    False
    >>> client.amm.start()
    """

    def __init__(self, client: ControlCalls) -> None:
        self._client = client

    def start(self) -> Any:
        """Run from time to time from now on."""
        return self._call("start")

    def stop(self) -> Any:
        """Run only when `run_once` asks for it."""
        return self._call("stop")

    def run_once(self) -> Any:
        """Run now."""
        return self._call("run_once")

    def running(self) -> Any:
        """Whether it runs from time to time."""
        return self._call("running")

    def _call(self, method: str) -> Any:
        return self._client._ask(self._ask, method)

    async def _ask(self, method: str) -> Any:
        return (await self._client._connection.call("memory-manager", method=method))["result"]


def means(speeds: dict[str, dict[str, float]]) -> dict[str, float]:
    """The mean over the workers for each size."""
    by_size: dict[str, list[float]] = {}
    for of_worker in speeds.values():
        for size, speed in of_worker.items():
            by_size.setdefault(size, []).append(speed)
    return {size: sum(values) / len(values) for size, values in by_size.items()}
