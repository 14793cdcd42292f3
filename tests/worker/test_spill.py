"""The store of a worker's results: order of use, files, races, and what happens when the disk refuses."""

from __future__ import annotations

import errno
import os
import pickle
import stat
import sys
import threading
from pathlib import Path

import pytest

from fastdist.worker import spill
from fastdist.worker.spill import SpillStore


def dumps(value: object) -> list[bytes]:
    return [pickle.dumps(value)]


@pytest.fixture
def store(tmp_path: Path) -> SpillStore:
    return SpillStore(str(tmp_path), 100, dumps=dumps, loads=pickle.loads)


def test_a_value_comes_back_as_it_was_put(store: SpillStore) -> None:
    value = object()
    store.put(1, value, 10)
    assert store.get(1) is value
    assert 1 in store
    assert len(store) == 1
    assert store.nbytes == (10, 0)


def test_an_unknown_task_is_a_key_error(store: SpillStore) -> None:
    with pytest.raises(KeyError):
        store.get(7)
    store.drop(7)


def test_above_the_target_the_oldest_value_goes_to_disk(store: SpillStore, tmp_path: Path) -> None:
    for number in range(3):
        store.put(number, f"value {number}", 40)
    assert [store.is_on_disk(number) for number in range(3)] == [True, False, False]
    assert store.memory_bytes == 80
    assert store.disk_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_reading_a_value_makes_it_recently_used(store: SpillStore) -> None:
    store.put(0, "a", 40)
    store.put(1, "b", 40)
    store.get(0)
    store.put(2, "c", 40)
    assert store.is_on_disk(1)
    assert not store.is_on_disk(0)


def test_a_value_on_disk_comes_back_and_pushes_another_out(store: SpillStore, tmp_path: Path) -> None:
    for number in range(3):
        store.put(number, f"value {number}", 40)
    assert store.get(0) == "value 0"
    assert not store.is_on_disk(0)
    assert store.is_on_disk(1)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_value_larger_than_the_target_does_not_push_the_others_out(store: SpillStore) -> None:
    store.put(0, "small", 40)
    store.put(1, "huge", 1000)
    assert store.is_on_disk(1)
    assert not store.is_on_disk(0)
    assert store.get(1) == "huge"


def test_files_are_private_and_do_not_tell_their_task(store: SpillStore, tmp_path: Path) -> None:
    store.put(123456789, "x", 200)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "123456789" not in file.name


def test_dropping_removes_the_file(store: SpillStore, tmp_path: Path) -> None:
    store.put(1, "x", 200)
    store.drop(1)
    assert not list(tmp_path.iterdir())
    assert 1 not in store
    assert store.nbytes == (0, 0)


def test_putting_again_replaces_value_and_file(store: SpillStore, tmp_path: Path) -> None:
    store.put(1, "old", 200)
    store.put(1, "new", 10)
    assert store.get(1) == "new"
    assert not list(tmp_path.iterdir())
    assert store.nbytes == (10, 0)


def test_a_value_that_cannot_be_pickled_stays_in_memory_and_others_are_spilled(store: SpillStore) -> None:
    lock = threading.Lock()
    store.put(0, lock, 60)
    store.put(1, "a", 60)
    assert store.get(0) is lock
    assert not store.is_on_disk(0)
    assert store.is_on_disk(1)
    store.drop(0)
    assert store.memory_bytes == 0
    assert store.get(1) == "a"


def test_a_full_disk_keeps_values_in_memory_and_is_logged_once(
    store: SpillStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, view: memoryview) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(spill, "_write_all", refuse)
    for number in range(5):
        store.put(number, number, 60)
    assert [store.get(number) for number in range(5)] == list(range(5))
    assert not list(tmp_path.iterdir())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left" in caplog.text
    monkeypatch.undo()
    monkeypatch.setattr(spill.time, "monotonic", lambda: float("inf"))
    assert store.evict_until(100) == 240
    assert store.memory_bytes == 60


