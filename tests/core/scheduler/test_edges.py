"""Each edge of the table of legal transitions, seen to happen.

May import: fastdist._core, its siblings.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastdist._core.codec.frames import DoneStatus
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.transitions import LEGAL
from tests.core.scheduler.builders import Cluster, FakeClient
from tests.core.scheduler.frames import DoneRow

Story = Callable[[Cluster, FakeClient], Callable[[], object]]
STORIES: dict[tuple[str, str], Story] = {}


def edge(start: str, finish: str) -> Callable[[Story], Story]:
    """The story prepares a task "x" in the first state and returns what takes it to the second."""

    def note(story: Story) -> Story:
        STORIES[start, finish] = story
        return story

    return note


def scattered(cluster: Cluster, client: FakeClient, key: str) -> None:
    """Data of the client on worker 0."""
    client.ids[key] = client.next_id
    cluster.core.on_scatter(client.number, client.next_id, [encode_key(key)])
    client.next_id += 1
    cluster.replica(0, key)


def released_task_with_result(cluster: Cluster, client: FakeClient) -> None:
    """x is released, because only its finished dependent "y" is wanted."""
    client.submit("x")
    client.submit("y", "x")
    cluster.work_off()
    client.release("x")
    cluster.act()


@edge("released", "waiting")
def input_is_gone_too(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("w")
    client.submit("x", "w")
    client.submit("y", "x")
    cluster.work_off()
    client.release("w", "x")
    cluster.act()
    return lambda: client.submit("x")


@edge("released", "ready")
def wanted_again(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    released_task_with_result(cluster, client)
    return lambda: client.submit("x")


@edge("released", "scattering")
def scattered_again(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    scattered(cluster, client, "x")
    client.submit("y", "x")
    cluster.work_off()
    client.release("x")
    return lambda: cluster.core.on_scatter(client.number, client.next_id, [encode_key("x")])


@edge("released", "erred")
def data_that_nobody_can_compute(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    scattered(cluster, client, "x")
    client.submit("y", "x")
    cluster.work_off()
    client.release("x")
    return lambda: client.submit("x", function=None)


@edge("waiting", "ready")
def last_input_comes(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    two_inputs_on_two_workers(cluster, client)
    cluster.done(0, "a")
    return lambda: cluster.done(1, "b")


def two_inputs_on_two_workers(cluster: Cluster, client: FakeClient) -> None:
    """x waits for a on worker 0 and b on worker 1."""
    client.submit("a", options=cluster.options(workers=[0]))
    client.submit("b", options=cluster.options(workers=[1]))
    client.submit("x", "a", "b")
    cluster.act()


@edge("waiting", "processing")
def sent_ahead(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("a")
    client.submit("x", "a")
    return cluster.act


@edge("waiting", "released")
def no_longer_wanted_while_waiting(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    kept_by_a_finished_dependent(cluster, client, ["w"])
    client.submit("x")
    assert cluster.state("x") == "waiting"
    return lambda: client.release("x")


def kept_by_a_finished_dependent(cluster: Cluster, client: FakeClient, inputs: list[str]) -> None:
    """x (with its inputs) is released and its record stays, because "y" in memory depends on it."""
    for key in inputs:
        client.submit(key)
    client.submit("x", *inputs)
    client.submit("y", "x")
    cluster.work_off()
    client.release("x", *inputs)
    cluster.act()
    assert cluster.state("x") == "released"


@edge("waiting", "erred")
def an_input_raises(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    two_inputs_on_two_workers(cluster, client)
    return lambda: cluster.failed(0, "a")


@edge("ready", "waiting")
def an_input_is_lost_before_the_start(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    two_inputs_on_two_workers(cluster, client)
    cluster.done(0, "a")
    cluster.done(1, "b")
    return lambda: cluster.missing(1, "a", 0)


@edge("ready", "no_worker")
def nobody_may_run_it(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x", options=cluster.options(workers=[]))
    return cluster.act


@edge("ready", "processing")
def placed(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x")
    return cluster.act


@edge("ready", "released")
def no_longer_wanted_while_ready(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    kept_by_a_finished_dependent(cluster, client, [])
    client.submit("x")
    assert cluster.state("x") == "ready"
    return lambda: client.release("x")


@edge("ready", "erred")
def blamed_before_it_is_placed_again(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x")
    cluster.act()
    row = cluster.run_row("x")
    worker = cluster.where("x")
    cluster.lose(worker, blamed=False)
    attempts = [(row.id, row.attempt - i) for i in range(4)]
    return lambda: cluster.core.on_death_report("tcp://10.0.0.0:1", attempts, "signal 9")


@edge("no_worker", "ready")
def a_worker_comes(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x", options=cluster.options(workers=[]))
    cluster.act()
    return cluster.worker


def restricted_with_input(cluster: Cluster, client: FakeClient) -> None:
    """x has its input and no worker."""
    client.submit("a")
    client.submit("x", "a", options=cluster.options(workers=[]))
    cluster.work_off()
    assert cluster.state("x") == "no_worker"


@edge("no_worker", "waiting")
def an_input_is_lost_without_a_worker(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    restricted_with_input(cluster, client)
    holder = next(worker.number for worker in cluster.workers if worker.held)
    return lambda: cluster.lose(holder)


@edge("no_worker", "released")
def no_longer_wanted_without_a_worker(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    number = cluster.options(workers=[0])
    client.submit("x", options=number)
    client.submit("y", "x")
    cluster.work_off()
    client.release("x")
    cluster.act()
    cluster.core.on_candidates(number, [])
    client.submit("x")
    cluster.act()
    return lambda: client.release("x")


@edge("no_worker", "erred")
def blamed_without_a_worker(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x", options=cluster.options(workers=[0]))
    cluster.act()
    row = cluster.run_row("x")
    cluster.lose(0, blamed=False)
    cluster.act()
    attempts = [(row.id, row.attempt - i) for i in range(4)]
    return lambda: cluster.core.on_death_report("tcp://10.0.0.0:1", attempts, "signal 9")


@edge("no_worker", "memory")
def the_worker_that_it_may_run_on_brings_it_back(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x", options=cluster.options(workers=[0]))
    cluster.work_off()
    cluster.give_up(0)
    cluster.act()
    return lambda: cluster.returns(0)


@edge("no_worker", "processing")
def the_worker_that_it_may_run_on_executes_it_still(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x", options=cluster.options(workers=[0]))
    cluster.act()
    cluster.give_up(0)
    cluster.act()
    return lambda: cluster.returns(0, executing=["x"])


@edge("ready", "memory")
def it_is_brought_back(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x")
    cluster.work_off()
    holder = next(worker.number for worker in cluster.workers if worker.held)
    cluster.give_up(holder)
    return lambda: cluster.returns(holder)


@edge("waiting", "memory")
def it_is_brought_back_without_its_input(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("a")
    client.submit("x", "a")
    cluster.work_off()
    holder = next(worker for worker in cluster.workers if "x" in worker.held)
    holder.held.pop("a")
    cluster.give_up(holder.number)
    return lambda: cluster.returns(holder.number)


@edge("processing", "waiting")
def the_input_of_a_task_sent_ahead_is_tried_again(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("a", options=cluster.options(retries=1))
    client.submit("x", "a")
    cluster.act()
    return lambda: cluster.failed(cluster.where("a"), "a")


@edge("processing", "ready")
def given_back(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x")
    cluster.act()
    return lambda: cluster.gives_back(cluster.where("x"), "x", status=DoneStatus.DONE_RESCHEDULE)


@edge("processing", "memory")
def finished(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x")
    cluster.act()
    return lambda: cluster.done(cluster.where("x"), "x")


@edge("processing", "released")
def no_longer_wanted_while_processing(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    kept_by_a_finished_dependent(cluster, client, [])
    client.submit("x")
    cluster.act()
    return lambda: client.release("x")


@edge("processing", "erred")
def raised(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x")
    cluster.act()
    return lambda: cluster.failed(cluster.where("x"), "x")


@edge("memory", "released")
def no_longer_wanted_in_memory(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x")
    client.submit("y", "x")
    cluster.work_off()
    return lambda: client.release("x")


@edge("erred", "released")
def failure_no_longer_wanted(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.submit("x")
    client.submit("y", "x")
    cluster.act()
    cluster.failed(cluster.where("x"), "x")
    return lambda: client.release("x")


@edge("scattering", "erred")
def data_does_not_arrive(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.ids["x"] = 1
    (task,) = cluster.core.on_scatter(client.number, 1, [encode_key("x")])
    return lambda: cluster.core.on_scatter_failed([task[0]], b"lost on the way")


@edge("scattering", "memory")
def data_arrives(cluster: Cluster, client: FakeClient) -> Callable[[], object]:
    client.ids["x"] = 1
    (task,) = cluster.core.on_scatter(client.number, 1, [encode_key("x")])
    cluster.workers[0].held["x"] = task[0]
    return lambda: cluster.send(0, [DoneRow(task[0], 0, DoneStatus.DONE_REPLICA, 100)])


def test_each_legal_edge_has_a_story() -> None:
    assert set(STORIES) == set(LEGAL)


@pytest.mark.parametrize(("start", "finish"), LEGAL, ids=lambda state: state)
def test_edge(start: str, finish: str) -> None:
    cluster = Cluster(workers=[1, 1])
    client = cluster.client()
    step = STORIES[start, finish](cluster, client)
    before = cluster.core.task_view(encode_key("x"))
    assert (before["state"] if before else "released") == start
    step()
    assert cluster.state("x") == finish
    cluster.core.validate()
    cluster.work_off()
    cluster.finish()
