"""Workers retire: their data goes to others, what they execute may end, and then they are gone.

May import: the public names of fastdist, pytest, the standard library.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from fastdist import Client, LocalCluster, config, get_worker, wait

calls: list[int] = []
started, go_on = threading.Event(), threading.Event()


def counted(number: int) -> int:
    """Leaves a trace of each execution (workers share this process)."""
    calls.append(number)
    return number


def blocked() -> str:
    """Executes until the test lets it end."""
    started.set()
    assert go_on.wait(10)
    return str(get_worker().address)


@pytest.fixture(autouse=True)
def fresh_events() -> None:
    calls.clear()
    started.clear()
    go_on.clear()


def addresses(client: Client) -> list[str]:
    return list(client.scheduler_info()["workers"])


def holders(client: Client, futures: Any) -> set[str]:
    return {address for who in client.who_has(futures).values() for address in who}


def test_the_data_of_a_retired_worker_moves_and_nothing_is_computed_again(client: Client) -> None:
    leaving, *others = addresses(client)
    futures = client.map(counted, range(20), workers=[leaving], allow_other_workers=True)
    scattered = client.scatter({"data": [1, 2]}, workers=[leaving])
    wait(futures)
    assert holders(client, [futures, scattered]) == {leaving}
    retired = client.retire_workers([leaving])
    assert list(retired) == [leaving]
    assert retired[leaving]["type"] == "Worker"
    assert addresses(client) == others
    assert client.gather(futures) == list(range(20))
    assert client.gather(scattered) == {"data": [1, 2]}
    assert len(calls) == 20


def test_data_that_others_hold_already_is_not_copied_again(client: Client) -> None:
    leaving, other, _ = addresses(client)
    (future,) = client.scatter(["data"], workers=[leaving])
    client.replicate(future, workers=[leaving, other])
    client.retire_workers([leaving])
    assert holders(client, future) == {other}


def test_two_workers_retire_at_once_to_the_third(client: Client) -> None:
    first, second, stays = addresses(client)
    futures = client.scatter(list(range(10)), workers=[first, second])
    assert sorted(client.retire_workers([first, second])) == sorted([first, second])
    assert holders(client, futures) == {stays}
    assert client.gather(futures) == list(range(10))


def test_if_nobody_can_take_the_data_the_workers_stay_and_go_on(client: Client) -> None:
    futures = client.scatter(list(range(6)))
    assert client.retire_workers(addresses(client)) == {}
    assert len(addresses(client)) == 3
    assert client.gather(futures) == list(range(6))
    assert client.submit(sum, futures).result() == 15


def test_without_data_all_workers_can_retire(client: Client) -> None:
    assert len(client.retire_workers(addresses(client))) == 3
    assert addresses(client) == []


def test_names_choose_as_well(client: Client) -> None:
    workers = client.scheduler_info()["workers"]
    names = {str(worker["name"]): address for address, worker in workers.items()}
    name, address = names.popitem()
    assert list(client.retire_workers(names=[name])) == [address]
    assert client.retire_workers(names=["nobody"]) == {}


def test_what_executes_on_a_retiring_worker_may_end(client: Client, eventually: Any) -> None:
    leaving = addresses(client)[0]
    running = client.submit(blocked, workers=[leaving], allow_other_workers=True)
    assert started.wait(10)
    done: list[Any] = []
    retiring = threading.Thread(target=lambda: done.append(client.retire_workers([leaving])))
    retiring.start()
    assert eventually(lambda: client.scheduler_info()["workers"][leaving]["status"] == "closing_gracefully")
    # It gets nothing new meanwhile, not even what it alone could do.
    assert client.submit(lambda: get_worker().address, pure=False).result() != leaving
    assert not done
    go_on.set()
    retiring.join(10)
    assert list(done[0]) == [leaving]
    assert running.result() == leaving


def test_what_executes_for_too_long_is_done_elsewhere(client: Client) -> None:
    leaving = addresses(client)[0]
    with config.set({"scheduler.retire-patience": "10ms"}):
        running = client.submit(blocked, workers=[leaving], allow_other_workers=True)
        assert started.wait(10)
        closing = threading.Thread(target=client.retire_workers, args=([leaving],))
        closing.start()
        try:
            assert leaving != client.submit(lambda: get_worker().address, pure=False).result()
        finally:
            go_on.set()
            closing.join(20)
    assert running.result() != ""
    assert leaving not in addresses(client)


def test_the_cluster_chooses_idle_workers_with_the_least_data(client: Client) -> None:
    full = addresses(client)[0]
    (future,) = client.scatter([bytes(1000)], workers=[full])
    assert len(client.retire_workers(n=2)) == 2
    assert addresses(client) == [full]
    assert client.retire_workers(n=0) == {}
    assert future.result() == bytes(1000)


def test_a_minimum_of_workers_stays(client: Client) -> None:
    assert len(client.retire_workers(n=3, minimum=2)) == 1
    assert len(client.retire_workers(target=1)) == 1


def test_workers_with_the_same_key_leave_together(client: Client) -> None:
    assert len(client.retire_workers(n=3, minimum=1, key=lambda worker: worker.host)) == 0
    assert len(client.retire_workers(n=1, key=lambda worker: worker.address)) == 1


def test_workers_that_are_not_closed_only_give_their_data_away(client: Client) -> None:
    leaving, *_ = addresses(client)
    futures = client.scatter([1, 2], workers=[leaving])
    assert list(client.retire_workers([leaving], close_workers=False, remove=False)) == [leaving]
    assert len(addresses(client)) == 3
    assert holders(client, futures) - {leaving}
    assert all(client.submit(lambda: get_worker().address, pure=False).result() != leaving for _ in range(5))


def test_an_option_that_does_not_exist_and_a_choice_made_twice_are_errors(client: Client) -> None:
    with pytest.raises(TypeError, match="no options nonsense"):
        client.retire_workers(nonsense=1)
    with pytest.raises(TypeError, match="mutually exclusive"):
        client.retire_workers(["x"], names=["y"])
    with pytest.raises(TypeError, match="leave them out"):
        client.retire_workers(["x"], n=1)


def test_an_asynchronous_client_retires_workers() -> None:
    asyncio.run(retire_asynchronously())


async def retire_asynchronously() -> None:
    async with (
        LocalCluster(n_workers=2, processes=False, asynchronous=True) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        (future,) = await client.scatter([1])
        (holder,) = next(iter((await client.who_has(future)).values()))
        assert list(await client.retire_workers([holder])) == [holder]
        assert await future.result() == 1
        await client.wait_for_workers(1)
