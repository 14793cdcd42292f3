"""The future slots: states, waiters, references, the key index, memory. May import: _core, errors."""

from __future__ import annotations

import gc
import random
import weakref
from typing import Any

import pytest

from fastdist._core.client.futures import FutureSlot, FutureTable, Waiter
from fastdist.errors import FrameError
from tests.core.client.frames import CANCELLED, ERRED, FINISHED, LOST, PENDING, inline, read_release, state_frame


@pytest.fixture
def table() -> FutureTable:
    return FutureTable(FutureSlot, 1 << 20)


def make(table: FutureTable, count: int, prefix: str = "key") -> list[Any]:
    return table.add_keys([f"{prefix}-{number}".encode() for number in range(count)])[1]


def test_a_new_future_is_pending_and_knows_its_key(table: FutureTable) -> None:
    (future,) = make(table, 1)
    assert (future.id, future.key_bytes, future.state, future.payload) == (1, b"key-0", 0, None)


def test_a_state_frame_fills_the_slots(table: FutureTable) -> None:
    first, second = make(table, 2)
    table.on_state(state_frame((second.id, FINISHED, inline("two"))))
    assert first.state == 0
    assert (second.state, second.size, second.type_name) == (FINISHED, 28, "int")
    assert table.gather([second]) == (["two"], [])


def test_gather_gives_what_is_here_and_the_places_of_the_rest(table: FutureTable) -> None:
    futures = make(table, 4)
    rows = [
        (1, FINISHED, inline(10)),
        (2, FINISHED, b""),
        (3, ERRED, b"x"),
        (4, FINISHED, inline(list(range(50)))),
    ]
    table.on_state(state_frame(*rows))
    values, missing = table.gather(futures)
    assert missing == [1, 2]
    assert values == [10, None, None, list(range(50))]


def test_gather_refuses_what_is_no_future_of_this_table(table: FutureTable) -> None:
    (foreign,) = make(FutureTable(FutureSlot, 0), 1)
    with pytest.raises(ValueError, match="another client"):
        table.gather([foreign])
    with pytest.raises(TypeError, match="expected a Future, not int"):
        table.gather([1])


def test_rows_of_unknown_ids_are_ignored(table: FutureTable) -> None:
    (future,) = make(table, 1)
    assert table.on_state(state_frame((77, FINISHED, inline(1)), (0, FINISHED, b""))) == []
    assert future.state == 0


@pytest.mark.parametrize("status", [5, 200])
def test_a_frame_with_an_unknown_status_changes_nothing(table: FutureTable, status: int) -> None:
    (future,) = make(table, 1)
    with pytest.raises(FrameError, match="status"):
        table.on_state(state_frame((1, FINISHED, inline(1)), (1, status, b"")))
    assert future.state == 0


def test_a_truncated_frame_is_refused_at_every_length(table: FutureTable) -> None:
    make(table, 2)
    body = state_frame((1, FINISHED, inline(1)), (2, FINISHED, inline("text")))
    for length in range(len(body) - 8):
        with pytest.raises(FrameError):
            table.on_state(body[:length])


def test_a_result_that_is_computed_again_is_awaited_again(table: FutureTable) -> None:
    (future,) = make(table, 1)
    table.on_state(state_frame((1, FINISHED, inline(1))))
    table.on_state(state_frame((1, PENDING, b"")))
    assert (future.state, future.payload) == (PENDING, None)
    waiter = Waiter(table, [future], lambda: None)
    assert not waiter.start()
    table.on_state(state_frame((1, FINISHED, inline(2))))
    assert waiter.done and table.gather([future])[0] == [2]


def test_a_lost_result_ends_the_wait_and_frees_the_key(table: FutureTable) -> None:
    (future,) = make(table, 1)
    waiter = Waiter(table, [future], lambda: None, True)
    assert not waiter.start()
    table.on_state(state_frame((1, LOST, b"the last holder died")))
    assert waiter.done and waiter.failed
    assert future.payload == b"the last holder died"
    assert not table.find_key(future.key_bytes)


