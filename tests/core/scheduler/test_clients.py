"""What clients do: submit, share, release, cancel, retry, scatter, leave.

May import: fastdist._core, its siblings.
"""

from __future__ import annotations

import pytest

from fastdist._core.codec.frames import TaskStatus
from fastdist._core.keys.canonical import encode_key
from fastdist._core.scheduler.core import TO_CLIENT
from tests.core.scheduler.builders import Cluster
from tests.core.scheduler.frames import Run, TaskRow, tasks_frame

FINISHED, ERRED = TaskStatus.STATUS_FINISHED, TaskStatus.STATUS_ERRED
CANCELLED, LOST, PENDING = TaskStatus.STATUS_CANCELLED, TaskStatus.STATUS_LOST, TaskStatus.STATUS_PENDING


def test_a_finished_task_is_reported_with_size_type_and_small_result() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("x")
    cluster.act()
    cluster.done(0, "x", nbytes=28, payload=b"\x01result")
    cluster.finish()
    row = client.told("x")
    assert (row.status, row.nbytes, row.type, row.payload) == (FINISHED, 28, "int", b"\x01result")


def test_small_results_stay_away_from_a_client_with_a_long_queue() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("x")
    cluster.core.on_inline_allowed(client.number, False)
    cluster.act()
    cluster.done(0, "x", payload=b"\x01result")
    cluster.finish()
    assert (client.told("x").status, client.told("x").payload) == (FINISHED, b"")


def test_the_same_key_of_two_clients_is_computed_once_and_reported_to_both() -> None:
    cluster = Cluster()
    one, two = cluster.client(), cluster.client()
    one.submit("x")
    two.submit("x")
    cluster.act()
    cluster.done(0, "x")
    cluster.finish()
    assert cluster.view("x")["attempt"] == 1
    assert one.heard("x") == two.heard("x") == [FINISHED]


def test_a_client_that_joins_late_hears_what_happened() -> None:
    cluster = Cluster()
    one, two = cluster.client(), cluster.client()
    one.submit("good")
    one.submit("bad")
    cluster.act()
    cluster.done(0, "good")
    cluster.failed(0, "bad", b"no good")
    cluster.act()
    two.submit("good")
    two.submit("bad")
    cluster.finish()
    assert two.told("good").status == FINISHED
    assert (two.told("bad").status, two.told("bad").payload) == (ERRED, b"no good")


def test_releasing_the_last_future_frees_the_data_and_forgets_the_task() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("x")
    cluster.work_off()
    client.release("x")
    cluster.finish()
    assert cluster.state("x") == "forgotten"
    assert cluster.workers[0].held == {}


def test_an_input_lives_until_its_dependents_have_run() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("x")
    client.submit("y", "x")
    client.release("x")
    cluster.work_off()
    assert cluster.state("x") == "released"
    assert list(cluster.workers[0].held) == ["y"]
    client.release("y")
    cluster.finish()
    assert cluster.core.n_tasks() == 0


def test_a_long_chain_is_released_and_forgotten_at_once() -> None:
    cluster = Cluster()
    client = cluster.client()
    rows = [client.row("k-0")] + [client.row(f"k-{i}", f"k-{i - 1}") for i in range(1, 500)]
    client.submit_rows(rows)
    client.release(*client.ids)
    cluster.finish()
    assert cluster.core.n_tasks() == 0


def test_releasing_twice_or_what_was_never_submitted_is_harmless() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("x")
    client.ids["never"] = 99_999
    client.release("x")
    client.release("x", "never")
    cluster.finish()
    assert cluster.core.n_tasks() == 0


def test_counters_of_inputs_and_dependents_count_an_input_used_twice() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("a")
    client.submit("x", "a", "a")
    assert (cluster.view("a")["waiters"], cluster.view("a")["dependents"]) == (2, 2)
    assert cluster.view("x")["waiting_on"] == 2
    cluster.work_off()
    assert cluster.state("x") == "memory"
    assert (cluster.view("a")["waiters"], cluster.view("a")["dependents"]) == (0, 2)
    cluster.finish()


def test_a_reference_to_an_unknown_key_is_told_as_lost() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("gone", function=None)
    cluster.finish()
    assert client.told("gone").status == LOST
    assert b"never submitted" in client.told("gone").payload


