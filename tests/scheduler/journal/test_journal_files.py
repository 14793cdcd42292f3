"""The files of a journal: what was written is read again, and whatever was changed since shows."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from fastdist.errors import JournalError
from fastdist.scheduler.journal.folder import JournalFolder
from fastdist.scheduler.journal.reader import JournalReader, Position
from fastdist.scheduler.journal.records import RecordKind
from fastdist.scheduler.journal.writer import JournalWriter

SAMPLE = [(RecordKind.EVENT, b"first"), (RecordKind.TASKS, b""), (RecordKind.FACT, b"third"), (RecordKind.EVENT, b"4")]
HEADER = 40


def padded(body: bytes) -> int:
    return len(body) + -len(body) % 8


def write(path: Path, records: list[tuple[RecordKind, bytes]]) -> None:
    folder = JournalFolder(path)
    writer = JournalWriter(folder, end_of(folder))
    for kind, body in records:
        writer.add(kind, body)
    writer.close()
    folder.close()


def end_of(folder: JournalFolder) -> Position:
    reader = JournalReader(folder)
    for _ in reader:
        pass
    return reader.position


def read(path: Path) -> tuple[list[tuple[RecordKind, bytes]], Position]:
    folder = JournalFolder(path)
    try:
        reader = JournalReader(folder)
        return [(kind, bytes(body)) for kind, body in reader], reader.position
    finally:
        folder.close()


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, SAMPLE)
    records, position = read(tmp_path)
    assert records == SAMPLE
    assert (position.next_record, position.torn, position.n_records) == (5, 0, 4)


def test_a_journal_is_continued_in_another_file(tmp_path: Path) -> None:
    write(tmp_path, SAMPLE[:2])
    write(tmp_path, SAMPLE[2:])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001.log", "00000002.log", "lock"]
    assert read(tmp_path)[0] == SAMPLE


def test_records_wait_until_they_are_flushed_in_one_write(tmp_path: Path) -> None:
    folder = JournalFolder(tmp_path)
    writer = JournalWriter(folder, Position())
    sizes: list[int] = []

    def count(file: int, data: memoryview) -> int:
        sizes.append(len(data))
        return os.write(file, data)

    writer._write = count
    for kind, body in SAMPLE:
        writer.add(kind, body)
    assert sizes == [] and not writer.safe
    writer.flush()
    writer.flush()
    assert len(sizes) == 1 and writer.safe
    writer.close()
    folder.close()


def test_a_journal_cut_at_any_byte_is_read_up_to_the_last_whole_record(tmp_path: Path) -> None:
    write(tmp_path, SAMPLE)
    path = tmp_path / "00000001.log"
    whole = path.read_bytes()
    ends = [HEADER]
    for _, body in SAMPLE:
        ends.append(ends[-1] + 24 + padded(body))
    assert ends[-1] == len(whole)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length < HEADER:
            with pytest.raises(JournalError, match="damaged"):
                read(tmp_path)
            continue
        records, position = read(tmp_path)
        count = sum(end <= length for end in ends) - 1
        assert records == SAMPLE[:count]
        assert position.torn == length - ends[count]


def test_a_file_that_was_cut_shows_once_another_one_follows(tmp_path: Path) -> None:
    write(tmp_path, SAMPLE)
    write(tmp_path, SAMPLE)
    path = tmp_path / "00000001.log"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(JournalError):
            read(tmp_path)


def test_each_bit_that_flips_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, SAMPLE)
    path = tmp_path / "00000001.log"
    whole = path.read_bytes()
    last = len(whole) - 24 - padded(SAMPLE[-1][1])
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        if bit // 8 < last:
            with pytest.raises(JournalError, match=r"damaged|no journal file"):
                read(tmp_path)
        else:
            # The last record might as well be the end of an interrupted write: it is cut, and that is told.
            records, position = read(tmp_path)
            assert records == SAMPLE[:-1]
            assert position.torn == len(whole) - last


def test_bits_that_flip_in_a_file_before_the_last_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, SAMPLE)
    write(tmp_path, SAMPLE[:1])
    path = tmp_path / "00000001.log"
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(JournalError):
            read(tmp_path)


def test_a_doubled_missing_or_swapped_record_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, [(RecordKind.EVENT, bytes([number]) * 8) for number in range(4)])
    path = tmp_path / "00000001.log"
    whole = path.read_bytes()
    head, parts = whole[:HEADER], [whole[HEADER + 32 * i : HEADER + 32 * (i + 1)] for i in range(4)]
    for order in ((0, 2, 3), (0, 0, 1, 2, 3), (1, 0, 2, 3), (0, 2, 1, 3)):
        path.write_bytes(head + b"".join(parts[i] for i in order))
        if order == (0, 0, 1, 2, 3):
            with pytest.raises(JournalError):
                read(tmp_path)
        else:
            try:
                records, position = read(tmp_path)
            except JournalError:
                continue
            assert position.torn > 0
            assert len(records) <= 2


def test_a_missing_file_is_noticed(tmp_path: Path) -> None:
    for _ in range(3):
        write(tmp_path, SAMPLE)
    (tmp_path / "00000002.log").unlink()
    with pytest.raises(JournalError, match=r"lacks the file 00000002\.log"):
        read(tmp_path)


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    folder = JournalFolder(tmp_path / "here")
    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
    with pytest.raises(JournalError, match="another scheduler"):
        JournalFolder(folder.path)
    folder.close()
    JournalFolder(folder.path).close()


def test_a_folder_into_which_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(JournalError, match="others may write"):
        JournalFolder(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(JournalError, match="belongs to user 65534"):
        JournalFolder(tmp_path)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OSError, match="link"):
        JournalFolder(tmp_path / "link")


class FullDisk:
    """A `write` that has room for some bytes only."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __call__(self, file: int, data: Any) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = os.write(file, data[: self.room])
        self.room -= count
        return count


