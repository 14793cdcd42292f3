"""What a user calls on a client, on a real cluster: submit, map, gather, scatter, run and the questions."""

from __future__ import annotations

import operator
import os
import threading
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

from fastdist import Client, Future, LocalCluster, get_client, get_worker, wait
from fastdist.errors import FutureCancelledError, WorkerStartTimeoutError

Point = namedtuple("Point", "x y")


def inc(x: int) -> int:
    return x + 1


def describe(value: Any) -> str:
    return repr(value)


async def slowly(x: int) -> int:
    import asyncio

    await asyncio.sleep(0.001)
    return -x


def test_submit_gives_the_result(client: Client) -> None:
    assert client.submit(operator.add, 1, 2).result() == 3
    assert client.submit(dict, a=1, b=[2]).result() == {"a": 1, "b": [2]}
    assert client.submit(lambda: None).result() is None
    assert client.submit(slowly, 3).result() == -3


def test_map_gives_one_future_per_row_in_order(client: Client) -> None:
    futures = client.map(operator.mul, range(100), range(100))
    assert client.gather(futures) == [i * i for i in range(100)]
    assert client.gather(client.map(inc, [])) == []
    assert client.gather(client.map(operator.add, [1, 2, 3], [10, 20])) == [11, 22]


def test_map_passes_keywords_batches_and_keys(client: Client) -> None:
    assert client.gather(client.map(int, ["11", "12"], base=3)) == [4, 5]
    assert client.gather(client.map(inc, range(57), batch_size=10)) == list(range(1, 58))
    futures = client.map(inc, [1, 2], key=["one", ("two", 2)])
    assert [future.key for future in futures] == ["one", ("two", 2)]
    assert client.gather(futures) == [2, 3]
    assert all(future.key.startswith("stem-") for future in client.map(inc, [5, 6], key="stem"))


def test_many_small_tasks(client: Client) -> None:
    assert sum(client.gather(client.map(inc, range(20_000)))) == sum(range(1, 20_001))


def test_futures_in_arguments_arrive_as_results_at_any_depth(client: Client) -> None:
    one, two = client.map(inc, [0, 1])
    nested = [one, (two, [one, {"k": {"deep": [two]}}]), {"a": one}, {two}]
    result = client.submit(describe, nested)
    assert result.result() == "[1, (2, [1, {'k': {'deep': [2]}}]), {'a': 1}, {2}]"
    assert client.submit(dict, a=[one], b=(two,)).result() == {"a": [1], "b": (2,)}
    assert client.gather(client.map(operator.add, [one, two], [two, 10])) == [3, 12]


def test_gather_keeps_the_shape(client: Client) -> None:
    one, two = client.map(inc, [0, 1])
    nest = {"a": [one, (two, 7)], "b": {one}, "c": "text"}
    assert client.gather(nest) == {"a": [1, (2, 7)], "b": {1}, "c": "text"}
    assert client.gather(one) == 1
    assert client.gather([]) == []
    assert list(client.gather(iter([one, two]))) == [1, 2]
    assert client.gather([one, one, two, one]) == [1, 1, 2, 1]
    with pytest.raises(ValueError, match="errors="):
        client.gather([one], errors="ignore")


def test_gather_can_skip_what_failed(client: Client) -> None:
    good, bad = client.map(operator.truediv, [4, 4], [2, 0])
    assert client.gather([good, bad], errors="skip") == [2]
    assert client.gather({"g": good, "b": [bad]}, errors="skip") == {"g": 2, "b": []}
    with pytest.raises(ZeroDivisionError):
        client.gather([good, bad])


@pytest.mark.parametrize("direct", [True, False])
def test_results_come_from_the_workers_or_through_the_scheduler(client: Client, direct: bool) -> None:
    futures = client.map(bytes, [100_000, 200_000, 300_000])
    assert [len(value) for value in client.gather(futures, direct=direct)] == [100_000, 200_000, 300_000]


def test_the_same_pure_call_runs_once(client: Client) -> None:
    def random_number(salt: str) -> bytes:
        import os

        return os.urandom(16)

    salt = client.id
    first = client.submit(random_number, salt)
    again = client.submit(random_number, salt)
    assert first.key == again.key
    assert first.result() == again.result()
    other = client.submit(random_number, salt, pure=False)
    assert other.key != first.key
    assert other.result() != first.result()


def test_the_same_pure_call_of_two_clients_runs_once(client: Client, cluster: LocalCluster) -> None:
    salt = client.id
    with Client(cluster) as second:
        mine = client.submit(lambda salt: os.urandom(16), salt)
        theirs = second.submit(lambda salt: os.urandom(16), salt)
        assert mine.result() == theirs.result()


