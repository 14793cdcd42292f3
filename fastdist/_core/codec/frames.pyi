"""Columnar frames: a bounded reader and a growing writer."""

from enum import IntEnum
from typing import final

class FrameKind(IntEnum):
    CONTROL = 1
    TASKS = 2
    RELEASE = 3
    STATE = 4
    RUN = 5
    FREE = 6
    RETRACT = 7
    DONE = 8

class DoneStatus(IntEnum):
    DONE_FINISHED = 0
    DONE_ERRED = 1
    DONE_RESCHEDULE = 2
    DONE_RETRACTED = 3
    DONE_RETRACT_REFUSED = 4
    DONE_REPLICA = 5
    DONE_MISSING = 6
    DONE_STARTED = 7
    DONE_WAITS = 8
    DONE_SECEDED = 9
    DONE_RETURNED = 10

class TaskStatus(IntEnum):
    STATUS_PENDING = 0
    STATUS_FINISHED = 1
    STATUS_ERRED = 2
    STATUS_CANCELLED = 3
    STATUS_LOST = 4

@final
class ColumnReader:
    @property
    def n_columns(self) -> int: ...
    @property
    def n_rows(self) -> int: ...
    def __init__(self, body: bytes | bytearray | memoryview, expected_columns: int) -> None: ...
    def column_bytes(self, column: int) -> bytes: ...

@final
class ColumnWriter:
    n_rows: int
    def __init__(self, n_columns: int) -> None: ...
    def put_bytes(self, column: int, data: bytes) -> None: ...
    def encode(self) -> bytes: ...
