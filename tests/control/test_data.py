"""Data that users place: scatter through either way, replicate, rebalance, and the active memory manager.

May import: fastdist, pytest, the standard library.
"""

from __future__ import annotations

import collections
from typing import Any

import pytest

from fastdist import Client, LocalCluster, config, get_client, get_worker
from fastdist.rpc.peer import Peer

Point = collections.namedtuple("Point", "x y")


def addresses(client: Client) -> list[str]:
    return list(client.scheduler_info()["workers"])


def copies(client: Client, futures: Any) -> list[int]:
    return [len(who) for who in client.who_has(futures).values()]


# -- scatter


@pytest.mark.parametrize("direct", [True, False, None])
def test_data_comes_back_in_the_container_that_it_was_in(client: Client, direct: bool | None) -> None:
    for data in ([1, "two"], (3, 4), {5, 6}, frozenset([7]), {"key": 8}, Point(9, 10), 11, [bytes(100_000)]):
        futures = client.scatter(data, direct=direct)
        assert type(futures) is type(data) or data == 11
        assert client.gather(futures) == data if not isinstance(data, Point) else True
        if isinstance(data, Point):
            assert (futures.x.result(), futures.y.result()) == data


def test_equal_values_have_the_same_key_unless_told_otherwise(client: Client) -> None:
    one, two = client.scatter([1, 1])
    assert one.key == two.key
    other = client.scatter(1, hash=False)
    assert other.key != one.key
    assert other.result() == 1


@pytest.mark.parametrize("direct", [True, False])
def test_broadcast_puts_copies_on_workers_and_they_stay(client: Client, direct: bool) -> None:
    everywhere = client.scatter(["all"], broadcast=True, direct=direct)
    twice = client.scatter(["some"], broadcast=2, direct=direct)
    client.amm.run_once()
    assert copies(client, everywhere) == [3]
    assert copies(client, twice) == [2]


@pytest.mark.parametrize("broadcast", [0.5, "yes", -1, 0])
def test_a_broadcast_that_is_no_number_of_copies_is_an_error(client: Client, broadcast: Any) -> None:
    with pytest.raises(ValueError, match="broadcast"):
        client.scatter([1], broadcast=broadcast)
    assert client.scheduler_info()["n_workers"] == 3
    assert client.who_has() == {}


def test_a_worker_that_is_not_there_is_an_error(client: Client) -> None:
    with pytest.raises(ValueError, match="there is no worker 'nobody'"):
        client.scatter([1], workers="nobody")


def test_without_workers_scatter_waits_until_the_timeout() -> None:
    with (
        LocalCluster(n_workers=0, processes=False) as cluster,
        Client(cluster) as client,
        pytest.raises(TimeoutError, match="No valid workers found"),
    ):
        client.scatter([1], timeout="10ms")


def test_in_a_task_data_stays_on_its_worker(client: Client) -> None:
    def scatters() -> tuple[str, Any]:
        future = get_client().scatter([1, 2, 3])
        return get_worker().address, [*get_client().who_has(future).values()]

    address, who = client.submit(scatters).result(timeout=10)
    assert [list(each) for each in who] == [[address]] * 3


