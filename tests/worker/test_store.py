"""The stores of a worker."""

from __future__ import annotations

import pytest

from fastdist.worker.store import SMALL_BYTES, DictStore, SplitStore


@pytest.fixture(params=["dict", "split"])
def store(request):
    return DictStore() if request.param == "dict" else SplitStore(DictStore(), room=2)


def test_values_are_kept_replaced_and_dropped(store) -> None:
    store.put(1, "one", 10)
    store.put(2, "two", 10_000)
    store.put(1, "other", 10_000)
    assert (store.get(1), store.get(2), len(store), 1 in store, 3 in store) == (
        "other",
        "two",
        2,
        True,
        False,
    )
    store.drop(1)
    store.drop(1)
    with pytest.raises(KeyError):
        store.get(1)
    assert len(store) == 1


def test_small_values_stay_out_of_the_store_that_spills() -> None:
    store = SplitStore(DictStore(), room=2)
    for number in range(1, 4):
        store.put(number, number, SMALL_BYTES)
    store.put(9, "large", SMALL_BYTES + 1)
    assert sorted(store.values) == [1, 2]
    assert sorted(store.large) == [3, 9]
    assert [store.get(i) for i in (1, 2, 3, 9)] == [1, 2, 3, "large"]
