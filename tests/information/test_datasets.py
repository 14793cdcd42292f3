"""Published datasets: names, futures that outlive their client, what is refused. May import: fastdist, pytest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastdist import Client, Future, LocalCluster, config, wait


@pytest.fixture(autouse=True)
def nothing_is_published(client: Client) -> Iterator[None]:
    yield
    client.unpublish_dataset(list(client.list_datasets()))


@pytest.fixture
def other(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, set_as_default=False) as other:
        yield other


def test_a_dataset_is_found_by_other_clients(client: Client, other: Client) -> None:
    client.publish_dataset(numbers=[1, 2], text="a")
    assert other.list_datasets() == ("numbers", "text")
    assert other.get_dataset("numbers") == [1, 2]
    assert other.get_dataset(["text", "numbers"]) == ["a", [1, 2]]


@pytest.mark.parametrize("name", ["a", b"a", 1, ("a", 0)])
def test_names_are_keys(client: Client, name: Any) -> None:
    client.publish_dataset(5, name=name)
    assert client.list_datasets() == (name,)
    assert client.get_dataset(name) == 5


def test_a_mapping_publishes_all_of_it(client: Client) -> None:
    client.publish_dataset({"a": 1, ("b", 2): 2}, c=3)
    assert set(client.list_datasets()) == {"a", ("b", 2), "c"}


def test_futures_in_a_dataset_outlive_their_client(cluster: LocalCluster, client: Client) -> None:
    with Client(cluster, set_as_default=False) as author:
        author.publish_dataset(squares={"x": author.map(pow, range(4), [2] * 4)})
    found = client.get_dataset("squares")["x"]
    assert all(type(future) is Future and future.client is client for future in found)
    assert client.gather(found) == [0, 1, 4, 9]


def test_the_data_goes_with_the_dataset(client: Client, eventually: Callable[..., Any]) -> None:
    future = client.submit(pow, 3, 77)
    key = future.key
    wait(future)
    client.publish_dataset(one=future)
    future.release()
    client.publish_dataset(two=[1])
    assert client.who_has()[key]
    client.unpublish_dataset("one")
    assert eventually(lambda: key not in client.who_has())


def test_replacing_a_dataset_keeps_what_both_hold(client: Client) -> None:
    future = client.submit(pow, 3, 78)
    wait(future)
    client.publish_dataset(one=future)
    client.publish_dataset(one=[future], override=True)
    key = future.key
    future.release()
    assert client.who_has()[key]


def test_an_existing_name_needs_override(client: Client) -> None:
    client.publish_dataset(a=1)
    with pytest.raises(KeyError, match="Dataset a already exists"):
        client.publish_dataset(b=3, a=2)
    assert client.datasets["a"] == 1
    assert "b" not in client.datasets
    client.publish_dataset(a=2, override=True)
    assert client.datasets["a"] == 2


def test_a_missing_name_is_a_key_error_or_the_default(client: Client) -> None:
    with pytest.raises(KeyError, match="nothing"):
        client.get_dataset("nothing")
    assert client.get_dataset("nothing", default=None) is None
    client.unpublish_dataset("nothing")


def test_bad_forms_are_refused(client: Client) -> None:
    for args, kwargs in [((), {}), ((1, 2), {}), ((1,), {}), ((1, 2), {"name": "a"}), (({"a": 1},), {"a": 2})]:
        with pytest.raises(ValueError, match=r"publish_dataset|positional"):
            client.publish_dataset(*args, **kwargs)


def test_a_future_that_is_gone_is_refused(client: Client) -> None:
    future = client.submit(pow, 3, 79)
    future.cancel()
    with pytest.raises(ValueError, match="cannot be published"):
        client.publish_dataset(gone=future)
    assert client.list_datasets() == ()


def test_values_that_are_too_large_together_are_refused(client: Client) -> None:
    with config.set({"scheduler.max-dataset-bytes": 1000}):
        client.publish_dataset(a=b"x" * 600)
        with pytest.raises(MemoryError, match=r"scheduler\.max-dataset-bytes"):
            client.publish_dataset(b=b"x" * 600)
        client.publish_dataset(a=b"y" * 700, override=True)


def test_datasets_are_a_mapping(client: Client) -> None:
    client.datasets["a"] = 1
    assert dict(client.datasets) == {"a": 1}
    assert len(client.datasets) == 1
    del client.datasets["a"]
    assert list(client.datasets) == []


def test_an_asynchronous_client_awaits_datasets(cluster: LocalCluster) -> None:
    async def main() -> None:
        async with Client(cluster.scheduler_address, asynchronous=True, token_file=None) as client:
            await client.publish_dataset(a=1)
            assert await client.datasets["a"] == 1
            assert [name async for name in client.datasets] == ["a"]
            for forbidden in (lambda: len(client.datasets), lambda: list(client.datasets)):
                with pytest.raises(TypeError, match="synchronous"):
                    forbidden()
            with pytest.raises(TypeError, match="publish_dataset"):
                client.datasets["a"] = 2
            with pytest.raises(TypeError, match="unpublish_dataset"):
                del client.datasets["a"]
            await client.unpublish_dataset("a")
            assert await client.list_datasets() == ()

    asyncio.run(main())