def test_data_that_reaches_no_worker_goes_through_the_scheduler(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(address: str) -> Peer:
        raise OSError(f"no route to {address}")

    monkeypatch.setattr(client._scatterer._pool, "get", unreachable)
    futures = client.scatter([1, 2, 3])
    monkeypatch.undo()
    assert client.gather(futures) == [1, 2, 3]


def test_if_a_put_fails_tasks_that_wait_for_the_data_fail_with_the_reason(
    cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Client(cluster, set_as_default=False)
    waiting = []

    async def fails(pieces: Any) -> str:
        # Somebody needs the data before it is there.
        future = other._reference(pieces[0].key)
        waiting.append(other.submit(str, future, pure=False))
        await other_has_sent()
        raise OSError("the disk is full")

    async def other_has_sent() -> None:
        await other._view.identity()

    monkeypatch.setattr(client._scatterer, "_put_directly", fails)
    with pytest.raises(OSError, match="the disk is full"):
        client.scatter(["data"])
    with pytest.raises(Exception, match=r"did not arrive: OSError: the disk is full; scatter it again"):
        waiting[0].result(timeout=10)
    monkeypatch.undo()
    assert client.scatter(["data"])[0].result() == "data"
    other.close()


# -- replicate


def test_replicate_gives_as_many_workers_a_copy_as_asked_for(client: Client) -> None:
    futures = client.map(str, range(5))
    client.replicate(futures, n=2)
    assert copies(client, futures) == [2] * 5
    client.replicate(futures)
    assert copies(client, futures) == [3] * 5
    client.amm.run_once()
    assert copies(client, futures) == [3] * 5
    client.replicate(futures, n=1)
    assert copies(client, futures) == [1] * 5
    assert client.gather(futures) == ["0", "1", "2", "3", "4"]


def test_only_the_named_workers_count(client: Client) -> None:
    first, second, third = addresses(client)
    (future,) = client.scatter([1], workers=[first])
    client.replicate(future, workers=[second, third], branching_factor=1)
    assert set(*client.who_has(future).values()) == {first, second, third}


def test_what_cannot_be_replicated_is_an_error(client: Client) -> None:
    failing = client.submit(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        client.replicate(failing)
    with pytest.raises(ValueError, match="at least 1"):
        client.replicate([], n=0)
    with pytest.raises(ValueError, match="branching_factor"):
        client.replicate([], branching_factor=0)
    with pytest.raises(ValueError, match="there is no worker 'nobody'"):
        client.replicate(client.submit(int), workers="nobody")


# -- rebalance


@pytest.fixture
def eager() -> Any:
    """Every byte counts, and only the data."""
    names = {"measure": "managed", "sender-min": 0, "sender-recipient-gap": 0}
    with config.set({f"worker.memory.rebalance.{name}": value for name, value in names.items()}):
        yield


def test_rebalance_spreads_data_over_the_workers(client: Client, eager: None) -> None:
    first, *_ = addresses(client)
    futures = client.scatter([bytes(1000) + bytes([number]) for number in range(9)], workers=[first])
    client.rebalance()
    held = {address: len(keys) for address, keys in client.has_what().items()}
    assert sorted(held.values()) == [3, 3, 3]
    assert len(client.gather(futures)) == 9


def test_rebalance_moves_only_the_futures_and_among_the_workers_that_are_named(client: Client, eager: None) -> None:
    first, second, third = addresses(client)
    stay = client.scatter([bytes(2000) + bytes([number]) for number in range(4)], workers=[first])
    may_go = client.scatter([bytes(1000) + bytes([number]) for number in range(4)], workers=[first])
    client.rebalance(may_go, workers=[first, second])
    assert {address for who in client.who_has(stay).values() for address in who} == {first}
    assert {address for who in client.who_has(may_go).values() for address in who} == {second}
    assert client.has_what([third]) == {third: ()} or not any(client.has_what([third]).values())


def test_workers_with_little_data_are_left_alone(client: Client) -> None:
    first, *_ = addresses(client)
    futures = client.scatter([bytes(1000), bytes(1001)], workers=[first])
    client.rebalance()
    assert {address for who in client.who_has(futures).values() for address in who} == {first}


def test_what_is_not_in_memory_cannot_be_rebalanced(client: Client) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        client.rebalance([client.submit(int, "x")])


# -- the active memory manager


def test_copies_that_tasks_left_behind_are_dropped(client: Client) -> None:
    client.amm.stop()
    first, second, _ = addresses(client)
    (data,) = client.scatter([bytes(1000)], workers=[first])
    result = client.submit(len, data, workers=[second])
    assert result.result() == 1000
    assert copies(client, data) == [2]
    client.amm.run_once()
    assert copies(client, data) == [1]
    assert data.result() == bytes(1000)


def test_it_runs_from_time_to_time_by_itself(eventually: Any) -> None:
    with (
        config.set({"scheduler.active-memory-manager.interval": "10ms"}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False) as cluster,
        Client(cluster) as client,
    ):
        assert client.amm.running()
        first, second = addresses(client)
        (data,) = client.scatter(["x"], workers=[first])
        client.submit(str, data, workers=[second]).result()
        assert eventually(lambda: copies(client, data) == [1])
        client.amm.stop()
        assert not client.amm.running()
        client.amm.start()
        assert client.amm.running()


def test_settings_can_keep_it_from_starting() -> None:
    with (
        config.set({"scheduler.active-memory-manager.start": False}),
        LocalCluster(n_workers=1, processes=False) as cluster,
        Client(cluster) as client,
    ):
        assert not client.amm.running()


def test_a_policy_that_does_not_exist_is_an_error() -> None:
    policies = [{"class": "my.own.Policy"}]
    with (
        config.set({"scheduler.active-memory-manager.policies": policies}),
        pytest.raises(RuntimeError, match=r"my\.own\.Policy"),
        LocalCluster(n_workers=0, processes=False),
    ):
        pass
