"""Variable: set, got, deleted; futures in it stay alive."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastdist import Client, Variable


def square(x: int) -> int:
    return x * x


def test_what_is_set_is_got_by_all(client: Client, other: Client) -> None:
    variable = Variable("v")
    variable.set(1)
    variable.set({"two": (2, None)})
    assert Variable("v", client=other).get() == {"two": (2, None)}
    assert variable.get() == {"two": (2, None)}


def test_getting_waits_until_it_is_set(
    client: Client, threads: ThreadPoolExecutor, extensions: Any, eventually: Any
) -> None:
    with pytest.raises(TimeoutError, match="'late' was not set within"):
        Variable("late").get(timeout="10 ms")
    waiting = [threads.submit(Variable("late").get) for _ in range(3)]
    assert eventually(lambda: [len(line) for line in extensions["variables"].lines.values()] == [3])
    Variable("late").set(5)
    assert [each.result(10) for each in waiting] == [5, 5, 5]


def test_a_deleted_one_is_not_set(client: Client, extensions: Any, eventually: Any) -> None:
    variable = Variable("deleted")
    variable.set(client.submit(square, 21))
    assert variable.delete() is None
    with pytest.raises(TimeoutError):
        variable.get(timeout=0.01)
    assert eventually(lambda: client.cluster.scheduler.core.n_tasks() == 0)


def test_a_future_in_it_stays_alive_until_it_is_set_anew(
    client: Client, other: Client, extensions: Any, eventually: Any
) -> None:
    core = client.cluster.scheduler.core
    variable = Variable("future")
    variable.set(client.submit(square, 22))
    theirs = Variable("future", client=other)
    assert theirs.get().result() == 484
    assert theirs.get().client is other
    future = theirs.get()
    variable.set([client.submit(square, 23)])
    assert future.result() == 484
    assert theirs.get()[0].result() == 529
    del future
    assert eventually(lambda: core.n_tasks() == 1 and not extensions["variables"].given)
    variable.set(None)
    assert eventually(lambda: core.n_tasks() == 0)


def test_a_failed_future_raises_for_who_gets_it(client: Client, other: Client) -> None:
    variable = Variable("failed")
    variable.set(client.submit(square, None))
    with pytest.raises(TypeError, match="NoneType"):
        Variable("failed", client=other).get().result()


def test_pickles_have_the_name(client: Client) -> None:
    assert pickle.loads(pickle.dumps(Variable("p"))).name == "p"
    assert Variable().name.startswith("variable-")
