"""The shape of a scheduler or worker that is started somewhere else, and how classes are found by name.

May import: `fastdist.status`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Generator
from importlib import import_module
from typing import Any

from fastdist.status import Status


class ProcessInterface:
    """A scheduler or a worker that a `SpecCluster` starts and closes: a process, a job, a container.

    Subclasses extend `start` (which sets `address` if it is known) and `close`.

    Parameters
    ----------
    scheduler : str, optional
        Address of the scheduler, for workers.
    name : str or int, optional
        What the cluster calls it.

    Examples
    --------
    >>> class Job(ProcessInterface):
    ...     async def start(self):
    ...         self.number = await queue_job(self.scheduler, self.name)
    ...         await super().start()
    ...     async def close(self):
    ...         await cancel_job(self.number)
    ...         await super().close()
    """

    def __init__(self, scheduler: str | None = None, name: Any = None) -> None:
        # A subclass may have set them before, and call this without any.
        self.scheduler: str | None = getattr(self, "scheduler", None) if scheduler is None else scheduler
        self.name: Any = getattr(self, "name", None) if name is None else name
        self.address: str | None = getattr(self, "address", None)
        self.external_address: str | None = None
        self.status = Status.created
        self.lock = asyncio.Lock()
        self._event_finished = asyncio.Event()

    async def start(self) -> None:
        """Start it; it runs when this returns."""
        self.status = Status.running

    async def close(self, **kwargs: Any) -> None:
        """End it."""
        self.status = Status.closed
        self._event_finished.set()

    async def finished(self) -> None:
        """Wait until it is closed."""
        await self._event_finished.wait()

    async def _start_once(self) -> ProcessInterface:
        async with self.lock:
            if self.status is Status.created:
                await self.start()
                if self.status is not Status.running:
                    raise RuntimeError(f"{self!r} did not start")
        return self

    def __await__(self) -> Generator[Any, None, ProcessInterface]:
        return self._start_once().__await__()

    async def __aenter__(self) -> ProcessInterface:
        return await self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: status={self.status.name}>"


def import_class(term: Any) -> Any:
    """A class, from itself or from its dotted name; names of dask.distributed mean fastdist's.

    Raises
    ------
    ImportError
        If there is none of that name.

    Examples
    --------
    >>> import_class("distributed.Nanny")
    <class 'fastdist.nanny.nanny.Nanny'>
    """
    if not isinstance(term, str):
        return term
    if term.startswith(("distributed.", "dask.distributed.")):
        term = "fastdist." + term.rpartition("distributed.")[2]
    module_name, separator, attribute = term.partition(":")
    if not separator:
        module_name, _, attribute = term.rpartition(".")
    if not module_name:
        raise ImportError(f"{term!r} is not the dotted name of a class, such as 'fastdist.Nanny'")
    try:
        return functools.reduce(getattr, attribute.split("."), import_module(module_name))
    except AttributeError as error:
        raise ImportError(f"there is no {attribute!r} in {module_name}") from error


def init_spec(spec: dict[str, Any], *args: Any) -> dict[str, Any]:
    """Make what a mapping of name -> {"cls": class or its name, "opts": keywords} describes.

    Examples
    --------
    >>> init_spec({"a": {"cls": "builtins.dict", "opts": {"x": 1}}})
    {'a': {'x': 1}}
    """
    return {name: import_class(each["cls"])(*args, **each.get("opts", {})) for name, each in spec.items()}


async def run_spec(spec: dict[str, Any], *args: Any) -> dict[str, Any]:
    """Make and start what `init_spec` makes."""
    made = init_spec(spec, *args)
    await asyncio.gather(*(_start(each) for each in made.values()))
    return made


async def _start(server: Any) -> None:
    await server
