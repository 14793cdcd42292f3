"""What a worker runs to make an actor. May import: the layers below, and `client`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastdist._core.keys.canonical import encode_key
from fastdist.client.actor import Actor
from fastdist.context import get_current_task, get_worker


class MakeActor:
    """A function of a task that makes an object which stays on the worker, and returns a handle of it.

    Parameters
    ----------
    make : callable
        A class, or what else makes the object.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *args: Any, **kwargs: Any) -> Actor:
        worker, key = get_worker(), get_current_task().key
        instance = self.make(*args, **kwargs)
        home = worker.actor_host.add(encode_key(key), instance)
        return Actor._at_home(type(instance), worker.address, key, home)

    def __repr__(self) -> str:
        return f"MakeActor({self.make!r})"