def test_a_reference_to_lost_data_that_only_its_dependents_remember_is_told_as_lost() -> None:
    cluster = Cluster()
    client = cluster.client()
    scatter(cluster, client, "x")
    client.submit("y", "x")
    cluster.work_off()
    client.release("x")
    client.submit("x", function=None)
    cluster.finish()
    assert client.told("x").status == LOST


def test_a_task_whose_input_is_unknown_fails_and_says_so() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("x")
    client.release("x")
    client.submit("y", "x")
    cluster.finish()
    assert client.told("y").status == LOST
    assert b"input" in client.told("y").payload


def test_an_open_submission_keeps_unwanted_tasks_until_its_last_frame() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("a", wanted=False, last=False)
    cluster.work_off()
    assert cluster.state("a") == "memory"
    client.submit("b", "a", last=True)
    cluster.work_off()
    assert (cluster.state("a"), cluster.state("b")) == ("released", "memory")
    cluster.finish()


def test_what_only_the_open_submission_keeps_is_not_the_users_to_release() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("a", wanted=False, last=False)
    client.release("a")
    cluster.act()
    assert cluster.state("a") == "processing"
    client.submit("b", last=True)
    cluster.work_off()
    assert cluster.state("a") == "forgotten"
    cluster.finish()


def test_a_cancelled_open_submission_can_still_be_finished() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("a", wanted=False, last=False)
    client.cancel("a", force=True)
    client.submit("b", "a", last=True)
    cluster.work_off()
    assert cluster.state("b") == "memory"
    cluster.finish()


def test_a_client_that_dies_mid_way_cancels_its_submission_whole() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("a", wanted=False, last=False)
    client.submit("b", "a", last=False)
    cluster.act()
    cluster.core.on_client_closed(client.number)
    cluster.finish()
    assert cluster.core.n_tasks() == 0
    assert cluster.workers[0].assigned == {}


def test_a_closed_client_is_released_at_once_and_others_keep_theirs() -> None:
    cluster = Cluster()
    one, two = cluster.client(), cluster.client()
    one.map([f"k-{i}" for i in range(2000)])
    two.submit("k-7")
    cluster.core.on_client_closed(one.number)
    cluster.work_off()
    cluster.finish()
    assert cluster.core.n_tasks() == 1
    assert cluster.state("k-7") == "memory"


def test_a_lost_client_is_given_up_after_the_grace_time() -> None:
    cluster = Cluster(client_grace=10.0)
    client = cluster.client()
    client.submit("x")
    cluster.core.on_client_lost(client.number, 100.0)
    assert cluster.core.next_deadline() == 110.0
    assert cluster.core.on_tick(109.0) == []
    assert cluster.state("x") == "ready"
    assert cluster.core.on_tick(110.0) == [client.number]
    assert cluster.core.next_deadline() is None
    cluster.finish()
    assert cluster.core.n_tasks() == 0


def test_a_lost_client_that_comes_back_in_time_keeps_its_futures() -> None:
    cluster = Cluster(client_grace=10.0)
    client = cluster.client()
    client.submit("x")
    cluster.core.on_client_lost(client.number, 100.0)
    assert cluster.core.on_client_back(client.number)
    assert cluster.core.on_tick(200.0) == []
    cluster.work_off()
    assert client.told("x").status == FINISHED
    cluster.core.on_client_lost(client.number, 300.0)
    cluster.core.on_tick(400.0)
    assert not cluster.core.on_client_back(client.number)


def test_a_client_that_comes_back_is_told_what_it_missed() -> None:
    cluster = Cluster(client_grace=10.0)
    client = cluster.client()
    client.submit("x")
    cluster.work_off()
    assert client.told("x").status == FINISHED
    cluster.core.on_client_lost(client.number, 100.0)
    assert cluster.core.on_client_back(client.number)
    states = [command for command in cluster.core.act() if command[0] == 1]
    assert [command[1] for command in states] == [client.number]
    assert not cluster.core.on_client_back(client.number)
    cluster.core.validate()


def test_what_a_closed_client_still_sends_is_ignored() -> None:
    cluster = Cluster()
    client = cluster.client()
    cluster.core.on_client_closed(client.number)
    client.submit("x")
    client.release("x")
    with pytest.raises(KeyError):
        cluster.core.on_scatter(client.number, 5, [encode_key("d")])
    assert cluster.core.n_tasks() == 0
    cluster.finish()


