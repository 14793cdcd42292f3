"""The calls of Client about the cluster as a whole. May import: what the client may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastdist.client.lifecycle import Lifecycle
from fastdist.client.options import parse_seconds


class ClusterCalls(Lifecycle):
    """The part of Client that asks about the cluster and runs functions outside of the task system."""

    @property
    def scheduler_address(self) -> str:
        """The address of the scheduler."""
        return self._connection.address

    def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        workers: Any = None,
        wait: bool = True,
        nanny: bool = False,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> Any:
        """Call a function on every worker, outside of the task system.

        Parameters
        ----------
        function : callable
            The function; if it takes `dask_worker`, the worker is passed.
        workers : collection, optional
            The addresses of the workers.
        wait : bool
            Whether to wait for the results.
        nanny : bool
            Whether to run it in the nannies of the workers instead.
        on_error : str
            `raise` the first error, `return` errors as results, or `ignore` them.

        Returns
        -------
        dict
            Results by worker address.
        """
        if on_error not in ("raise", "return", "ignore"):
            raise ValueError(f"on_error= can be 'raise', 'return' or 'ignore', not {on_error!r}")
        return self._ask(
            self._view.run, function, args, kwargs, workers=workers, wait=wait, nanny=nanny, on_error=on_error
        )

    def wait_for_workers(self, n_workers: int, timeout: Any = None) -> Any:
        """Wait until at least so many workers run.

        Raises
        ------
        WorkerStartTimeoutError
            If they do not come in time.
        """
        if isinstance(n_workers, bool) or not isinstance(n_workers, int) or n_workers < 1:
            raise ValueError(f"n_workers must be a whole number of at least 1, not {n_workers!r}")
        return self._ask(self._view.wait_for_workers, n_workers, parse_seconds(timeout))

    def _ask(
        self, question: Callable[..., Any], *args: Any, asynchronous: bool | None = None, **kwargs: Any
    ) -> Any:
        self._check_usable()

        async def ask() -> Any:
            await self._started()
            return await question(*args, **kwargs)

        return self.sync(ask, asynchronous=asynchronous)