@pytest.mark.parametrize("text", [b"short", b"long " * 100])
def test_rows_without_an_error_have_that_of_the_row_before_them(table: FutureTable, text: bytes) -> None:
    futures = make(table, 6)
    table.on_state(
        state_frame(
            (1, FINISHED, inline(1)), (99, ERRED, text), (2, ERRED, b""), (3, FINISHED, inline(3)), (4, ERRED, b""),
            (5, CANCELLED, b""), (6, ERRED, b"its own"),
        )
    )  # fmt: skip
    assert [future.payload for future in futures] == [inline(1), text, inline(3), text, text, b"its own"]
    assert table.payload_bytes == (len(text) if len(text) > 16 else 0)
    table.on_state(state_frame((2, PENDING, b"")))
    assert futures[3].payload == text
    del futures
    table.release_frame()
    assert table.payload_bytes == 0


def test_cancelled_is_final_and_frees_the_key(table: FutureTable) -> None:
    (future,) = make(table, 1)
    table.on_state(state_frame((1, CANCELLED, b"why")))
    table.on_state(state_frame((1, FINISHED, inline(1))))
    assert (future.state, future.payload) == (CANCELLED, b"why")
    assert table.find_key(b"key-0") == 0
    (again,) = make(table, 1)
    assert (again.id, again.state) == (2, 0)


def test_results_over_the_limit_are_not_kept() -> None:
    table = FutureTable(FutureSlot, 100)
    futures = make(table, 3)
    large = inline("x" * 60)
    table.on_state(state_frame(*((future.id, FINISHED, large) for future in futures)))
    assert table.gather(futures) == (["x" * 60, None, None], [1, 2])
    assert (table.payload_bytes, table.dropped_payloads) == (len(large), 2)
    del futures
    table.release_frame()
    assert table.payload_bytes == 0


# Waiting


def test_a_waiter_fires_once_when_the_last_future_is_done(table: FutureTable) -> None:
    futures = make(table, 3)
    fired: list[int] = []
    waiter = Waiter(table, futures, lambda: fired.append(1))
    assert not waiter.start()
    table.on_state(state_frame((3, FINISHED, b""), (1, FINISHED, b"")))
    assert fired == []
    table.on_state(state_frame((2, ERRED, b"")))
    table.on_state(state_frame((2, ERRED, b"")))
    assert fired == [1]


def test_a_waiter_on_done_futures_has_nothing_to_wait_for(table: FutureTable) -> None:
    futures = make(table, 2)
    table.on_state(state_frame((1, FINISHED, b""), (2, CANCELLED, b"")))
    assert Waiter(table, futures, pytest.fail).start()
    assert Waiter(table, [], pytest.fail).start()


def test_a_stopped_waiter_stays_silent(table: FutureTable) -> None:
    futures = make(table, 1)
    waiter = Waiter(table, futures, pytest.fail)
    waiter.start()
    waiter.stop()
    table.on_state(state_frame((1, FINISHED, b"")))


@pytest.mark.parametrize("status", [ERRED, CANCELLED])
def test_a_failure_ends_the_wait_early_if_asked_for(table: FutureTable, status: int) -> None:
    futures = make(table, 3)
    fired: list[int] = []
    eager = Waiter(table, futures, lambda: fired.append(1), True)
    patient = Waiter(table, futures, pytest.fail)
    eager.start()
    patient.start()
    table.on_state(state_frame((3, status, b"")))
    assert fired == [1] and eager.failed and not patient.done


def test_a_failure_before_the_wait_is_found(table: FutureTable) -> None:
    futures = make(table, 2)
    table.on_state(state_frame((2, ERRED, b"")))
    waiter = Waiter(table, futures, pytest.fail, True)
    assert waiter.start() and waiter.failed


def test_a_waiter_holds_its_ids(table: FutureTable) -> None:
    futures = make(table, 1)
    waiter = Waiter(table, futures, lambda: None)
    waiter.start()
    del futures
    assert table.release_frame() is None
    table.on_state(state_frame((1, FINISHED, b"")))
    del waiter
    assert read_release(table.release_frame() or b"")[0] == [1]


