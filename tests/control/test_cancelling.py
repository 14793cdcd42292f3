"""Cancel, retry and gather what failed, and what they tell the user.

May import: fastdist, pytest, the standard library.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fastdist import Client, LocalCluster
from fastdist.errors import FutureCancelledError

go_on = threading.Event()
attempts: list[int] = []


@pytest.fixture(autouse=True)
def fresh() -> Any:
    go_on.clear()
    attempts.clear()
    yield
    go_on.set()


def blocked(value: Any = None) -> Any:
    """Executes until the test lets it end."""
    assert go_on.wait(20)
    return value


def fails_once() -> str:
    attempts.append(1)
    if len(attempts) == 1:
        raise OSError("the first time")
    return "fine"


def test_dependents_are_cancelled_with_the_reason_that_was_given(client: Client) -> None:
    first = client.submit(blocked)
    second = client.submit(str, first)
    client.cancel(first, reason="budget", msg="too expensive")
    for future in (first, second):
        with pytest.raises(FutureCancelledError, match=r"(?s)budget.*too expensive"):
            future.result(timeout=10)
        assert future.cancelled()


def test_what_others_want_goes_on_unless_it_is_forced(cluster: LocalCluster, client: Client) -> None:
    with Client(cluster, set_as_default=False) as other:
        mine, theirs = client.submit(blocked, 1, key="k"), other.submit(blocked, 1, key="k")
        client.cancel(mine)
        assert (mine.status, theirs.status) == ("cancelled", "pending")
        again = client.submit(blocked, 1, key="k")
        client.cancel(again, force=True, reason="clean-up")
        with pytest.raises(FutureCancelledError, match="clean-up"):
            theirs.result(timeout=10)


def test_a_retry_starts_at_the_root_of_the_failure(client: Client) -> None:
    root = client.submit(fails_once)
    leaf = client.submit(str.upper, client.submit(str, root))
    with pytest.raises(OSError, match="the first time"):
        leaf.result()
    client.retry([leaf])
    assert leaf.result(timeout=10) == "FINE"
    assert len(attempts) == 2


def test_a_retry_finds_the_root_when_what_is_between_was_released(client: Client, eventually: Any) -> None:
    tries = []

    def fails_first() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("the first time")
        return "fine"

    root = client.submit(fails_first, pure=False)
    between = client.submit(str, root)
    leaf = client.submit(str.upper, between)
    with pytest.raises(OSError, match="the first time"):
        leaf.result()
    scheduler = client.cluster.scheduler
    between_key = between.key
    del between
    assert eventually(lambda: scheduler.get_task_status([between_key])[between_key] != "erred")
    client.retry([leaf])
    assert leaf.result(timeout=10) == "FINE"


def test_a_retry_of_lost_data_is_answered_at_once(client: Client) -> None:
    holder = next(iter(client.scheduler_info()["workers"]))
    (data,) = client.scatter(["x"], workers=[holder])
    needs_it = client.submit(blocked, data, pure=False)

    def drop(dask_scheduler: Any) -> None:
        dask_scheduler.drop_worker(dask_scheduler.members.by_address[holder], "for the test")

    client.run_on_scheduler(drop)
    go_on.set()
    for future in (data, needs_it):
        with pytest.raises(Exception, match=r"was lost|fine"):
            future.result(timeout=10)
    client.retry([data])
    with pytest.raises(Exception, match="was lost with the last worker"):
        data.result(timeout=10)


@pytest.mark.parametrize("direct", [True, False])
def test_gather_leaves_out_what_failed_if_it_shall(client: Client, direct: bool) -> None:
    good, bad = client.submit(int, "3"), client.submit(int, "x")
    assert client.gather([bad, good], errors="skip", direct=direct) == [3]
    with pytest.raises(ValueError, match="invalid literal"):
        client.gather([good, bad], direct=direct)