def test_what_finds_no_room_on_the_disk_waits_and_leaves_no_half_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdist.scheduler.journal.writer.RETRY_SECONDS", 0.0)
    told: list[str] = []
    folder = JournalFolder(tmp_path)
    writer = JournalWriter(folder, Position(), on_trouble=told.append)
    disk = FullDisk(40)
    writer._write = disk
    for kind, body in SAMPLE:
        writer.add(kind, body)
        writer.flush()
    assert not writer.safe
    assert len(told) == 1 and "No space left" in told[0]
    size = os.path.getsize(tmp_path / "00000001.log")
    assert size == HEADER + 24 + padded(SAMPLE[0][1])
    disk.room = 1 << 20
    writer.flush()
    assert writer.safe and "can be written again" in told[1]
    writer.close()
    folder.close()
    assert read(tmp_path)[0] == SAMPLE


def test_a_journal_that_finds_no_room_for_too_long_is_given_up_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdist.scheduler.journal.writer.RETRY_SECONDS", 0.0)
    monkeypatch.setattr("fastdist.scheduler.journal.writer.MAX_WAITING_BYTES", 100)
    told: list[str] = []
    folder = JournalFolder(tmp_path)
    writer = JournalWriter(folder, Position(), on_trouble=told.append)
    writer._write = FullDisk(0)
    for _ in range(4):
        writer.add(RecordKind.EVENT, bytes(50))
        writer.flush()
    assert writer.abandoned and "goes on without" in told[-1]
    writer.close()
    folder.close()
    with pytest.raises(JournalError, match="incomplete"):
        JournalFolder(tmp_path)


def test_what_was_written_can_be_synced_by_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    synced = threading.Event()
    real = os.fdatasync

    def fdatasync(file: int) -> None:
        real(file)
        synced.set()

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    folder = JournalFolder(tmp_path)
    writer = JournalWriter(folder, Position(), sync_seconds=0.0)
    writer.add(RecordKind.EVENT, b"x")
    writer.flush()
    assert synced.wait(5)
    writer.rotate()
    writer.close()
    folder.close()