def test_scatter_keeps_the_container(client: Client) -> None:
    assert client.gather(client.scatter([1, "two", None])) == [1, "two", None]
    assert client.gather(client.scatter((1, 2))) == (1, 2)
    assert client.gather(client.scatter({1, 2})) == {1, 2}
    named = client.scatter({"x-of-dict": 1, ("y", 0): [2]})
    assert {key: future.key for key, future in named.items()} == {"x-of-dict": "x-of-dict", ("y", 0): ("y", 0)}
    assert client.gather(named) == {"x-of-dict": 1, ("y", 0): [2]}
    point = client.scatter(Point(1, 2))
    assert isinstance(point, Point)
    assert client.gather([point.x, point.y]) == [1, 2]
    single = client.scatter(np.arange(10_000))
    assert isinstance(single, Future)
    assert client.submit(np.sum, single).result() == 49_995_000
    assert client.gather(client.scatter(range(3))) == [0, 1, 2]


def test_scatter_to_some_and_to_all_workers(client: Client) -> None:
    addresses = sorted(client.scheduler_info()["workers"])
    everywhere = client.scatter(b"x" * 1000 + client.id.encode(), broadcast=True)
    assert sorted(client.who_has(everywhere)[everywhere.key]) == addresses
    here = client.scatter([client.id + "here"], workers=[addresses[1]])
    assert client.who_has(here)[here[0].key] == [addresses[1]]
    same = client.scatter("equal" + client.id)
    assert client.scatter("equal" + client.id).key == same.key
    assert client.scatter("equal" + client.id, hash=False).key != same.key


def test_scattered_data_is_an_input(client: Client) -> None:
    table = client.scatter({"table": {"a": 1}})["table"]
    assert client.gather(client.map(operator.getitem, [table] * 3, ["a"] * 3)) == [1, 1, 1]


def test_run_calls_on_every_worker(client: Client) -> None:
    addresses = set(client.scheduler_info()["workers"])
    assert set(client.run(os.getpid)) == addresses
    assert client.run(lambda dask_worker: dask_worker.address) == {each: each for each in addresses}
    one = sorted(addresses)[0]
    assert client.run(inc, 1, workers=[one]) == {one: 2}
    assert set(client.run(slowly, 1).values()) == {-1}
    with pytest.raises(ZeroDivisionError):
        client.run(operator.truediv, 1, 0)
    errors = client.run(operator.truediv, 1, 0, on_error="return")
    assert {type(error) for error in errors.values()} == {ZeroDivisionError}
    assert client.run(operator.truediv, 1, 0, on_error="ignore") == {}
    with pytest.raises(ValueError, match="no worker 'nowhere'"):
        client.run(inc, 1, workers=["nowhere"])


def test_questions_about_the_cluster(client: Client) -> None:
    info = client.scheduler_info()
    assert info["type"] == "Scheduler"
    assert info["address"] == client.scheduler_address
    assert len(info["workers"]) == 2
    assert client.nthreads() == dict.fromkeys(info["workers"], 1)
    assert client.ncores() == client.nthreads()
    client.wait_for_workers(2, timeout=5)
    with pytest.raises(WorkerStartTimeoutError, match="2 of 3"):
        client.wait_for_workers(3, timeout=0.05)
    with pytest.raises(ValueError, match="n_workers"):
        client.wait_for_workers(0)


def test_who_has_and_has_what_agree(client: Client) -> None:
    futures = client.map(inc, range(10))
    wait(futures)
    holders = client.who_has(futures)
    assert set(holders) == {future.key for future in futures}
    held = client.has_what()
    for key, addresses in holders.items():
        assert len(addresses) == 1
        assert key in held[addresses[0]]


def test_released_futures_free_the_data(client: Client, eventually: Any) -> None:
    def size() -> int:
        return sum(client.run(lambda dask_worker: len(dask_worker.data)).values())

    assert eventually(lambda: size() == 0)
    futures = client.map(inc, range(50))
    total = client.submit(sum, futures)
    assert total.result() == sum(range(1, 51))
    assert size() == 51
    del futures
    assert eventually(lambda: size() == 1)
    assert [key for key, holders in client.who_has().items() if holders] == [total.key]
    total.release()
    assert eventually(lambda: size() == 0)
    assert client.who_has() == {}
    assert not any(client.has_what().values())


def test_data_that_two_clients_want_stays_until_both_let_go(
    client: Client, cluster: LocalCluster, eventually: Any
) -> None:
    future = client.submit(inc, 123_456)
    assert future.result() == 123_457
    with Client(cluster) as second:
        same = second.submit(inc, 123_456)
        assert same.result() == 123_457
        key = future.key
        del future
        assert second.submit(inc, same).result() == 123_458
        assert key in client.who_has()
    assert eventually(lambda: key not in client.who_has())


