"""Where tasks go: queue, locality, restrictions, resources, priorities, prefill, balance.

May import: fastdist._core, its siblings.
"""

from __future__ import annotations

import math

from tests.core.scheduler.builders import Cluster, FakeClient
from tests.core.scheduler.frames import Retract


def numbers(worker) -> list[int]:
    """The numbers at the end of the keys of what a worker was given."""
    return [int(key.rsplit("-", 1)[1]) for key in worker.assigned]


def learned(cluster: Cluster, client: FakeClient, seconds: float, nbytes: int = 8) -> None:
    """The core has measured the prefix k once, on worker 0."""
    client.submit("k-0", options=cluster.options(workers=[0]))
    cluster.act()
    cluster.done(0, "k-0", seconds=seconds, nbytes=nbytes)
    cluster.act()


def test_unknown_durations_fill_a_worker_to_its_saturation() -> None:
    cluster = Cluster([4])
    cluster.client().map([f"k-{i}" for i in range(100)])
    cluster.act()
    assert len(cluster.workers[0].assigned) == math.ceil(1.1 * 4)


def test_known_fast_tasks_fill_a_worker_for_the_time_of_the_prefill() -> None:
    cluster = Cluster([1], prefill=0.005)
    client = cluster.client()
    learned(cluster, client, seconds=0.000128)
    client.map([f"k-{i}" for i in range(1, 1000)])
    cluster.act()
    assert len(cluster.workers[0].assigned) == math.ceil(0.005 / 0.000128)


def test_known_slow_tasks_fill_a_worker_to_its_saturation() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    learned(cluster, client, seconds=1.0)
    client.map([f"k-{i}" for i in range(1, 100)])
    cluster.act()
    assert len(cluster.workers[0].assigned) == 2


def test_bulky_results_fill_a_worker_to_its_saturation() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    learned(cluster, client, seconds=0.00001, nbytes=1_000_000)
    client.map([f"k-{i}" for i in range(1, 100)])
    cluster.act()
    assert len(cluster.workers[0].assigned) == 2


def test_neighbours_among_the_roots_land_together() -> None:
    cluster = Cluster([10, 10, 10, 10])
    cluster.client().map([f"k-{i}" for i in range(1000)])
    cluster.act()
    for worker in cluster.workers:
        given = numbers(worker)
        assert given == list(range(given[0], given[0] + len(given)))


def test_every_queued_task_is_served_once_whatever_the_workers_speeds() -> None:
    cluster = Cluster([1, 2, 3])
    client = cluster.client()
    client.map([f"k-{i}" for i in range(300)])
    done: list[str] = []
    turn = 0
    while len(done) < 300:
        cluster.act()
        worker = cluster.workers[(0, 1, 1, 2, 2, 2)[turn % 6]]
        turn += 1
        if worker.assigned:
            key = next(iter(worker.assigned))
            done.append(key)
            cluster.done(worker.number, key, seconds=0.5)
    cluster.finish()
    assert sorted(done) == sorted(f"k-{i}" for i in range(300))


def test_the_claim_of_a_lost_worker_is_served_by_the_others() -> None:
    cluster = Cluster([1, 1, 1])
    client = cluster.client()
    client.map([f"k-{i}" for i in range(100)])
    cluster.act()
    cluster.lose(1)
    cluster.pause(2)
    cluster.work_off()
    cluster.finish()
    assert cluster.core.counts()["memory"] == 100


def test_a_full_worker_leaves_the_queue_in_order() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.map([f"k-{i}" for i in range(20)])
    order = []
    for _ in range(20):
        for _ in range(3):
            cluster.act()
        key = next(iter(cluster.workers[0].assigned))
        order.append(key)
        cluster.done(0, key, seconds=1.0)
    assert order == [f"k-{i}" for i in range(20)]


def test_lower_orders_go_first_inside_a_submission() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.submit_rows([client.row(f"k-{i}", order=50 - i) for i in range(20)])
    cluster.act()
    assert numbers(cluster.workers[0]) == [19, 18]


def test_earlier_submissions_go_first_and_priorities_before_that() -> None:
    cluster = Cluster([])
    client = cluster.client()
    client.submit("late-1")
    client.submit("late-2")
    client.submit("urgent-3", options=cluster.options(priority=10.0))
    client.map([f"k-{i}" for i in range(20)])
    worker = cluster.worker(nthreads=4)
    cluster.act()
    assert list(cluster.workers[worker].assigned)[:4] == ["urgent-3", "late-1", "late-2", "k-0"]


def test_an_urgent_run_overtakes_one_that_is_being_served() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    client.map([f"k-{i}" for i in range(20)])
    cluster.act()
    number = cluster.options(priority=1.0)
    client.submit_rows([client.row(f"u-{i}", option=1) for i in range(10)], [number])
    served = []
    for _ in range(30):
        cluster.act()
        key = next(iter(cluster.workers[0].assigned))
        served.append(key)
        cluster.done(0, key, seconds=1.0)
    assert served == ["k-0", "k-1"] + [f"u-{i}" for i in range(10)] + [f"k-{i}" for i in range(2, 20)]
    cluster.finish()