def test_cancel_takes_dependents_along_and_tells_why() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("x")
    client.submit("y", "x")
    cluster.act()
    assert client.cancel("x", "unheard of", payload=b"because") == 1
    cluster.finish()
    assert [(client.told(key).status, client.told(key).payload) for key in ("x", "y")] == [
        (CANCELLED, b"because"),
        (CANCELLED, b"because"),
    ]
    assert cluster.core.n_tasks() == 0
    assert cluster.workers[0].assigned == {}


def test_cancel_leaves_what_another_client_wants_unless_forced() -> None:
    cluster = Cluster()
    one, two = cluster.client(), cluster.client()
    one.submit("x")
    two.submit("x")
    one.cancel("x")
    cluster.act()
    assert (one.heard("x"), two.heard("x")) == ([CANCELLED], [])
    assert cluster.state("x") == "processing"
    one.cancel("x", force=True)
    cluster.finish()
    assert two.heard("x") == [CANCELLED]
    assert cluster.core.n_tasks() == 0


def test_cancelling_an_input_that_others_need_leaves_it() -> None:
    cluster = Cluster()
    one, two = cluster.client(), cluster.client()
    one.submit("x")
    two.submit("x", function=None)
    two.submit("y", "x")
    one.cancel("x")
    two.release("x")
    cluster.work_off()
    assert two.told("y").status == FINISHED


def test_retry_of_a_failed_tree_starts_at_its_roots() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("a")
    client.submit("b", "a")
    client.submit("c", "b")
    cluster.act()
    cluster.failed(0, "a", b"first try")
    cluster.act()
    assert [client.told(key).payload for key in "abc"] == [b"first try"] * 3
    cluster.core.on_retry([encode_key("c")], client.number, [client.ids["c"]])
    cluster.work_off()
    cluster.finish()
    assert [client.heard(key) for key in "abc"] == [[ERRED, PENDING, FINISHED]] * 3


def test_what_failed_for_an_unknown_input_cannot_be_tried_again_and_says_so() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("x")
    client.release("x")
    client.submit("y", "x")
    cluster.act()
    cluster.core.on_retry([encode_key("y")], client.number, [client.ids["y"]])
    cluster.work_off()
    cluster.finish()
    assert client.heard("y") == [LOST, LOST]
    assert b"input" in client.told("y").payload


def test_whoever_retries_what_is_gone_gets_an_answer() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.ids["gone"] = 7
    cluster.core.on_retry([encode_key("gone")], client.number, [7])
    cluster.finish()
    assert client.heard("gone") == [LOST]
    assert b"submit it again" in client.told("gone").payload


def test_a_restart_cancels_what_any_client_wants_and_leaves_nothing() -> None:
    cluster = Cluster(workers=[1, 1])
    one, two = cluster.client(), cluster.client()
    one.submit("x")
    one.submit("y", "x")
    two.submit("z")
    cluster.act()
    cluster.done(cluster.where("z"), "z")
    cluster.core.on_restart(b"restarted")
    cluster.finish()
    assert [one.heard("x"), one.heard("y")] == [[CANCELLED], [CANCELLED]]
    assert two.heard("z") == [FINISHED, CANCELLED]
    assert two.told("z").payload == b"restarted"
    assert cluster.core.n_tasks() == 0


def test_tasks_that_wait_for_data_that_does_not_come_are_lost_with_it() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.ids["data"] = client.next_id
    ((id, _),) = cluster.core.on_scatter(client.number, client.next_id, [encode_key("data")])
    client.next_id += 1
    client.submit("y", "data")
    cluster.act()
    cluster.core.on_scatter_failed([id, id + 1], b"the worker has gone")
    cluster.finish()
    assert (client.told("data").status, client.told("y").status) == (LOST, ERRED)
    assert client.told("y").payload in (b"", b"the worker has gone")
    cluster.core.on_retry([encode_key("y")], client.number, [client.ids["y"]])
    cluster.finish()
    assert client.told("y").status == ERRED


def test_the_error_of_many_dependents_travels_once_in_a_frame() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit_rows([client.row("a")] + [client.row(f"k-{i}", "a") for i in range(1000)])
    cluster.act()
    cluster.failed(0, "a", b"E" * 10_000)
    bodies = [body for target, _, _, body in cluster.core.act() if target == TO_CLIENT]
    assert len(bodies) == 1
    assert len(bodies[0]) < 60_000


