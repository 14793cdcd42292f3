"""The parts of the scheduler alone: who holds what is noted by client and worker, and asking twice is harmless."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from fastdist._core.keys.canonical import encode_key
from fastdist.errors import MessageError
from fastdist.scheduler.extensions.coordination import Events, MultiLocks, Queues, Semaphores
from fastdist.scheduler.extensions.coordination import coordinator as coordinator_module

NAME = encode_key("name")


class FakeScheduler:
    """As much of a scheduler as an extension needs; a peer is a number, and so is its client."""

    def __init__(self) -> None:
        self._clients = self
        self.journal = None

    def entry(self, peer: Any) -> Any:
        """The client behind a connection."""
        return SimpleNamespace(number=peer.number, name=peer.name)


class Connection(NamedTuple):
    """As much of a peer."""

    number: int
    name: str


def peer(number: int) -> Any:
    """A connection of a client."""
    return Connection(number, f"client {number}")


def lease(id: str, **fields: Any) -> dict[str, Any]:
    """The fields of a request for a lease."""
    return {"name": NAME, "lease": id, "max_leases": 1, "registered": False, **fields}


def start(request: Any) -> Any:
    """Start a request and let it come to its wait."""
    return asyncio.ensure_future(request)


def scenario(test: Any) -> Any:
    """Run a coroutine test."""

    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    run.__name__ = test.__name__
    return run


@scenario
async def test_a_lease_is_asked_for_twice_and_given_once() -> None:
    semaphores = Semaphores(FakeScheduler())
    for _ in range(2):
        assert await semaphores.acquire(peer(1), lease("a"), []) == {"acquired": True}
    assert semaphores.value(peer(1), {"name": NAME}, []) == {"value": 1}
    assert semaphores.release(peer(1), lease("a"), []) == {"released": True}
    assert semaphores.release(peer(1), lease("a"), []) == {"released": False}


@scenario
async def test_the_leases_of_a_lost_worker_go_to_who_waits() -> None:
    semaphores = Semaphores(FakeScheduler())
    await semaphores.acquire(peer(1), lease("a", worker="tcp://1"), [])
    waiting = start(semaphores.acquire(peer(2), lease("b"), []))
    await asyncio.sleep(0)
    semaphores.worker_gone(SimpleNamespace(address="tcp://2"), "test")  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert not waiting.done()
    semaphores.worker_gone(SimpleNamespace(address="tcp://1"), "test")  # type: ignore[arg-type]
    assert await waiting == {"acquired": True}


@scenario
async def test_a_lost_client_holds_nothing() -> None:
    gone = SimpleNamespace(number=1, name="one")
    semaphores, locks = Semaphores(FakeScheduler()), MultiLocks(FakeScheduler())
    await semaphores.acquire(peer(1), lease("a", lock=True), [])
    await locks.acquire(peer(1), {"names": [NAME], "count": 1, "lease": "a"}, [])
    waiting = start(locks.acquire(peer(2), {"names": [NAME], "count": 1, "lease": "b"}, []))
    await asyncio.sleep(0)
    semaphores.client_gone(gone)  # type: ignore[arg-type]
    locks.client_gone(gone)  # type: ignore[arg-type]
    assert not semaphores.semaphores
    assert await waiting == {"acquired": True}
    locks.worker_gone(SimpleNamespace(address="tcp://1"), "test")  # type: ignore[arg-type]
    assert locks.holdings.keys() == {"b"}


@scenario
async def test_a_request_whose_connection_broke_leaves_the_line() -> None:
    events, semaphores = Events(FakeScheduler()), Semaphores(FakeScheduler())
    waiting = start(events.wait_for(peer(1), {"name": NAME, "request": "r"}, []))
    await semaphores.acquire(peer(1), lease("a"), [])
    in_line = start(semaphores.acquire(peer(2), lease("b"), []))
    await asyncio.sleep(0)
    assert events.lines and semaphores.semaphores[NAME].line
    waiting.cancel()
    in_line.cancel()
    await asyncio.gather(waiting, in_line, return_exceptions=True)
    assert not events.lines and not semaphores.semaphores[NAME].line


@scenario
async def test_a_lease_that_was_granted_while_its_connection_broke_is_found_again() -> None:
    semaphores = Semaphores(FakeScheduler())
    await semaphores.acquire(peer(1), lease("a"), [])
    in_line = start(semaphores.acquire(peer(2), lease("b"), []))
    await asyncio.sleep(0)
    semaphores.release(peer(1), lease("a"), [])
    in_line.cancel()
    await asyncio.gather(in_line, return_exceptions=True)
    assert await semaphores.acquire(peer(2), lease("b"), []) == {"acquired": True}


@scenario
async def test_a_put_or_get_that_is_repeated_counts_once() -> None:
    queues = Queues(FakeScheduler())
    for _ in range(2):
        queues.create(peer(1), {"name": NAME, "request": "c", "maxsize": 0}, [])
        await queues.put(peer(1), {"name": NAME, "request": "p", "keys": []}, [b"value"])
    assert queues.queues[NAME].n_handles == 1
    asked = {"name": NAME, "request": "g", "limit": 1, "wait": True}
    for _ in range(2):
        assert await queues.get(peer(2), asked, []) == ({"more": False}, [b"value"])
    queues.client_gone(SimpleNamespace(number=2, name="two"))  # type: ignore[arg-type]
    assert queues.size(peer(1), {"name": NAME}, []) == {"size": 1}


@scenario
async def test_the_limits() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coordinator_module, "MAX_OBJECTS", 1)
        patch.setattr(coordinator_module, "MAX_WAITS", 1)
        semaphores, one = Semaphores(FakeScheduler()), peer(1)
        await semaphores.acquire(one, lease("a"), [])
        with pytest.raises(RuntimeError, match="the kind semaphore already, which is the limit"):
            await semaphores.acquire(one, lease("b", name=encode_key("another")), [])
        waiting = start(semaphores.acquire(one, lease("b"), []))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="which is the limit for one client"):
            await semaphores.acquire(one, lease("c"), [])
        waiting.cancel()


@scenario
async def test_malformed_requests_change_nothing() -> None:
    semaphores = Semaphores(FakeScheduler())
    for wrong in ({"name": "text"}, {"name": b""}, {"max_leases": 0}, {"lease": 5}, {"wait_timeout": -1}):
        with pytest.raises(MessageError):
            await semaphores.acquire(peer(1), lease("a") | wrong, [])
    assert not semaphores.semaphores
