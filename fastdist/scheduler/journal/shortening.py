"""A process that makes a snapshot of a journal up to a log file: `python -m fastdist.scheduler.journal.shortening`.

It reads the files as a scheduler that goes on does, so that what a snapshot holds is what would be recovered, and the
scheduler itself spends no time on it. May import: the other modules of this folder, `scheduler`.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import msgpack

from fastdist.scheduler.journal.folder import JournalFolder, snapshot_name
from fastdist.scheduler.journal.records import FileHead, RecordKind, pack_file_head, pack_record
from fastdist.scheduler.journal.snapshots import records_of
from fastdist.system.parent_watch import watch_parent

logger = logging.getLogger("fastdist.scheduler")

DRAFT = "snapshot"
NICENESS = 5


def start_shortening(path: str, number: int) -> subprocess.Popen[bytes]:
    """Start the process for a folder; log files up to `number` are complete."""
    return subprocess.Popen(
        [sys.executable, "-m", "fastdist.scheduler.journal.shortening", path, str(number), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)},
    )


def write_snapshot(path: str, number: int) -> int:
    """Write the snapshot of all log files up to `number`; returns its size.

    Raises
    ------
    JournalError, OSError
        If the journal is damaged, or the snapshot cannot be written; the journal is as it was then.
    """
    from fastdist.scheduler.journal.journal import Journal
    from fastdist.scheduler.scheduler import Scheduler

    folder = JournalFolder(path, shared=True)
    scheduler = Scheduler(insecure=True)
    journal = Journal(scheduler, path)
    player, position = journal.replay(folder, number)
    file = folder.open(DRAFT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(file, "wb", buffering=1 << 20) as out:
        out.write(pack_file_head(FileHead(position.journal, number, 0)))
        count = 0
        for kind, pieces in records_of(scheduler.core, player):
            out.writelines(pack_record(kind, count, *pieces))
            count += 1
        for subject, change in journal.facts():
            out.writelines(pack_record(RecordKind.FACT, count, msgpack.packb([subject, change])))
            count += 1
        end = position.next_record.to_bytes(8, "little")
        out.writelines(pack_record(RecordKind.END, count, end))
        out.flush()
        os.fsync(out.fileno())
        size = out.tell()
    folder.rename(DRAFT, snapshot_name(number))
    folder.close()
    return size


def main(arguments: list[str]) -> int:
    """Make a snapshot; returns the exit code."""
    path, number, parent = arguments
    watch_parent(int(parent))
    os.nice(NICENESS)
    logging.basicConfig()
    try:
        write_snapshot(path, int(number))
    except OSError as error:
        logger.error("no snapshot of the journal in %s can be made: %s", path, error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
