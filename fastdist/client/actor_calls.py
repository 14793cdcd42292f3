"""What actors ask of their client. May import: what the client may."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from importlib import import_module
from typing import Any

from fastdist._core.keys.hash import function_name
from fastdist.client.actor_channel import ActorChannel
from fastdist.client.lifecycle import Lifecycle

#: What a task runs to make an actor; loaded when the first one is asked for.
MAKER = "fastdist.tasks.actors"


def make_actor(function: Callable[..., Any], key: Any, one: bool = True) -> tuple[Callable[..., Any], Any, bool]:
    """What to submit in place of `function` so that its result becomes an actor: function, key, purity.

    Parameters
    ----------
    function : callable
        A class, mostly.
    key : object
        What the user gave.
    one : bool
        Whether there will be one task, or many whose keys start with `key`.
    """
    if key is None:
        key = f"{function_name(function)}-{uuid.uuid4()}" if one else function_name(function)
    return maker_of(function), key, False


def maker_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function like this one whose result stays on its worker, and that returns the actor."""
    maker: Callable[..., Any] = import_module(MAKER).MakeActor(function)
    return maker


class ActorCalls(Lifecycle):
    """The part of Client that serves Actor."""

    def _make_parts(self) -> None:
        super()._make_parts()
        self._actor_channels: dict[str, ActorChannel] = {}

    def _actor_channel(self, address: str) -> ActorChannel:
        channel = self._actor_channels.get(address)
        if channel is None:
            channel = self._actor_channels.setdefault(address, ActorChannel(self, address))
        return channel
