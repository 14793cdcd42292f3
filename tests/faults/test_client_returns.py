"""A client whose connection breaks comes back, and nothing is lost or done twice. May import: fastdist, tests."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import add
from pathlib import Path
from typing import Any

import pytest

import fastdist.client.connection
import fastdist.client.sending
from fastdist import Client, Future, LocalCluster, config
from fastdist.errors import ClosedClientError, CommClosedError, FutureCancelledError, TaskLostError
from fastdist.rpc.peer import Peer
from fastdist.scheduler.extensions.data import Data
from tests.faults.waiting import Gate, tasks_of, until

N = 1000


def number_after(gate: Gate, number: int) -> int:
    gate.pass_through()
    return number


def note(folder: str, number: int) -> int:
    """Leaves a line for each execution."""
    with open(f"{folder}/{number % 8}", "a") as file:
        file.write(f"{number}\n")
    return number


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


@pytest.fixture
def make_cluster() -> Iterator[Callable[..., LocalCluster]]:
    clusters: list[LocalCluster] = []

    def make(grace: str = "30s") -> LocalCluster:
        with config.set({"scheduler.client-grace": grace}):
            clusters.append(
                LocalCluster(
                    n_workers=1, threads_per_worker=2, processes=False, protocol="tcp",
                    silence_logs=logging.CRITICAL,
                )
            )  # fmt: skip
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Has clients fail to connect as long as it was called with True."""
    real = fastdist.client.connection.connect
    state = [False]

    async def connect(*args: Any, **kwargs: Any) -> Any:
        if state[0]:
            raise CommClosedError("the network is down")
        return await real(*args, **kwargs)

    def switch(value: bool) -> None:
        state[0] = value

    monkeypatch.setattr(fastdist.client.connection, "connect", connect)
    return switch


def on_loop(client: Client, function: Callable[[], object]) -> None:
    async def call() -> None:
        function()

    asyncio.run_coroutine_threadsafe(call(), client._loop).result(20)


def entry_of(cluster: LocalCluster, client: Client) -> Any:
    return next((each for each in cluster.scheduler.members.clients.values() if each.name == client.id), None)


def cut(cluster: LocalCluster, client: Client) -> None:
    """Break the connection at the scheduler's side."""
    entry = until(lambda: entry_of(cluster, client), "the connection of the client")
    on_loop(client, lambda: entry.peer.abort(CommClosedError("cut by the test")))


def executions(folder: Path) -> list[int]:
    return sorted(int(line) for path in folder.iterdir() for line in path.read_text().split())


def test_all_tasks_resolve_once_though_the_connection_is_cut_again_and_again(
    make_cluster: Callable[..., LocalCluster], tmp_path: Path
) -> None:
    cluster = make_cluster()
    notes = tmp_path / "notes"
    notes.mkdir()
    with Client(cluster) as client:
        futures = []
        for start in range(0, N, 50):
            numbers = range(start, start + 50)
            futures += client.map(note, [str(notes)] * 50, numbers, pure=False)
            futures += [client.submit(note, str(notes), N + number, pure=False) for number in numbers]
            cut(cluster, client)
        assert sorted(client.gather(futures)) == list(range(2 * N))
        assert executions(notes) == list(range(2 * N))
        assert cluster.scheduler.core.n_tasks() == 2 * N
        del futures
        until(lambda: cluster.scheduler.core.n_tasks() == 0, "the release of everything")


def test_what_is_submitted_and_released_while_the_client_is_away_arrives(
    make_cluster: Callable[..., LocalCluster], away: Callable[[bool], None], gate: Gate
) -> None:
    cluster = make_cluster()
    core = cluster.scheduler.core
    with Client(cluster) as client:
        dropped = client.map(add, range(100), range(100))
        running = client.submit(number_after, gate, 7)
        assert sum(client.gather(dropped)) == 9900
        gate.wait_for(1)
        away(True)
        cut(cluster, client)
        until(lambda: not cluster.scheduler.members.clients, "the loss of the client")
        more = client.map(add, [running] * 10, range(10))
        del dropped
        gate.open()
        until(lambda: core.counts()["memory"] == 101, "the end of the task that runs")
        away(False)
        assert client.gather(more) == list(range(7, 17))
        assert running.result(timeout=20) == 7
        until(lambda: core.n_tasks() == 11, "the release of what was dropped")


def test_a_call_waits_for_the_return(
    make_cluster: Callable[..., LocalCluster], away: Callable[[bool], None]
) -> None:
    cluster = make_cluster()
    with Client(cluster) as client:
        away(True)
        cut(cluster, client)
        until(lambda: not client._connection.is_open, "the end of the connection")
        asked = asyncio.run_coroutine_threadsafe(client._connection.call("ncores"), client._loop)
        scattering = asyncio.run_coroutine_threadsafe(client.scatter([5], asynchronous=True), client._loop)
        with pytest.raises(TimeoutError, match="did not come back within"):
            asyncio.run_coroutine_threadsafe(
                client._connection.call("ncores", timeout=0.01), client._loop
            ).result(20)
        assert not asked.done()
        away(False)
        assert list(asked.result(20)["ncores"].values()) == [2]
        assert scattering.result(20)[0].result(timeout=20) == 5


def test_a_half_open_connection_is_replaced(make_cluster: Callable[..., LocalCluster], gate: Gate) -> None:
    cluster = make_cluster()
    with Client(cluster) as client:
        future = client.submit(number_after, gate, 3)
        gate.wait_for(1)
        old = entry_of(cluster, client).peer
        connection = client._connection

        def forget_quietly() -> None:
            # The client's side ends while the scheduler's goes on, as when a router forgets the connection.
            peer = connection._peer
            assert peer is not None
            peer.comm._on_close, on_close = (lambda reason: None), peer.comm._on_close
            on_close(CommClosedError("half-open"))

        on_loop(client, forget_quietly)
        until(lambda: entry_of(cluster, client).peer is not old, "the new connection")
        gate.open()
        assert future.result(timeout=20) == 3
        assert old.closed and client.submit(add, 1, 1).result(timeout=20) == 2