def test_a_shared_error_survives_a_result_between_its_rows() -> None:
    """The row without its own error would otherwise seem to have the result of its neighbour."""
    cluster = Cluster(workers=[2])
    one = cluster.client()
    one.submit("bad")
    one.submit("good")
    cluster.act()
    cluster.failed(0, "bad", b"no good")
    cluster.done(0, "good", payload=b"\x01fine")
    one.submit("bad")
    cluster.finish()
    assert [row.payload for row in one.rows] == [b"no good", b"\x01fine", b"no good"]


def scatter(cluster: Cluster, client, key: str, worker: int = 0) -> None:
    """Data of a client, stored by a worker."""
    client.ids[key] = client.next_id
    cluster.core.on_scatter(client.number, client.next_id, [encode_key(key)])
    client.next_id += 1
    cluster.replica(worker, key, 100)


def test_scattered_data_is_finished_when_the_first_worker_has_it() -> None:
    cluster = Cluster(workers=[1, 1])
    client = cluster.client()
    scatter(cluster, client, "d")
    cluster.replica(1, "d")
    client.submit("y", "d")
    cluster.work_off()
    assert client.heard("d") == [FINISHED]
    assert len(cluster.view("d")["who_has"]) == 2
    client.release("d", "y")
    cluster.finish()
    assert all(worker.held == {} for worker in cluster.workers)


def test_tasks_may_wait_for_data_on_its_way() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.ids["d"] = 1
    ((id, there),) = cluster.core.on_scatter(client.number, 1, [encode_key("d")])
    client.next_id = 2
    client.submit("y", "d")
    cluster.act()
    assert (there, cluster.state("y"), cluster.view("d")["id"]) == (False, "waiting", id)
    cluster.replica(0, "d")
    cluster.work_off()
    assert client.told("y").status == FINISHED


def test_lost_scattered_data_fails_those_who_need_it() -> None:
    cluster = Cluster(workers=[1, 1])
    client = cluster.client()
    scatter(cluster, client, "d")
    client.submit("y", "d", options=cluster.options(workers=[]))
    cluster.act()
    cluster.lose(0)
    cluster.finish()
    assert client.told("d").status == LOST
    assert client.told("y").status == ERRED
    assert b"scatter it again" in client.told("y").payload


def test_a_submission_within_its_fifo_timeout_keeps_the_rank_of_the_one_before() -> None:
    cluster = Cluster(workers=[])
    client = cluster.client()
    for number, (now, timeout) in enumerate([(0.0, 0.0), (1.0, 5.0), (7.0, 5.0)], 1):
        body = tasks_frame(number, [TaskRow(encode_key(f"k{number}"))], submission=number, fifo_timeout=timeout)
        cluster.core.on_tasks(client.number, body, [], now)
    worker = cluster.worker(nthreads=8)
    cluster.act()
    # The highest bit tells submissions of clients from those of tasks.
    ranks = [cluster.workers[worker].assigned[f"k{number}"].rank >> 32 & 0x7FFFFFFF for number in (1, 2, 3)]
    assert ranks == [1, 1, 2]


def test_functions_are_kept_while_a_client_or_a_task_needs_them() -> None:
    cluster = Cluster()
    client = cluster.client()
    client.submit("x", function="f")
    cluster.work_off()
    client.release(functions=["f"])
    cluster.act()
    assert cluster.workers[0].functions == {0: b"f"}
    client.release("x")
    cluster.act()
    assert cluster.workers[0].functions == {}
    client.submit("y", function="g")
    cluster.work_off()
    assert cluster.workers[0].functions == {0: b"g"}
    cluster.finish()


def test_a_function_is_sent_to_a_worker_once() -> None:
    cluster = Cluster()
    client = cluster.client()
    sent = []
    for number in range(5):
        client.submit(f"k{number}", function="f")
        cluster.act()
        sent += [run.functions for run in cluster.of_kind(Run) if run.functions]
        cluster.done(0, f"k{number}")
    assert sent == [((0, b"f"),)]


def test_options_go_with_their_last_task() -> None:
    cluster = Cluster()
    client = cluster.client()
    number = cluster.options(workers=[0])
    client.submit("x", options=number)
    assert [n for n, _ in cluster.core.restricted_options()] == [number]
    client.release("x")
    assert cluster.core.restricted_options() == []
    unused = cluster.options(workers=[0])
    client.submit_rows([client.row("y")], [unused])
    assert cluster.core.restricted_options() == []
    cluster.finish()
