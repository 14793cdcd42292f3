from array import array
from typing import Any

from fastdist._core.client.batch import TaskBatch
from fastdist.client.future import Future

def add_rows(
    batch: TaskBatch,
    key_bytes: list[bytes],
    args: list[tuple[Any, ...]],
    kwargs: list[dict[str, Any] | None],
    functions: array[int],
    options: array[int],
    flags: bytes | bytearray,
    offsets: array[int],
    needs: array[int],
    externals: list[int],
) -> tuple[dict[int, Future[Any]], array[int]]: ...
