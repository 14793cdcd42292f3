from enum import IntEnum
from typing import final

class TaskState(IntEnum):
    RELEASED = 0
    WAITING = 1
    READY = 2
    EXECUTING = 3
    MEMORY = 4
    ERRED = 5
    FETCH = 6
    IN_FLIGHT = 7

@final
class RecordPool: ...
