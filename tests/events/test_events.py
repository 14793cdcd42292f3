"""Events by topic: noting, asking, following. May import: fastdist, pytest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastdist import Client, LocalCluster, config, get_worker
from fastdist.scheduler.extensions import events as events_module
from fastdist.scheduler.extensions.events import Events
from fastdist.scheduler.scheduler import Scheduler

Eventually = Callable[..., Any]


def test_an_event_of_a_client_is_kept_with_its_time_and_its_lists_come_as_tuples(client: Client) -> None:
    client.log_event("one", {"a": [1, "x", None], 2: b"raw"})
    client.log_event("one", 5)
    (time_1, message), (time_2, second) = client.get_events("one")
    assert (message, second) == ({"a": (1, "x", None), 2: b"raw"}, 5)
    assert 0 < time_1 <= time_2


def test_an_event_can_have_several_topics(client: Client) -> None:
    client.log_event(["left", "right"], "both")
    assert [message for _, message in client.get_events("left")] == ["both"]
    assert [message for _, message in client.get_events()["right"]] == ["both"]


def test_a_topic_without_events_is_empty(client: Client) -> None:
    assert client.get_events("never") == ()


@pytest.mark.parametrize("message", [object(), {1, 2}, {"a": lambda: 1}, 2**70])
def test_a_message_that_is_not_made_of_plain_values_is_refused(client: Client, message: object) -> None:
    with pytest.raises(TypeError, match="message of an event"):
        client.log_event("one", message)


def test_tasks_note_events_through_their_worker(client: Client) -> None:
    client.submit(lambda: get_worker().log_event("from-task", "hello"), pure=False).result()
    assert [message for _, message in client.get_events("from-task")] == ["hello"]


def test_the_cluster_notes_who_comes_and_goes(client: Client, cluster: LocalCluster) -> None:
    workers = set(client.scheduler_info()["workers"])
    with Client(cluster) as other:
        name = other.id
    noted = [message for _, message in client.get_events("all")]
    assert {message["worker"] for message in noted if message["action"] == "add-worker"} == workers
    assert [message["action"] for message in noted if message.get("client") == name] == ["add-client", "remove-client"]


def test_a_subscriber_gets_what_happens_after_it_subscribed(client: Client, eventually: Eventually) -> None:
    got: list[Any] = []
    client.log_event("news", "before")
    client.subscribe_topic("news", got.append)
    client.log_event("news", "after")
    assert eventually(lambda: got)
    assert [message for _, message in got] == ["after"]
    client.unsubscribe_topic("news")
    client.log_event("news", "too late")
    assert [message for _, message in got] == ["after"]


def test_a_subscriber_hears_of_events_of_other_clients(
    client: Client, cluster: LocalCluster, eventually: Eventually
) -> None:
    got: list[Any] = []
    client.subscribe_topic("shared", got.append)
    with Client(cluster) as other:
        other.log_event("shared", 1)
    assert eventually(lambda: got)


def test_a_handler_may_be_a_coroutine_function(client: Client, eventually: Eventually) -> None:
    got: list[Any] = []

    async def handler(event: Any) -> None:
        await asyncio.sleep(0)
        got.append(event[1])

    client.subscribe_topic("async", handler)
    client.log_event("async", 7)
    assert eventually(lambda: got) == [7]


def test_a_handler_that_fails_is_logged_and_called_again(
    client: Client, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[Any] = []

    def handler(event: Any) -> None:
        got.append(event[1])
        raise RuntimeError("no use for it")

    client.subscribe_topic("failing", handler)
    client.log_event("failing", 1)
    client.log_event("failing", 2)
    assert eventually(lambda: len(got) == 2)
    assert eventually(lambda: caplog.text.count("no use for it") >= 2)


def test_another_handler_takes_the_place_of_the_first(client: Client, eventually: Eventually) -> None:
    first: list[Any] = []
    second: list[Any] = []
    client.subscribe_topic("replaced", first.append)
    client.subscribe_topic("replaced", second.append)
    client.log_event("replaced", 1)
    assert eventually(lambda: second)
    assert not first


def test_unsubscribing_an_unknown_topic_names_those_that_are_followed(client: Client) -> None:
    with pytest.raises(ValueError, match="print, warn"):
        client.unsubscribe_topic("never")


def test_a_handler_must_be_callable(client: Client) -> None:
    with pytest.raises(TypeError, match="callable"):
        client.subscribe_topic("news", "not me")  # type: ignore[arg-type]


def test_an_asynchronous_client_follows_and_notes() -> None:
    async def main() -> list[Any]:
        async with Scheduler(protocol="inproc://") as scheduler, Client(scheduler.address, asynchronous=True) as client:
            got: asyncio.Queue[Any] = asyncio.Queue()
            client.subscribe_topic("news", got.put)
            await client.log_event("news", "hello")
            scheduler.log_event("news", "from the scheduler")
            received = [(await asyncio.wait_for(got.get(), 5))[1] for _ in range(2)]
            assert [message for _, message in await client.get_events("news")] == received
            assert [message for _, message in scheduler.get_events("news")] == received
            return received

    assert asyncio.run(main()) == ["hello", "from the scheduler"]


# -- bounds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ring() -> Events:
    """The events of a scheduler that is not started, with room for three of each topic."""
    with config.set({"admin.low-level-log-length": 3}):
        found = Scheduler(protocol="inproc://").extensions["events"]
    assert isinstance(found, Events)
    return found


def test_the_oldest_events_of_a_topic_go_first(ring: Events) -> None:
    for number in range(5):
        ring.log_event("counted", number)
    assert [message for _, message in ring.get_events("counted")] == [2, 3, 4]


def test_beyond_the_bytes_for_all_events_the_topic_that_was_quiet_longest_loses(
    ring: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "MAX_TOTAL_BYTES", 300)
    for topic in ("quiet", "loud", "loud"):
        ring.log_event(topic, "x" * 100)
    assert set(ring.get_events()) == {"loud"}
    assert len(ring.get_events("loud")) == 2


def test_beyond_the_number_of_topics_the_quietest_one_goes(
    ring: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "MAX_TOPICS", 2)
    for topic in ("a", "b", "a", "c"):
        ring.log_event(topic, None)
    assert set(ring.get_events()) == {"a", "c"}


def test_an_event_that_is_too_large_is_refused(ring: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "MAX_EVENT_BYTES", 10)
    with pytest.raises(ValueError, match="may have 10 bytes; this one has"):
        ring.log_event("a", "x" * 11)
    with pytest.raises(ValueError, match="name of a topic"):
        ring.log_event("a" * 2_000, None)