def test_watched_futures_are_reported_once(table: FutureTable) -> None:
    first, second = make(table, 2)
    assert table.watch(first) and table.watch(second)
    assert table.on_state(state_frame((1, FINISHED, b""))) == [1]
    assert table.on_state(state_frame((1, FINISHED, b""))) == []
    assert not table.watch(first)
    assert table.cancel([second]) == [2]


def test_cancelling_all_spares_what_failed(table: FutureTable) -> None:
    futures = make(table, 3)
    table.on_state(state_frame((1, ERRED, b"e"), (2, FINISHED, inline(1))))
    fired: list[int] = []
    Waiter(table, futures, lambda: fired.append(1)).start()
    table.cancel_all()
    assert [future.state for future in futures] == [ERRED, CANCELLED, CANCELLED]
    assert fired == [1]


# References and memory


def test_a_released_future_keeps_its_key(table: FutureTable) -> None:
    (future,) = make(table, 1)
    future.give_up()
    future.give_up()
    assert read_release(table.release_frame() or b"")[0] == [1]
    assert (future.key_bytes, future.is_released, future.state) == (b"key-0", True, CANCELLED)


def test_ids_are_released_when_the_last_future_goes(table: FutureTable) -> None:
    first = make(table, 1)
    second = table.future(1)
    del first
    assert table.release_frame() is None
    del second
    assert read_release(table.release_frame(b"h" * 16) or b"") == ([1], b"h" * 16)
    assert table.release_frame() is None
    assert len(table) == 0


def test_a_future_that_comes_back_before_the_release_is_kept(table: FutureTable) -> None:
    make(table, 1)
    again = table.future(table.find_key(b"key-0"))
    assert table.release_frame() is None
    assert again is not None and again.state == 0


def test_the_collector_does_not_know_futures(table: FutureTable) -> None:
    futures = make(table, 10)
    assert not any(map(gc.is_tracked, futures))


def test_futures_can_be_referenced_weakly(table: FutureTable) -> None:
    futures = make(table, 1)
    reference = weakref.ref(futures[0])
    assert reference() is futures[0]
    futures.clear()
    assert reference() is None


def test_a_future_outlives_the_names_of_its_table() -> None:
    future = make(FutureTable(FutureSlot, 0), 1)[0]
    assert future.key_bytes == b"key-0"


def test_the_table_shrinks_when_futures_go(table: FutureTable) -> None:
    futures = make(table, 20_000)
    survivor = futures[7_000]
    assert (table.n_chunks, table.index_capacity) == (20, 65_536)
    del futures
    table.release_frame()
    assert (len(table), table.n_chunks, table.index_capacity) == (1, 2, 64)
    assert table.find_key(b"key-7000") == survivor.id
    del survivor
    table.release_frame()
    assert table.n_chunks == 1
    assert make(table, 1)[0].id == 20_001


def test_the_index_agrees_with_a_dict(table: FutureTable) -> None:
    chance = random.Random(5)
    held: dict[bytes, Any] = {}
    for step in range(3_000):
        key = b"%d" % chance.randrange(400)
        if key in held and chance.random() < 0.6:
            del held[key]
            if step % 3 == 0:
                table.release_frame()
        elif key not in held:
            known = table.future(table.find_key(key))
            held[key] = known or table.add_keys([key])[1][0]
        if step % 100 == 0:
            table.release_frame()
            assert {key: future.id for key, future in held.items()} == {
                key: found for key in map(b"%d".__mod__, range(400)) if (found := table.find_key(key))
            }


def test_keys_that_are_known_are_not_added_again(table: FutureTable) -> None:
    futures = make(table, 1)
    with pytest.raises(ValueError, match="known"):
        make(table, 1)
    with pytest.raises(ValueError, match="twice"):
        table.add_keys([b"a", b"a"])
    assert len(futures) == len(table)