def test_results_that_came_inline_stay_when_they_are_told_again(
    make_cluster: Callable[..., LocalCluster],
) -> None:
    cluster = make_cluster()
    with Client(cluster) as client:
        futures = client.map(add, range(20), range(20))
        failed = client.submit(divmod, 1, 0)
        client.gather(futures)
        assert isinstance(failed.exception(timeout=20), ZeroDivisionError)
        payloads = [future.payload for future in futures]
        old = entry_of(cluster, client).peer
        cut(cluster, client)
        until(lambda: (entry := entry_of(cluster, client)) and entry.peer is not old, "the return")
        assert client.submit(add, 1, 1).result(timeout=20) == 2
        assert [future.payload for future in futures] == payloads and None not in payloads
        assert isinstance(failed.exception(timeout=20), ZeroDivisionError)


def test_what_was_cancelled_meanwhile_ends_as_cancelled(
    make_cluster: Callable[..., LocalCluster], away: Callable[[bool], None], gate: Gate
) -> None:
    cluster = make_cluster()
    with Client(cluster) as client, Client(cluster, set_as_default=False) as other:
        cancelled = client.submit(number_after, gate, 1, key="shared")
        kept = client.submit(number_after, gate, 2)
        gate.wait_for(2)
        also = other.submit(number_after, gate, 1, key="shared")
        other.ncores()
        on_loop(client, lambda: entry_of(cluster, client).peer.abort(CommClosedError("cut")))
        away(True)
        until(lambda: entry_of(cluster, client) is None, "the loss of the client")
        other.cancel(also, force=True)
        away(False)
        with pytest.raises(FutureCancelledError, match="does not know the task any more"):
            cancelled.result(timeout=20)
        gate.open()
        assert kept.result(timeout=20) == 2


def test_when_the_grace_is_over_the_futures_end_with_the_reason(
    make_cluster: Callable[..., LocalCluster], away: Callable[[bool], None], gate: Gate
) -> None:
    cluster = make_cluster("100ms")
    with config.set({"scheduler.client-grace": "300ms"}):
        client = Client(cluster)
    future = client.submit(number_after, gate, 1)
    gate.wait_for(1)
    away(True)
    cut(cluster, client)
    with pytest.raises(FutureCancelledError, match=r"scheduler\.client-grace"):
        future.result(timeout=20)
    with pytest.raises(ClosedClientError):
        client.submit(add, 1, 1)
    client.close()


def test_a_client_that_returns_too_late_is_refused(
    make_cluster: Callable[..., LocalCluster], away: Callable[[bool], None], gate: Gate
) -> None:
    cluster = make_cluster("50ms")
    core = cluster.scheduler.core
    client = Client(cluster)
    future = client.submit(number_after, gate, 1)
    gate.wait_for(1)
    away(True)
    cut(cluster, client)
    until(lambda: core.n_tasks() == 0, "the release of everything")
    away(False)
    with pytest.raises(FutureCancelledError, match="does not know the client"):
        future.result(timeout=20)
    client.close()


def test_a_client_closes_while_it_is_away(
    make_cluster: Callable[..., LocalCluster], away: Callable[[bool], None], gate: Gate
) -> None:
    cluster = make_cluster()
    client = Client(cluster)
    future = client.submit(number_after, gate, 1)
    away(True)
    cut(cluster, client)
    until(lambda: not client._connection.is_open, "the end of the connection")
    client.close()
    assert future.cancelled()


def test_those_who_submit_wait_while_too_much_is_not_applied(
    make_cluster: Callable[..., LocalCluster], away: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastdist.client.sending, "MAX_UNAPPLIED_BYTES", 100_000)
    cluster = make_cluster()
    with Client(cluster) as client:
        away(True)
        cut(cluster, client)
        until(lambda: not client._connection.is_open, "the end of the connection")
        first = client.submit(len, bytes(200_000))
        done: list[Any] = []
        thread = threading.Thread(target=lambda: done.append(client.submit(len, bytes(300_000))))
        thread.start()
        thread.join(0.1)
        assert not done and thread.is_alive()
        away(False)
        thread.join(20)
        assert client.gather([first, *done]) == [200_000, 300_000]
        until(lambda: client._connection._outbox.n_bytes < 100_000, "the news of what was applied")


def test_data_whose_announcement_was_not_answered_is_given_up(
    make_cluster: Callable[..., LocalCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Data.scatter
    announced, needed = threading.Event(), threading.Event()

    async def break_off(self: Data, peer: Peer, fields: dict[str, Any], buffers: list[Any]) -> Any:
        answer = await real(self, peer, fields, buffers)
        announced.set()
        await asyncio.get_running_loop().run_in_executor(None, needed.wait, 20)
        peer.abort(CommClosedError("cut by the test"))
        return answer

    monkeypatch.setattr(Data, "scatter", break_off)
    cluster = make_cluster()
    with Client(cluster) as client, Client(cluster) as other, ThreadPoolExecutor(1) as beside:
        scattered = beside.submit(client.scatter, {"number": 1})
        assert announced.wait(20)
        waiting = other.submit(add, Future("number", other), 1)
        until(lambda: any(task["key"] == waiting.key for task in tasks_of(other)), "the submission")
        needed.set()
        with pytest.raises(CommClosedError):
            scattered.result(20)
        with pytest.raises(TaskLostError, match="did not arrive"):
            waiting.result(timeout=20)