def test_a_task_goes_to_the_worker_that_holds_most_of_its_inputs() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("small", options=cluster.options(workers=[0]))
    client.submit("large", options=cluster.options(workers=[1]))
    cluster.act()
    cluster.done(0, "small", nbytes=1000)
    cluster.done(1, "large", nbytes=1_000_000)
    client.submit("x", "small", "large")
    cluster.act()
    assert cluster.where("x") == 1
    held = {holder for needed in cluster.run_row("x").inputs for holder in needed.holders}
    assert held == {0, 1}


def test_a_small_input_travels_when_its_worker_is_busy() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("data", options=cluster.options(workers=[0]))
    client.submit("long", options=cluster.options(workers=[0]))
    cluster.act()
    cluster.done(0, "data")
    client.submit("x", "data")
    cluster.act()
    assert cluster.where("x") == 1


def test_a_restricted_task_runs_where_it_may_and_waits_for_such_a_worker() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    number = cluster.options(workers=[])
    client.submit("x", options=number)
    client.submit("y", options=cluster.options(workers=[1]))
    cluster.act()
    assert (cluster.state("x"), cluster.where("y")) == ("no_worker", 1)
    third = cluster.worker()
    cluster.core.on_candidates(number, [third])
    cluster.act()
    assert cluster.where("x") == third
    cluster.work_off()
    cluster.finish()


def test_a_restricted_task_waits_while_its_worker_is_paused() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    cluster.pause(0)
    client.submit("x", options=cluster.options(workers=[0]))
    cluster.act()
    assert cluster.state("x") == "no_worker"
    cluster.resume(0)
    cluster.act()
    assert cluster.where("x") == 0


def test_a_loosely_restricted_task_goes_elsewhere_only_when_it_must() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.submit("x", options=cluster.options(workers=[1], loose=True))
    cluster.act()
    assert cluster.where("x") == 1
    cluster.lose(1)
    cluster.act()
    assert cluster.where("x") == 0
    cluster.work_off()
    cluster.finish()


def test_tasks_that_need_a_resource_prefer_workers_that_have_it_free() -> None:
    cluster = Cluster([])
    client = cluster.client()
    for _ in range(2):
        cluster.worker(nthreads=8, gpu=1.0)
    for number in range(2):
        client.submit(f"x-{number}", options=cluster.options(gpu=1.0))
    cluster.act()
    assert sorted(cluster.where(f"x-{number}") for number in range(2)) == [0, 1]
    assert cluster.workers[0].options != {}
    cluster.done(1, next(iter(cluster.workers[1].assigned)))
    client.submit("x-2", options=cluster.options(gpu=1.0))
    cluster.act()
    assert cluster.where("x-2") == 1
    cluster.work_off()
    cluster.finish()


def loaded_and_idle(seconds: float = 0.05) -> tuple[Cluster, FakeClient]:
    """Worker 0 has ten tasks that only it could take; worker 1 comes too late."""
    cluster = Cluster([1])
    client = cluster.client()
    learned(cluster, client, seconds=seconds)
    client.submit("data", options=cluster.options(workers=[0]))
    cluster.act()
    cluster.done(0, "data", nbytes=10)
    client.submit_rows([client.row(f"k-{i}", "data") for i in range(1, 11)])
    cluster.act()
    assert len(cluster.workers[0].assigned) == 10
    cluster.worker()
    return cluster, client


def test_an_idle_worker_is_given_what_another_has_not_started() -> None:
    cluster, _ = loaded_and_idle()
    cluster.act()
    (retract,) = cluster.of_kind(Retract)
    assert retract.worker == 0
    assert list(cluster.workers[0].asked_back) == [f"k-{i}" for i in (10, 9, 8, 7, 6)]
    cluster.gives_back(0, *list(cluster.workers[0].asked_back))
    cluster.act()
    assert len(cluster.workers[1].assigned) == 5
    cluster.work_off()
    cluster.finish()


def test_started_tasks_and_the_last_ones_stay() -> None:
    cluster, _ = loaded_and_idle()
    for i in range(1, 11):
        cluster.started(0, f"k-{i}")
    cluster.act()
    assert cluster.of_kind(Retract) == []


def test_nothing_is_asked_back_twice_while_an_answer_is_due() -> None:
    cluster, _ = loaded_and_idle()
    cluster.act()
    cluster.act()
    assert cluster.of_kind(Retract) == []
    for key in list(cluster.workers[0].asked_back):
        cluster.refuses(0, key)
    cluster.act()
    assert all(key not in ("k-10", "k-9", "k-8", "k-7", "k-6") for key in cluster.workers[0].asked_back)


def test_short_work_is_not_worth_the_way() -> None:
    cluster, _ = loaded_and_idle(seconds=0.0005)
    cluster.act()
    assert cluster.of_kind(Retract) == []


def test_only_what_the_idle_worker_may_run_is_asked_back() -> None:
    cluster = Cluster([1])
    client = cluster.client()
    number = cluster.options(workers=[0])
    client.submit_rows([client.row(f"k-{i}", option=1) for i in range(10)], [number])
    cluster.act()
    cluster.worker()
    cluster.act()
    assert cluster.of_kind(Retract) == []


def test_a_worker_freed_by_a_release_is_served_at_once() -> None:
    cluster = Cluster([1, 1])
    client = cluster.client()
    client.map([f"k-{i}" for i in range(10)])
    cluster.act()
    dropped = list(cluster.workers[1].assigned)
    client.release(*dropped)
    cluster.act()
    assert len(cluster.workers[1].assigned) == 2