def test_at_most_max_spill_bytes_go_to_disk(tmp_path: Path) -> None:
    store = SpillStore(str(tmp_path), 100, dumps=dumps, loads=pickle.loads, max_spill=150)
    for number in range(4):
        store.put(number, "x" * 100, 100)
    assert store.disk_bytes <= 150
    assert [store.get(number) for number in range(4)] == ["x" * 100] * 4


def test_the_folder_is_made_only_when_something_is_spilled(tmp_path: Path) -> None:
    made = []

    def folder() -> str:
        made.append(1)
        return str(tmp_path)

    store = SpillStore(folder, 100, dumps=dumps, loads=pickle.loads)
    store.put(0, "a", 50)
    assert not made
    store.put(1, "b", 60)
    assert made


def test_without_a_target_nothing_is_spilled_until_asked(tmp_path: Path) -> None:
    store = SpillStore(str(tmp_path), None, dumps=dumps, loads=pickle.loads)
    for number in range(3):
        store.put(number, number, 10**9)
    assert store.memory_bytes == 3 * 10**9
    assert store.evict_one() == 10**9
    assert store.is_on_disk(0)
    assert store.evict_until(0) == 2 * 10**9
    assert store.evict_one() == 0


def test_a_value_dropped_while_it_is_written_leaves_no_file(tmp_path: Path) -> None:
    def drop_and_dump(value: object) -> list[bytes]:
        store.drop(0)
        return dumps(value)

    store = SpillStore(str(tmp_path), None, dumps=drop_and_dump, loads=pickle.loads)
    store.put(0, "x", 10)
    assert store.evict_until(0) == 0
    assert not list(tmp_path.iterdir())
    assert len(store) == 0
    assert store.nbytes == (0, 0)


def test_a_value_read_while_it_is_written_is_the_same_object(tmp_path: Path) -> None:
    seen = []

    def read_and_dump(value: object) -> list[bytes]:
        seen.append(store.get(0))
        return dumps(value)

    store = SpillStore(str(tmp_path), None, dumps=read_and_dump, loads=pickle.loads)
    value = ["x"]
    store.put(0, value, 10)
    store.evict_until(0)
    assert seen[0] is value


def test_a_cut_off_file_is_an_error_and_not_a_wrong_value(store: SpillStore, tmp_path: Path) -> None:
    store.put(1, "x" * 1000, 200)
    (file,) = tmp_path.iterdir()
    file.unlink()
    with pytest.raises(FileNotFoundError):
        store.get(1)


def test_clear_forgets_all(store: SpillStore, tmp_path: Path) -> None:
    for number in range(5):
        store.put(number, number, 60)
    store.clear()
    assert len(store) == 0
    assert store.nbytes == (0, 0)
    assert not list(tmp_path.iterdir())


def test_many_threads_lose_nothing_and_the_books_balance(tmp_path: Path) -> None:
    store = SpillStore(str(tmp_path), 500, dumps=dumps, loads=pickle.loads)
    failures: list[BaseException] = []

    def work(base: int) -> None:
        try:
            for round_number in range(30):
                task = base * 1000 + round_number
                store.put(task, ("value", task), 50)
                for other in range(base * 1000, task + 1, 7):
                    assert store.get(other) == ("value", other)
            for round_number in range(0, 30, 2):
                store.drop(base * 1000 + round_number)
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(base,)) for base in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
    assert len(store) == 8 * 15
    in_memory = sum(50 for task in store if not store.is_on_disk(task))
    assert store.memory_bytes == in_memory <= 500
    assert store.disk_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_the_default_codec_is_that_of_results(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    store = SpillStore(str(tmp_path), 0)
    store.put(1, {"a": numpy.arange(100_000)}, 800_000)
    assert store.is_on_disk(1)
    back = store.get(1)
    assert (back["a"] == numpy.arange(100_000)).all()