def test_a_client_that_closes_gives_everything_back(client: Client, cluster: LocalCluster, eventually: Any) -> None:
    with Client(cluster) as second:
        future = second.scatter(["leaves with its client"])[0]
        assert future.key in client.who_has()
    assert future.status == "cancelled"
    assert eventually(lambda: future.key not in client.who_has())


def test_cancel_reaches_dependents_and_says_why(client: Client) -> None:
    first = client.submit(lambda: threading.Event().wait(0.05), pure=False)
    second = client.submit(describe, first)
    client.cancel(first, reason="changed-mind", msg="it was not needed after all")
    assert first.cancelled()
    with pytest.raises(FutureCancelledError, match="changed-mind") as caught:
        first.result(timeout=5)
    assert "not needed after all" in str(caught.value)
    with pytest.raises(FutureCancelledError):
        second.result(timeout=5)
    again = client.submit(describe, 1)
    assert again.result() == "1"


def test_a_cancelled_call_can_be_submitted_again(client: Client) -> None:
    future = client.submit(inc, 77)
    client.cancel(future)
    again = client.submit(inc, 77)
    assert again.result(timeout=5) == 78


def test_retry_runs_failed_tasks_again(client: Client) -> None:
    def fail_once(token: str) -> str:
        import builtins

        if not hasattr(builtins, token):
            setattr(builtins, token, True)
            raise ValueError("the first time")
        return "done"

    token = client.id.replace("-", "_")
    worker = sorted(client.scheduler_info()["workers"])[0]
    future = client.submit(fail_once, token, workers=worker)
    after = client.submit(len, future)
    with pytest.raises(ValueError, match="the first time"):
        after.result(timeout=5)
    after.retry()
    assert after.result(timeout=5) == 4
    assert future.result(timeout=5) == "done"


def test_retries_are_counted(client: Client) -> None:
    def fail_until(token: str, limit: int) -> int:
        import builtins

        count = getattr(builtins, token, 0) + 1
        setattr(builtins, token, count)
        if count <= limit:
            raise ValueError(f"failure {count}")
        return count

    token = client.id.replace("-", "_")
    worker = sorted(client.scheduler_info()["workers"])[0]
    enough = client.submit(fail_until, token + "a", 2, retries=2, workers=worker)
    assert enough.result(timeout=5) == 3
    too_few = client.submit(fail_until, token + "b", 2, retries=1, workers=worker)
    with pytest.raises(ValueError, match="failure 2"):
        too_few.result(timeout=5)


def test_tasks_know_their_worker_and_client(client: Client) -> None:
    addresses = set(client.scheduler_info()["workers"])
    assert client.submit(lambda: get_worker().address, pure=False).result() in addresses


def test_the_current_client(client: Client) -> None:
    assert Client.current() is client
    assert get_client() is client
    with pytest.raises(ValueError, match="belongs to another client"), Client(client.cluster) as second:
        assert Client.current() is second
        second.gather([client.submit(inc, 1)])
    assert Client.current() is client


def test_two_clients_and_eight_threads_at_once(client: Client, cluster: LocalCluster) -> None:
    results: dict[int, list[int]] = {}

    def work(number: int, own: Client) -> None:
        futures = own.map(operator.add, range(300), [number] * 300)
        singles = [own.submit(operator.sub, i, number).result() for i in range(10)]
        results[number] = own.gather(futures) + singles

    with Client(cluster) as second:
        threads = [
            threading.Thread(target=work, args=(number, client if number % 2 else second)) for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    for number in range(8):
        assert results[number] == [i + number for i in range(300)] + [i - number for i in range(10)]


def test_close_is_idempotent_and_final(cluster: LocalCluster) -> None:
    client = Client(cluster)
    future = client.submit(inc, 1)
    assert future.result() == 2
    client.close()
    client.close()
    assert client.status == "closed"
    assert repr(client) == "<Client: No scheduler connected>"
    assert future.status == "cancelled"
    with pytest.raises(FutureCancelledError, match="client-closed"):
        future.result(timeout=1)


def test_representations(client: Client) -> None:
    assert client.scheduler_address in repr(client)
    assert client.scheduler_address in client._repr_html_()
    future = client.submit(inc, 1)
    wait(future)
    assert repr(future) == f"<Future: finished, type: int, key: {future.key}>"
    assert str(future.key) in future._repr_html_()
    odd = client.submit(inc, 1, key="<b>odd</b>")
    assert "<b>odd" not in odd._repr_html_()
